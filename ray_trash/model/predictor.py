"""A checkpoint that answers: photos in, probabilities out.

Reads nothing but the checkpoint. Knows no HTTP and no data set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ray_trash.image.preprocess import fit_photo, load_photo
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.golden import probabilities_of, require_golden
from ray_trash.model.network import build_network
from ray_trash.model.precision import (
    DeviceChoice,
    PrecisionChoice,
    resolve_device,
    resolve_precision,
)
from ray_trash.model.tensors import fit_state


class Predictor:
    """A network ready to answer, made by `Predictor.load`.

    Attributes:
        document: What the checkpoint says about itself.
        device: Where the network is.
        dtype: What it computes in, `torch.float32` or `torch.bfloat16`.
    """

    def __init__(
        self,
        network: nn.Module,
        document: CheckpointDocument,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Take a network in evaluation mode on its device; `load` checks, this does not."""
        self.document = document
        self.device = device
        self.dtype = dtype
        self._network = network

    @classmethod
    def load(
        cls,
        uri: str | Path,
        *,
        device: DeviceChoice = "auto",
        precision: PrecisionChoice = "auto",
        n_threads: int | None = None,
    ) -> Predictor:
        """Open a checkpoint, build its network and check that it still answers as it did.

        The check runs in fp32, and once more in bf16 where that is what answers.

        Args:
            uri: The checkpoint's folder.
            device: Where to compute.
            precision: What to compute in.
            n_threads: CPU threads torch may use in this whole process; left out, as they are.

        Raises:
            CheckpointError: The checkpoint is missing, incomplete or damaged, or answers
                differently.
            ClusterError: This process has no such device, or the device no such precision.
            StorageError: The storage cannot be asked.
        """
        target = resolve_device(device)
        dtype, _ = resolve_precision(precision, target)
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        checkpoint = open_checkpoint(uri)
        document = checkpoint.document
        # Without memory of its own the network costs no random numbers, the caller's or its own
        # time.
        with torch.device("meta"):
            network = build_network(
                len(document.classes),
                hidden_layers=document.hidden_layers,
                dropout=document.dropout,
            )
        fit_state(network, checkpoint.weights(), where=checkpoint.uri, assign=True)
        network.to(device=target, memory_format=torch.channels_last).eval()
        for checked in dict.fromkeys((torch.float32, dtype)):
            require_golden(
                network,
                document.golden,
                document.preprocessing,
                views=document.views,
                dtype=checked,
                where=checkpoint.uri,
            )
        return cls(network, document, device=target, dtype=dtype)

    def prepare(self, encoded: bytes) -> NDArray[np.uint8]:
        """Turn one encoded photo into the square the network sees.

        Args:
            encoded: A file of any type the decode policy takes, as bytes.

        Returns:
            (S, S, 3) uint8.

        Raises:
            ImageError: It is no photo that can be used.
        """
        preprocessing = self.document.preprocessing
        return fit_photo(load_photo(encoded, preprocessing), preprocessing)

    def predict(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Say how likely each class is for each photo.

        Args:
            photos: (B, S, S, 3) uint8, as `prepare` gives them; B may be 0.

        Returns:
            (B, C) float32, columns in the order of `document.classes`; every row adds up to 1.
        """
        size_px = self.document.preprocessing.size_px
        if photos.dtype != np.uint8 or photos.shape[1:] != (size_px, size_px, 3):
            raise ValueError(f"photos: expected (B, {size_px}, {size_px}, 3) uint8, got {photos.shape} {photos.dtype}")
        if len(photos) == 0:
            return np.zeros((0, len(self.document.classes)), np.float32)
        batch = torch.from_numpy(np.ascontiguousarray(photos)).to(self.device)
        answer = probabilities_of(
            self._network,
            batch,
            self.document.preprocessing,
            views=self.document.views,
            dtype=self.dtype,
        )
        return answer.cpu().numpy()
