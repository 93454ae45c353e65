"""A few seconds of a run's own work, timed: photos read and decoded, training steps, validation, a checkpoint's bytes.

It is the code that trains, on a few of its photos, in this process; nothing is written. See
`Bench` for what a variant costs.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from ray_trash.cluster.here import Done
from ray_trash.cluster.shares import usable_cpus
from ray_trash.config import Config
from ray_trash.dataset.catalog import accepted_photos, require_usable_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.scan import look_at_block
from ray_trash.dataset.stream import MemoryPhotos
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.precision import resolve_device, resolve_precision
from ray_trash.plan.bench import Bench, Pace, Variant
from ray_trash.train.start import build_source
from ray_trash.train.worker import Worker

SAMPLE_PHOTOS = 48
"""Photos that are read and decoded, spread over the listing: half a second of work."""
STEPS_S = 4.0
"""How long steps are timed, of all variants together; the first of each sets things up and does not count."""
LEAST_STEPS_S = 1.0
"""Of one variant, and at least so many steps."""


@dataclass(frozen=True)
class Measured:
    """What was timed.

    Attributes:
        look_s: To read, hash, decode and sketch one photo, in one process.
        stored_bytes: Of one photo once it is decoded.
        checkpoint_bytes: Of one checkpoint; the largest of the variants'.
        checkpoint_s: To compute one, without the disk.
        memory_bytes: Most that this process held.
        computes: In what, and why, in words.
        took_s: All of it.
    """

    paces: tuple[Pace, ...]
    look_s: float
    stored_bytes: float
    checkpoint_bytes: int
    checkpoint_s: float
    memory_bytes: int
    n_threads: int
    computes: str
    took_s: float


def measure(
    variants: Sequence[Variant],
    classes: tuple[str, ...],
    root: str,
    sample: pa.Table,
    *,
    device: str,
    trainings_per_machine: int,
) -> Measured:
    """Time some variants on photos of `sample_of`, as one of so many trainings that share a machine.

    Raises:
        DataError: None of the photos can be used.
        ClusterError: This process has no such device, or the device no such precision.
    """
    started = time.perf_counter()
    config = variants[0].config
    on = resolve_device("cuda" if device == "cuda" else "cpu")
    n_threads, threads_before = max(1, usable_cpus() // trainings_per_machine), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        look_s, catalog, decoded = _look(config, root, sample)
        dtype, why = resolve_precision(config.train.precision, on)
        worker = Worker(0, 1, on, dtype)
        source = build_source(root, [Done(decoded)], on)
        assert isinstance(source, MemoryPhotos)
        steps_s = max(LEAST_STEPS_S, STEPS_S / len(variants))
        paces, checkpoints = [], []
        for variant in variants:
            bench = Bench(variant, classes, root, catalog, source, worker)
            paces.append(bench.pace(steps_s))
            checkpoints.append(bench.checkpoint())
    finally:
        torch.set_num_threads(threads_before)
    pixels = [len(pixels.as_buffer()) for pixels in decoded.column("pixels")]
    return Measured(
        tuple(paces),
        look_s=look_s,
        stored_bytes=sum(pixels) / len(pixels),
        checkpoint_bytes=max(n_bytes for n_bytes, _ in checkpoints),
        checkpoint_s=max(seconds for _, seconds in checkpoints),
        memory_bytes=_peak_bytes(),
        n_threads=n_threads,
        computes=f"{str(dtype).removeprefix('torch.')} ({why})",
        took_s=time.perf_counter() - started,
    )


def sample_of(files: pa.Table) -> pa.Table:
    """Choose the files of a listing to measure with, spread over all."""
    chosen = files.take(np.arange(0, len(files), -(-len(files) // SAMPLE_PHOTOS)))
    return chosen.add_column(0, "row", pa.array(np.arange(len(chosen))))


def _look(config: Config, root: str, sample: pa.Table) -> tuple[float, pa.Table, pa.Table]:
    folder, preprocessing = PhotoFolder.at(root), Preprocessing.from_config(config.image)
    # Decoders and filters are loaded by the first photo.
    look_at_block(sample.slice(0, 1), folder, preprocessing, True, True)
    started = time.perf_counter()
    looked = look_at_block(sample, folder, preprocessing, True, True)
    look_s = (time.perf_counter() - started) / len(sample)
    require_usable_photos(looked.catalog)
    return look_s, accepted_photos(looked.catalog), looked.pixels


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
