"""Sketches of many photos as one Arrow table, by the row numbers of the catalog."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

SKETCH_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("pixels_key", pa.int64()),
        pa.field("points", pa.large_binary()),
        pa.field("descriptors", pa.large_binary()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("luma", pa.binary()),
        pa.field("thumbnail", pa.binary()),
        pa.field("corners", pa.binary()),
        pa.field("sharpness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("dark_share", pa.float32()),
        pa.field("bright_share", pa.float32()),
    ]
)
"""The fields of `image.sketch.Sketch`, `size` as two, arrays in C order; `pixels_key` is equal for photos whose pixels
are the same up to their places, and else different but for one chance in 2**64."""
_POINT_BYTES = 8


def sketch_columns(image: Image.Image, photo: NDArray[np.uint8]) -> dict[str, Any]:
    """Sketch one photo as the columns of `SKETCH_SCHEMA`, but for the row.

    `image` is the photo as it was decoded, mode RGB; `photo` (height, width, 3) what is kept of it.
    """
    # Only grouping needs OpenCV, so a process that merely reads photos does not import it.
    from ray_trash.image.sketch import sketch_photo

    values = vars(sketch_photo(photo))
    width_px, height_px = values["size"]
    arrays = {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    return {"pixels_key": _pixels_key(image), "width_px": width_px, "height_px": height_px, **arrays}


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of many photos, one after the other. Letters: N photos, P points in all.

    Attributes:
        points: Positions (P, 2), float32, x and y in pixels.
        descriptors: SIFT descriptors (P, 128), uint8.
        starts: Where each photo's points begin, (N + 1,), int64; the last is P.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many photos there are."""
        return len(self.starts) - 1

    @property
    def owners(self) -> NDArray[np.int32]:
        """The photo of each point, (P,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))

    def of(self, photo: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the points and descriptors of one photo."""
        rows = slice(self.starts[photo], self.starts[photo + 1])
        return self.points[rows], self.descriptors[rows]


def keypoints_of(sketches: pa.Table) -> Keypoints:
    """Take the keypoints out of a table of sketches, in its order."""
    points = [np.frombuffer(value, np.float32).reshape(-1, 2) for value in sketches["points"].to_pylist()]
    descriptors = [np.frombuffer(value, np.uint8).reshape(-1, 128) for value in sketches["descriptors"].to_pylist()]
    starts = np.concatenate([[0], np.cumsum([len(values) for values in points])]).astype(np.int64)
    if not points:
        return Keypoints(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.uint8), starts)
    return Keypoints(np.concatenate(points), np.concatenate(descriptors), starts)


def point_counts(sketches: pa.Table) -> NDArray[np.int64]:
    """Return how many keypoints each photo has, (N,)."""
    return np.array([len(value) // _POINT_BYTES for value in sketches["points"].to_pylist()], np.int64)


def bytes_matrix(sketches: pa.Table, name: str) -> NDArray[np.uint8]:
    """Return a column of equally long bytes as (photos, length), uint8."""
    values = sketches[name].to_pylist()
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)


def _pixels_key(image: Image.Image) -> int:
    # Counts of colours do not change when a photo is turned or mirrored, and Pillow counts them in C.
    counts = np.array([*sorted(image.size), *image.histogram()], np.int64)
    return int.from_bytes(hashlib.blake2b(counts.tobytes(), digest_size=8).digest(), "big", signed=True)
