"""What a pretrained network makes of photos, before its head: for the audit, which looks for doubtful labels by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from ray_trash.audit.run import PREPROCESSING
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.catalog import read_photo_bytes
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import DataError, ImageError
from ray_trash.image.preprocess import fit_photo, load_photo
from ray_trash.model.network import build_network, evaluation_mode, network_without_numbers
from ray_trash.model.tensors import plain_state, to_safetensors
from ray_trash.model.weights import load_pretrained
from ray_trash.storage import Storage

FEATURES = 2048
_BATCH = 32
_CPUS = 0.5
_FEATURES = pa.schema([("position", pa.int64()), ("features", pa.list_(pa.float32())), ("error", pa.string())])


def pretrained_features(weights: str, root: str) -> Callable[[pa.Table], NDArray[np.float32]]:
    """Load a network and return what gives its features; that needs a connection to Ray.

    Args:
        weights: `imagenet` or a file, as `model.weights` takes them.
        root: The data root.

    Returns:
        From catalog rows of accepted photos, N, to (N, 2048) float32.

    Raises:
        CheckpointError: There are no such weights, or they do not fit.
    """
    network = build_network(2)
    load_pretrained(network, weights)
    state = to_safetensors(plain_state(network.state_dict()))

    def features_of(photos: pa.Table) -> NDArray[np.float32]:
        return _extract(photos, root, state)

    return features_of


def _extract(photos: pa.Table, root: str, state: bytes) -> NDArray[np.float32]:
    table = photos.select(["path"]).append_column("position", pa.array(range(len(photos)), pa.int64()))
    blocks = [table.slice(start, _BATCH) for start in range(0, len(table), _BATCH)]
    workers = min(len(blocks), max(1, int(ray.cluster_resources().get("CPU", 1))))
    extracted = ray.data.from_arrow(blocks).map_batches(
        _Extractor,
        fn_constructor_args=(root, ray.put(state)),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=_CPUS,
    )
    extracted.context.enable_progress_bars = False
    extracted.context.print_on_execution_start = False
    rows = pa.concat_tables(list(extracted.iter_batches(batch_size=None, batch_format="pyarrow"))).sort_by("position")
    for error in rows["error"].drop_null().to_pylist():
        raise DataError(f"{error}; audit again")
    return np.stack(rows["features"].to_numpy(zero_copy_only=False)).astype(np.float32)


class _Extractor:
    """One worker's network."""

    def __init__(self, root: str, state: ray.ObjectRef[bytes]) -> None:
        import torch

        from ray_trash.model.tensors import fit_state, from_safetensors

        torch.set_num_threads(1)
        network = network_without_numbers(2)
        weights = from_safetensors(fetch(state, what="the network's weights"), "features")
        fit_state(network, weights, where="features", assign=True)
        network.fc = torch.nn.Identity()
        self._network: Any = network
        self._storage = Storage.at(root)

    def __call__(self, block: pa.Table) -> pa.Table:
        import torch

        from ray_trash.image.tensor import normalise

        positions = block["position"].to_pylist()
        try:
            photos = np.stack([self._prepare(path) for path in block["path"].to_pylist()])
        except DataError as error:
            nothing = [{"position": position, "error": str(error)} for position in positions]
            return pa.Table.from_pylist(nothing, schema=_FEATURES)
        with torch.inference_mode(), evaluation_mode(self._network):
            features = self._network(normalise(torch.from_numpy(photos), PREPROCESSING))
        return pa.table([positions, list(features.numpy()), [None] * len(positions)], schema=_FEATURES)

    def _prepare(self, path: str) -> NDArray[np.uint8]:
        try:
            encoded = read_photo_bytes(self._storage.filesystem, photo_location(self._storage.path, path))
            return fit_photo(load_photo(encoded, PREPROCESSING), PREPROCESSING)
        except ImageError as error:
            raise DataError(f"{path}: changed while it was audited ({error.code})") from error
