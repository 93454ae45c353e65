"""A checkpoint that answers: photos in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ray_trash.image.container.layout import Container
from ray_trash.image.preprocess import fit_photo, load_photo
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.model.document import CheckpointDocument, Golden
from ray_trash.model.engine import Engine, EngineChoice, EnginePlan, plan_engine, plan_int8_engine
from ray_trash.model.golden import TOLERANCE, answer_golden, require_golden
from ray_trash.model.kept_networks import KeptNetworks
from ray_trash.model.network import empty_network
from ray_trash.model.openvino_engine import OpenVinoEngine
from ray_trash.model.openvino_network import convert_network, from_ir
from ray_trash.model.precision import DeviceChoice, PrecisionChoice
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import fit_state
from ray_trash.model.torch_engine import TorchEngine


class Predictor:
    """A network ready to answer, made by `Predictor.load`."""

    def __init__(
        self, engine: Engine, document: CheckpointDocument, plan: EnginePlan, *, views: Literal[1, 8] | None = None
    ) -> None:
        """Take an engine as it is; `load` checks, this does not."""
        self.document = document
        self.plan = plan
        self.views = views or document.views
        """Symmetries of a photo that an answer is the mean over."""
        self._engine = engine

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | Checkpoint,
        *,
        engine: EngineChoice = "torch",
        device: DeviceChoice = "auto",
        precision: PrecisionChoice = "auto",
        n_threads: int | None = None,
        views: Literal[1, 8] | None = None,
    ) -> Predictor:
        """Open a checkpoint, build what answers and check that it still answers as it did.

        torch is checked in fp32 in any case, and what answers where it is another, so the first photo meets a warm
        engine.

        `n_threads` of the CPU compute, by default as many as torch has; torch's are those of this whole process.

        A checkpoint with an int8 network answers by it, and by nothing in its place, unless `precision` asks for the
        float one that it has too, with a temperature and thresholds of its own.

        `views` is 1 or 8, by default the checkpoint's own number. With another one temperature and thresholds stay
        those that were fitted to answers over its own; what answers is then compared with torch in fp32 over the same
        views, which has repeated the stored answer over the checkpoint's own.

        Raises:
            CheckpointError: The checkpoint is missing, incomplete or damaged, or answers differently.
            ClusterError: This process has no such device, or the device no such precision.
            ConfigError: The engine is not installed here, or computes on no GPU, or not this checkpoint's network.
            StorageError: The storage cannot be asked.
        """
        start = cls.check(
            checkpoint, engine=engine, device=device, precision=precision, n_threads=n_threads, views=views
        )
        return start()

    @classmethod
    def check(
        cls,
        checkpoint: str | Path | Checkpoint,
        *,
        engine: EngineChoice = "torch",
        device: DeviceChoice = "auto",
        precision: PrecisionChoice = "auto",
        n_threads: int | None = None,
        views: Literal[1, 8] | None = None,
        kept: KeptNetworks | None = None,
    ) -> Callable[[], Predictor]:
        """Do what `load` does up to where the engine starts its threads, which what is returned does.

        They have the priority of the thread that calls that; nearly all of the seconds are in here. Where another
        process has `kept` the converted network, it has checked torch in fp32 as well, and only what answers is checked
        here; without, this one keeps it.
        """
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = open_checkpoint(checkpoint)
        by_int8 = checkpoint.document.is_int8 and precision == "auto"
        plan = plan_int8_engine(engine, device, checkpoint.uri) if by_int8 else plan_engine(engine, device, precision)
        if n_threads is not None:
            torch.set_num_threads(n_threads)
        if by_int8:
            return cls._check_int8(checkpoint, plan, views)
        return cls._check_float(checkpoint, plan, views, kept if plan.kind == "openvino" else None)

    @classmethod
    def _check_float(
        cls, checkpoint: Checkpoint, plan: EnginePlan, views: Literal[1, 8] | None, kept: KeptNetworks | None
    ) -> Callable[[], Predictor]:
        document, threads = checkpoint.document.by_float(), torch.get_num_threads()
        golden, views = document.golden, views or document.views

        def over(engine: Engine, *, is_checked: bool = False) -> Predictor:
            predictor = cls(engine, document, plan, views=views)
            if not is_checked:
                predictor._require_golden(golden, checkpoint.uri)
            return predictor

        def by_openvino(converted: Any) -> Predictor:
            return over(OpenVinoEngine(converted, views=views, dtype=plan.dtype, n_threads=threads))

        # What answers over other views is compared with torch over them.
        if kept is not None and views == document.views and (found := kept.find(checkpoint)) is not None:
            return lambda: by_openvino(found)
        network = load_network(checkpoint).to(device=plan.device, memory_format=torch.channels_last)
        exact = EnginePlan("torch", plan.device, torch.float32, "to compare")
        # cuDNN takes TF32 for fp32 convolutions unless told otherwise, three digits instead of seven.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            reference = cls(_torch_engine(network, document, exact, document.views), document, exact)
            reference._require_golden(golden, checkpoint.uri)
            if views != document.views:
                asked = cls(_torch_engine(network, document, exact, views), document, exact, views=views)
                golden = answer_golden(asked.predict, golden, document.preprocessing)
        if plan.kind == "openvino":
            converted = convert_network(network, document.preprocessing)
            if kept is not None:
                converted = kept.keep(checkpoint, converted)
            return lambda: by_openvino(converted)
        # On a GPU fp32 is another computation here, with TF32 as the process has it; on a CPU it was just checked.
        is_checked = plan.name == exact.name and plan.device.type != "cuda"
        return lambda: over(_torch_engine(network, document, plan, views), is_checked=is_checked)

    @classmethod
    def _check_int8(
        cls, checkpoint: Checkpoint, plan: EnginePlan, views: Literal[1, 8] | None
    ) -> Callable[[], Predictor]:
        document, quantized = checkpoint.document, checkpoint.quantized
        assert quantized is not None
        network, threads = from_ir(quantized.ir, checkpoint.uri), torch.get_num_threads()

        def over(views: Literal[1, 8]) -> Predictor:
            engine = OpenVinoEngine(network, views=views, dtype=plan.dtype, n_threads=threads)
            return cls(engine, document, plan, views=views)

        def start() -> Predictor:
            # Over whatever else, it is the network that repeats the stored answer over the checkpoint's own views.
            predictor = over(document.views)
            predictor._require_golden(document.golden, checkpoint.uri)
            return predictor if views is None or views == document.views else over(views)

        return start

    def _require_golden(self, golden: Golden, where: str) -> None:
        require_golden(
            self.predict,
            golden,
            self.document.preprocessing,
            tolerance=TOLERANCE[self.plan.dtype],
            by=self.plan.name,
            where=where,
        )

    def prepare(self, encoded: bytes | Container) -> NDArray[np.uint8]:
        """Turn a file, measured or not, into the square the network sees, (S, S, 3) uint8, or raise `ImageError`."""
        preprocessing = self.document.preprocessing
        return fit_photo(load_photo(encoded, preprocessing), preprocessing)

    def predict(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Say how likely each class is for each photo, calibrated.

        From (B, S, S, 3) uint8, as `prepare` gives them, B may be 0, to (B, C) float32, in the order of
        `document.classes`; every row adds up to 1.
        """
        size_px = self.document.preprocessing.size_px
        if photos.dtype != np.uint8 or photos.shape[1:] != (size_px, size_px, 3):
            raise ValueError(f"photos: expected (B, {size_px}, {size_px}, 3) uint8, got {photos.shape} {photos.dtype}")
        if len(photos) == 0:
            return np.zeros((0, len(self.document.classes)), np.float32)
        return self.document.calibration.apply(self._engine.probabilities(photos))


def load_network(checkpoint: Checkpoint) -> ResNet:
    """Build a checkpoint's network on the CPU, in evaluation mode; weights of another one are a `CheckpointError`."""
    document = checkpoint.document
    network = empty_network(
        len(document.classes),
        architecture=document.network,
        hidden_layers=document.hidden_layers,
        dropout=document.dropout,
    )
    fit_state(network, checkpoint.weights(), where=checkpoint.uri, assign=True)
    return network.eval()


def _torch_engine(network: nn.Module, document: CheckpointDocument, plan: EnginePlan, views: int) -> TorchEngine:
    return TorchEngine(network, document.preprocessing, views=views, device=plan.device, dtype=plan.dtype)
