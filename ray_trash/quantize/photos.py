"""The photos that an int8 network is made and judged with, on the sides of the checkpoint's own split.

Letters in shapes: B photos, N photos of a side, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.shares import usable_cpus
from ray_trash.dataset.ahead import prepared_ahead
from ray_trash.dataset.catalog import fingerprint, require_usable_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.scan import build_catalog
from ray_trash.evaluate.sides import list_of_classes, photos_on, put_on_sides, split_rule, warnings_of
from ray_trash.image.preprocess import Preprocessing, fit_photo
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.terminal.say import Terminal

RANGE_PHOTOS = 300
"""Training photos on which the range of each layer is measured. Source: the default of NNCF."""
BATCH_PHOTOS = 32
_INSTEAD = "name the photos that the checkpoint was trained and validated with"


@dataclass(frozen=True)
class SidedPhotos:
    """Photos of two sides; `train` are `RANGE_PHOTOS` at most, `labels` (N,) the class numbers of `val`."""

    folder: PhotoFolder
    preprocessing: Preprocessing
    train: pa.Table
    val: pa.Table
    labels: NDArray[np.int64]
    warnings: Sequence[str] = ()

    def squares(self, photos: pa.Table) -> Iterator[NDArray[np.uint8]]:
        """Read and decode photos of a side in batches (B, S, S, 3), ahead of whoever asks.

        One that is not what it was when it was listed is a `DataError`.
        """
        paths, digests = photos["path"].to_pylist(), photos["sha256"].to_pylist()

        def prepare(places: NDArray[np.int64]) -> NDArray[np.uint8]:
            stored = (self.folder.load(paths[n], self.preprocessing, sha256=digests[n]) for n in places)
            return np.stack([fit_photo(photo, self.preprocessing) for photo in stored])

        numbers = np.arange(len(photos))
        batches = [numbers[start : start + BATCH_PHOTOS] for start in range(0, len(numbers), BATCH_PHOTOS)]
        yield from prepared_ahead(prepare, batches, n_threads=usable_cpus())


def find_photos(
    checkpoint: Checkpoint, data_root: str, *, labels_uri: str | None = None, terminal: Terminal
) -> SidedPhotos:
    """Find the photos of both sides below a folder; needs a connection to Ray.

    Raises:
        CheckpointError: The checkpoint's split rule cannot be read.
        DataError: The data root cannot be used, or a side has no photo.
    """
    document = checkpoint.document
    rule = split_rule(document, checkpoint.uri, instead="train again, then quantize that checkpoint")
    listing = list_of_classes(document, data_root, labels_uri=labels_uri, terminal=terminal)
    catalog = build_catalog(listing, document.preprocessing, terminal=terminal).catalog
    require_usable_photos(catalog)
    sided, warnings = put_on_sides(catalog, rule, listing.root, instead=_INSTEAD)
    train = photos_on("train", sided, rule, listing.root, instead=_INSTEAD)
    val = photos_on("val", sided, rule, listing.root, instead=_INSTEAD)
    return SidedPhotos(
        folder=PhotoFolder.at(listing.root),
        preprocessing=document.preprocessing,
        # As good as random, the same for ever, and of every class.
        train=train.sort_by("sha256").slice(0, RANGE_PHOTOS),
        val=val,
        labels=np.array([document.classes.index(label) for label in val["label"].to_pylist()]),
        warnings=(*listing.warnings, *warnings, *warnings_of("val", val, fingerprint(catalog), document)),
    )
