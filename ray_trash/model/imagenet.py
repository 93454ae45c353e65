"""torchvision's ImageNet weights: downloaded once, checked every time.

A folder in, the path of the file out. Knows nothing of what the file holds.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import torch

from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.resnet import ResNet50_Weights

_LOG = logging.getLogger(__name__)
_SOCKET_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_OFFLINE_HINT = "or set model.weights to a file of weights"


def imagenet_file(*, cache_dir: Path | None = None, url: str | None = None) -> Path:
    """Return the file of ImageNet weights, downloading it where it is not there.

    Args:
        cache_dir: Where it is kept; left out, torch.hub's folder, which follows `TORCH_HOME`.
        url: Where it comes from; left out, torchvision's `ResNet50_Weights.IMAGENET1K_V2`. Its
            name ends in the first digits of the SHA-256, as torch.hub's names do.

    Raises:
        CheckpointError: It cannot be downloaded, or what was downloaded or kept is not what the
            name says.
        StorageError: The folder cannot be written.

    Source: https://docs.pytorch.org/docs/stable/hub.html#torch.hub.load_state_dict_from_url for
    the folder and the name.
    """
    source: str = url or ResNet50_Weights.IMAGENET1K_V2.url
    folder = cache_dir or Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(urlsplit(source).path).name
    if target.exists():
        _require_digest(target, target)
        return target
    _LOG.info("downloading %s to %s", source, target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.")
    except OSError as error:
        raise StorageError(f"{folder}: cannot write the ImageNet weights: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in _download(source, target):
                _write(file.fileno(), chunk, target)
        _require_digest(temporary, target)
        temporary.chmod(0o644)  # mkstemp makes 0600, others share the cache
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _download(url: str, target: Path) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=_SOCKET_TIMEOUT_S) as response:
            while chunk := response.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise CheckpointError(
            f"model.weights=imagenet: cannot download {url} ({_cause(error)}); without a network, put that "
            f"file at {target}, {_OFFLINE_HINT}"
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()  # it is the open response as well
        return f"HTTP status {error.code}"
    return str(error.reason if isinstance(error, URLError) else error)


def _write(descriptor: int, chunk: bytes, target: Path) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise StorageError(f"{target}: cannot write the ImageNet weights: {error.strerror}") from error


def _require_digest(path: Path, target: Path) -> None:
    match = re.search(r"-([0-9a-f]{8,64})\.", target.name)
    if match is None:
        raise CheckpointError(f"{target.name}: the name carries no SHA-256 digits, so it cannot be checked")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest.startswith(match[1]):
        return
    size = path.stat().st_size
    if path == target:
        raise CheckpointError(
            f"{path}: damaged, {size:,} bytes whose SHA-256 does not start with {match[1]}; delete "
            "the file "
            f"to have it downloaded again, {_OFFLINE_HINT}"
        )
    raise CheckpointError(
        f"model.weights=imagenet: the download of {target.name} came damaged, {size:,} bytes whose "
        "SHA-256 "
        f"does not start with {match[1]}; try again, put the file at {target}, {_OFFLINE_HINT}"
    )
