"""torchvision's ImageNet weights: downloaded once, checked every time."""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ray_trash.download import DEFAULT_PATIENCE, Patience, download
from ray_trash.errors import CheckpointError, DataError, StorageError
from ray_trash.model.resnet import get_model_weights
from ray_trash.terminal.bar import byte_bar
from ray_trash.terminal.say import Terminal

_LOG = logging.getLogger(__name__)
_MAX_BYTES = 1 << 30
"""Ten times torchvision's file."""
_OFFLINE_HINT = "or set model.weights to a file of weights"


def has_imagenet_file() -> bool:
    """Say whether the weights of ResNet50 are there without a download."""
    name = Path(urlsplit(imagenet_url("resnet50")).path).name
    return (Path(torch.hub.get_dir()) / "checkpoints" / name).exists()


def imagenet_url(architecture: str) -> str:
    """Say where torchvision has its best weights of an architecture."""
    url: str = get_model_weights(architecture).DEFAULT.url
    return url


def imagenet_file(
    architecture: str = "resnet50",
    *,
    cache_dir: Path | None = None,
    url: str | None = None,
    patience: Patience = DEFAULT_PATIENCE,
    terminal: Terminal | None = None,
) -> Path:
    """Return the file of ImageNet weights, downloading it where it is not there.

    It is kept in `cache_dir`, by default torch.hub's folder, which follows `TORCH_HOME`; the default URL is
    torchvision's. A name ends in the first digits of the SHA-256:
    https://docs.pytorch.org/docs/stable/hub.html#torch.hub.load_state_dict_from_url.

    Raises:
        CheckpointError: It cannot be downloaded, or what was downloaded or kept is not what the name says.
        StorageError: The folder cannot be written.
    """
    source = url or imagenet_url(architecture)
    folder = cache_dir or Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(urlsplit(source).path).name
    digits = re.search(r"-([0-9a-f]{8,64})\.", target.name)
    if digits is None:
        raise CheckpointError(f"{target.name}: the name carries no SHA-256 digits, so it cannot be checked")
    if target.exists():
        if wrong := _fault(target, digits[1]):
            raise CheckpointError(
                f"{target}: damaged, {wrong}; delete the file to have it downloaded again, {_OFFLINE_HINT}"
            )
        return target
    _LOG.info("downloading %s to %s", source, target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{target.name}.") as own:
            part = Path(own) / target.name
            with byte_bar(terminal or Terminal.silent(), target.name) as on_bytes:
                download(source, part, max_bytes=_MAX_BYTES, on_bytes=on_bytes, patience=patience)
            if wrong := _fault(part, digits[1]):
                raise CheckpointError(
                    f"model.weights=imagenet: the download of {target.name} came damaged, {wrong}; try again, "
                    f"put the file at {target}, {_OFFLINE_HINT}"
                )
            part.replace(target)
    except DataError as error:
        raise CheckpointError(
            f"model.weights=imagenet: cannot download {error}; without a network, put that file at {target}, "
            f"{_OFFLINE_HINT}"
        ) from error
    except OSError as error:
        raise StorageError(f"{folder}: cannot write the ImageNet weights: {error.strerror}") from error
    return target


def _fault(path: Path, digits: str) -> str:
    """Say what is wrong with the file, or nothing."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest().startswith(digits):
            return ""
    return f"{path.stat().st_size:,} bytes whose SHA-256 does not start with {digits}"
