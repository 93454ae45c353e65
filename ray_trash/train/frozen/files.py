"""Files of the frozen stages' activations, on this machine's disk, within a budget of bytes.

```
<folder>/<key>/train-v003-c00012.bin    photos 12*CHUNK.. of training, view 3
<folder>/<key>/val-v000-c00000.bin      validation has one view
```

The key is a digest of everything the numbers depend on, so what has changed is never read, only left to be thrown
away. A file appears under its name once it is whole, and one of another size is not taken. Files are raw
activations, channels last, mapped into memory where they are read.
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
class ActivationSet:
    """The activations of one side of the split: n photos in some views, each (H, W, C) or (C,), bf16 or float32."""

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


def key_of(depends_on: Mapping[str, Any]) -> str:
    """Name a set of activations after JSON values that tell everything they depend on."""
    text = json.dumps({"layout": _LAYOUT, **depends_on}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


class ActivationFiles:
    """The activations of both sides in `folder`: what is there, what is missing, reading and writing."""

    def __init__(self, folder: Path, key: str, sets: Iterable[ActivationSet]) -> None:
        """Name the files; nothing is touched."""
        self.folder = folder / key
        self.sets = {of_side.side: of_side for of_side in sets}
        self._maps: dict[tuple[Side, int, int], NDArray[np.int16]] = {}

    @property
    def n_bytes(self) -> int:
        """Bytes of both sides."""
        return sum(of_side.n_bytes for of_side in self.sets.values())

    def missing(self, side: Side) -> list[tuple[int, int]]:
        """List the (view, chunk) whose file is not there, or not whole."""
        sizes = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries}
        wanted = self.sets[side]
        return [
            (view, chunk)
            for view, chunk in wanted.chunks()
            if sizes.get(_name(side, view, chunk)) != len(wanted.positions(chunk)) * wanted.bytes_per_photo
        ]

    def write(self, side: Side, view: int, chunk: int, activations: Tensor) -> None:
        """Keep the activations of a chunk, (B, C, H, W) or (B, C), on any device, rounded to the format of the side."""
        described = self.sets[side]
        values = activations.permute(0, 2, 3, 1) if activations.ndim == 4 else activations
        data = values.to("cpu", described.dtype).contiguous().view(torch.uint8).numpy()
        assert data.nbytes == len(described.positions(chunk)) * described.bytes_per_photo, (data.shape, described)
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
                f"{self.folder}: cannot write activations of the frozen stages: {error.strerror}; free disk space, "
                "set train.cache_frozen_dir to another disk, or set train.cache_frozen=off"
            ) from error

    def open(self) -> None:
        """Map every file, so that whoever makes room on the disk takes nothing away from this process."""
        for side, described in self.sets.items():
            for view, chunk in described.chunks():
                path = self.folder / _name(side, view, chunk)
                shape = (len(described.positions(chunk)), described.bytes_per_photo // 2)
                try:
                    mapped = np.memmap(path, dtype=np.int16, mode="r", shape=shape)
                except (OSError, ValueError) as error:
                    raise StorageError(
                        f"{path}: went away while it was needed: other runs share the folder and its budget; raise "
                        "train.cache_frozen_gib or set train.cache_frozen=off"
                    ) from error
                self._maps[side, view, chunk] = mapped
        with contextlib.suppress(OSError):  # a time that cannot be set only makes these the first to be removed
            os.utime(self.folder)

    def read(self, side: Side, view: int, positions: NDArray[np.int64]) -> Tensor:
        """Gather photos in one view, as (B, C, H, W) in `channels_last` memory format, or (B, C)."""
        described = self.sets[side]
        gathered = np.empty((len(positions), described.bytes_per_photo // 2), dtype=np.int16)
        for i, position in enumerate(positions):
            gathered[i] = self._maps[side, view, int(position) // CHUNK][int(position) % CHUNK]
        values = torch.from_numpy(gathered).view(described.dtype).reshape(len(positions), *described.shape)
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values


def _name(side: Side, view: int, chunk: int) -> str:
    return f"{side}-v{view:03d}-c{chunk:05d}.bin"


def make_room(folder: Path, keep: frozenset[str], *, budget_bytes: int, needed_bytes: int) -> list[str]:
    """Remove the sets that were used least recently until what is needed fits the budget; nothing else is touched.

    The keys in `keep` stay, and take `needed_bytes` once they are whole. Returns the keys that were removed.
    """
    others = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        # The folder is the user's to name, and may hold other things of theirs.
        others = sorted(
            (entry.stat().st_mtime, entry.name)
            for entry in entries
            if _SET_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False) and entry.name not in keep
        )
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
