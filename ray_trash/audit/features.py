"""What a pretrained network makes of photos, before its head: for the audit, which looks for doubtful labels by it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ray_trash.audit.learning import Features
from ray_trash.audit.run import PREPROCESSING
from ray_trash.cluster.blocks import Actors, map_blocks
from ray_trash.cluster.shares import FEATURE_WORKER_CPUS
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.read import PhotoFolder
from ray_trash.image.preprocess import fit_photo
from ray_trash.model.network import build_network, empty_network, evaluation_mode
from ray_trash.model.tensors import plain_state, to_safetensors
from ray_trash.model.weights import load_pretrained
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

_BATCH_PHOTOS = 32
_FEATURES = pa.schema([("features", pa.list_(pa.float32()))])


def pretrained_features(weights: str, root: str, *, terminal: Terminal | None = None) -> Features:
    """Load a network and return what gives its features; that needs a connection to Ray.

    Args:
        weights: `imagenet` or a file, as `model.weights` takes them.
        root: The data root.
        terminal: Is told how far this has come.

    Returns:
        From catalog rows of accepted photos, N, at least one, to (N, 2048) float32. It raises a `DataError` where a
        photo has changed.

    Raises:
        CheckpointError: There are no such weights, or they do not fit.
    """
    network = build_network(2)
    load_pretrained(network, weights, terminal=terminal)
    state = to_safetensors(plain_state(network.state_dict()))
    return partial(_extract, folder=PhotoFolder.at(root), state=state, terminal=terminal or Terminal.silent())


def _extract(photos: pa.Table, *, folder: PhotoFolder, state: bytes, terminal: Terminal) -> NDArray[np.float32]:
    paths = photos.select(["path"])
    blocks = [paths.slice(start, _BATCH_PHOTOS) for start in range(0, len(paths), _BATCH_PHOTOS)]
    workers = min(len(blocks), max(1, int(ray.cluster_resources().get("CPU", 1))))
    load = partial(_load_extractor, folder, ray.put(state))
    extract = Actors(load, _FEATURES, cpus=FEATURE_WORKER_CPUS, size=workers)
    extracted = []
    with Bar(terminal, total=len(photos), doing="describing") as bar:
        for block in map_blocks(blocks, extract, what="the features of the photos"):
            extracted.append(block)
            bar.advance(len(block))
    features = pa.concat_tables(extracted)["features"].to_numpy(zero_copy_only=False)
    return np.stack(features).astype(np.float32)


def _load_extractor(folder: PhotoFolder, state: ray.ObjectRef[bytes]) -> Callable[[pa.Table], pa.Table]:
    import torch

    from ray_trash.image.tensor import normalise
    from ray_trash.model.tensors import fit_state, from_safetensors

    torch.set_num_threads(1)
    network = empty_network(2)
    weights = from_safetensors(fetch(state, what="the network's weights"), "features")
    fit_state(network, weights, where="features", assign=True)
    network.fc = torch.nn.Identity()

    def extract(block: pa.Table) -> pa.Table:
        photos = [fit_photo(folder.load(path, PREPROCESSING), PREPROCESSING) for path in block["path"].to_pylist()]
        with torch.inference_mode(), evaluation_mode(network):
            features = network(normalise(torch.from_numpy(np.stack(photos)), PREPROCESSING))
        return pa.table([list(features.numpy())], schema=_FEATURES)

    return extract
