"""Files of what the frozen stages make of photos, on this machine's disk, within a budget of bytes.

```
<folder>/<key>/train-v003-c00012.bin    photos 12*CHUNK.. of training, view 3
<folder>/<key>/val-v000-c00000.bin      validation has one view
```

The key is a digest of everything the numbers depend on, so what has changed is never read, only left to be thrown
away. A file appears under its name once it is whole, and one of another size is not taken. Files are raw
activations, channels last, mapped into memory where they are read. Knows nothing of networks and of Ray.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_trash.errors import StorageError

CHUNK = 32
"""Photos in a file: also one forward pass where it is written."""
_LAYOUT = 1
"""Raised when the meaning of a file changes."""
_KEY_DIGITS = 24
_SET_NAME = re.compile(rf"[0-9a-f]{{{_KEY_DIGITS}}}")

Side = Literal["train", "val"]


@dataclass(frozen=True)
class Part:
    """The activations of one side of the split.

    Attributes:
        side: Which side.
        n: Photos.
        views: Views of each photo.
        shape: Of one photo in one view, channels last.
        dtype: `torch.bfloat16` or `torch.float32`.
    """

    side: Side
    n: int
    views: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes_per_photo(self) -> int:
        """Bytes of one photo in one view."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def n_bytes(self) -> int:
        """Bytes of all photos in all views."""
        return self.n * self.views * self.bytes_per_photo

    def chunks(self) -> list[tuple[int, int]]:
        """List every (view, chunk), view by view."""
        return [(view, chunk) for view in range(self.views) for chunk in range(-(-self.n // CHUNK))]

    def positions(self, chunk: int) -> NDArray[np.int64]:
        """Return the photos of a chunk, as positions in their table."""
        return np.arange(chunk * CHUNK, min(self.n, (chunk + 1) * CHUNK))


def default_folder() -> Path:
    """Return where activations are kept if the config does not say."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ray-trash" / "activations"


def key_of(depends_on: Mapping[str, Any]) -> str:
    """Name a set of activations after JSON values that tell everything they depend on."""
    text = json.dumps({"layout": _LAYOUT, **depends_on}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


class ActivationFiles:
    """One set of activations: what is there, what is missing, reading and writing."""

    def __init__(self, folder: Path, key: str, parts: Iterable[Part]) -> None:
        """Name the set; nothing is touched."""
        self.folder = folder / key
        self._parts = {part.side: part for part in parts}
        self._maps: dict[tuple[Side, int, int], NDArray[np.int16]] = {}

    def part(self, side: Side) -> Part:
        """Return the description of one side."""
        return self._parts[side]

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole set."""
        return sum(part.n_bytes for part in self._parts.values())

    def missing(self, side: Side) -> list[tuple[int, int]]:
        """List the (view, chunk) whose file is not there, or not whole."""
        sizes = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        part = self._parts[side]
        return [
            (view, chunk)
            for view, chunk in part.chunks()
            if sizes.get(_name(side, view, chunk)) != len(part.positions(chunk)) * part.bytes_per_photo
        ]

    def write(self, side: Side, view: int, chunk: int, activations: Tensor) -> None:
        """Keep the activations of a chunk.

        Args:
            side: Of the split.
            view: The view.
            chunk: The chunk.
            activations: (B, C, H, W) or (B, C), on any device; rounded to the part's format.

        Raises:
            StorageError: The disk is full, read-only or out of reach.
        """
        part = self._parts[side]
        values = activations.permute(0, 2, 3, 1) if activations.ndim == 4 else activations
        data = values.to("cpu", part.dtype).contiguous().view(torch.uint8).numpy()
        assert data.nbytes == len(part.positions(chunk)) * part.bytes_per_photo, (data.shape, part)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=self.folder, prefix=".partial-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data.data)
                os.replace(partial, self.folder / _name(side, view, chunk))
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageError(
                f"{self.folder}: cannot write what the frozen stages make of the photos: {error.strerror}; free disk "
                "space, set train.cache_frozen_dir to another disk, or set train.cache_frozen=off"
            ) from error

    def open(self) -> None:
        """Map every file, so that whoever makes room on the disk takes nothing away from this process.

        Raises:
            StorageError: A file is missing.
        """
        for part in self._parts.values():
            for view, chunk in part.chunks():
                path = self.folder / _name(part.side, view, chunk)
                shape = (len(part.positions(chunk)), part.bytes_per_photo // 2)
                try:
                    mapped = np.memmap(path, dtype=np.int16, mode="r", shape=shape)
                except (OSError, ValueError) as error:
                    raise StorageError(
                        f"{path}: went away while it was needed: other runs share the folder and its budget; raise "
                        "train.cache_frozen_gib or set train.cache_frozen=off"
                    ) from error
                self._maps[part.side, view, chunk] = mapped
        os.utime(self.folder)

    def read(self, side: Side, view: int, positions: NDArray[np.int64]) -> Tensor:
        """Gather photos in one view, as (B, C, H, W) in `channels_last` memory format, or (B, C)."""
        part = self._parts[side]
        gathered = np.empty((len(positions), part.bytes_per_photo // 2), dtype=np.int16)
        for i, position in enumerate(positions):
            gathered[i] = self._maps[side, view, int(position) // CHUNK][int(position) % CHUNK]
        values = torch.from_numpy(gathered).view(part.dtype).reshape(len(positions), *part.shape)
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _name(side: Side, view: int, chunk: int) -> str:
    return f"{side}-v{view:03d}-c{chunk:05d}.bin"


def make_room(folder: Path, keep: frozenset[str], *, budget_bytes: int, needed_bytes: int) -> list[str]:
    """Remove the sets that were used least recently until what is needed fits the budget; nothing else is touched.

    Args:
        folder: Of all sets.
        keep: Keys that stay.
        budget_bytes: For all sets together.
        needed_bytes: What the sets in `keep` take once they are whole.

    Returns:
        The keys that were removed.
    """
    others = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        # The folder is the user's to name, and may hold other things of theirs.
        others = [
            (entry.stat().st_mtime, entry.name)
            for entry in entries
            if _SET_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and entry.name not in keep
        ]
    others.sort()
    sizes = {name: _size_of(folder / name) for _, name in others}
    removed = []
    for _, name in others:
        if sum(sizes.values()) + needed_bytes <= budget_bytes:
            break
        shutil.rmtree(folder / name, ignore_errors=True)
        sizes.pop(name)
        removed.append(name)
    return removed


def _size_of(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except FileNotFoundError:
        return 0
