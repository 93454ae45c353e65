"""Photos through real executions of Ray Data: bits, order, errors, and what is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from numpy.typing import NDArray
from ray.data import DataContext
from ray.util.placement_group import placement_group, remove_placement_group

from ray_trash.cluster.blocks import Tasks, map_blocks
from ray_trash.cluster.shares import LEFT_TO_READING_CPUS, ReadingPlan, plan_reading
from ray_trash.config import AugmentConfig
from ray_trash.dataset import stream
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.stream import PhotoTable, StreamedPhotos, Transform
from ray_trash.image.preprocess import Preprocessing

pytestmark = pytest.mark.usefixtures("ray_cluster")

PREPROCESSING = Preprocessing(32, 32, "crop")
DEADLINE_S = 60.0


def test_executions_follow_one_another_to_the_bit_and_leave_nothing_when_they_are_not_wanted_any_more(
    tiny_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four executions of three pieces for what is asked for, in tasks of one and two.
    for name in ("FIRST_PIECE_PHOTOS", "PIECE_PHOTOS"):
        monkeypatch.setattr(stream, name, 3)
    plan = ReadingPlan(tasks=2, cpus=0.25, ahead_bytes=3 * 3 * 3 * 32**2)
    paths = tuple(sorted(str(path.relative_to(tiny_photos)) for path in tiny_photos.rglob("*.jpg")))
    keys = np.arange(len(paths), dtype=np.uint64) + 5
    table = PhotoTable(np.arange(len(paths)), paths, np.zeros(len(paths), np.int64), keys)
    first, second = (Transform(PREPROCESSING, AugmentConfig(), seed=1, epoch=epoch) for epoch in (0, 1))
    batches = np.array_split(np.random.default_rng(0).permutation(len(paths)), 5)
    folder = PhotoFolder.at(str(tiny_photos))
    with closing(StreamedPhotos(str(tiny_photos), plan)) as source:
        source.expect(table, batches, second)
        for transform in (first, second):
            streamed = source.batches(table, batches, transform)
            for positions, photos in zip(batches, streamed, strict=True):
                for position, photo in zip(positions, photos, strict=True):
                    stored = folder.load(paths[position], PREPROCESSING)
                    assert np.array_equal(photo, transform(stored, int(keys[position])))
        unfinished = source.batches(table, batches, first)
        next(unfinished)
        source.expect(table, batches, second)
        unfinished.close()
    deadline_s = time.monotonic() + DEADLINE_S
    while running := still_running():
        assert time.monotonic() < deadline_s, running
        time.sleep(0.1)


def test_the_rest_of_the_programs_ray_data_settings_stay_as_they_are(tiny_photos: Path) -> None:
    context = DataContext.get_current()
    before = (context.enable_progress_bars, context.execution_options.preserve_order, context.target_max_block_size)
    assert len(streamed(tiny_photos, ReadingPlan(tasks=2, cpus=0.25, ahead_bytes=0)))
    assert DataContext.get_current() is context
    after = (context.enable_progress_bars, context.execution_options.preserve_order, context.target_max_block_size)
    assert after == before


def test_photos_come_though_workers_hold_all_but_half_a_processor(
    tiny_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "NO_ANSWER_S", DEADLINE_S / 2)
    resources = ray.cluster_resources()
    held = resources["CPU"] - LEFT_TO_READING_CPUS
    workers = placement_group([{"CPU": held}])
    assert workers.wait(DEADLINE_S)
    try:
        assert len(streamed(tiny_photos, plan_reading(resources, workers=1, worker_cpus=held, on_gpus=False)))
    finally:
        remove_placement_group(workers)


def test_a_piece_is_there_as_soon_as_it_is_made_though_its_task_makes_more(tmp_path: Path) -> None:
    taken, schema = tmp_path / "taken", pa.schema([("number", pa.int64())])

    def make(_: pa.Table) -> Iterator[pa.Table]:
        for number in range(2):
            yield pa.table({"number": [number]}, schema=schema)
            # What is kept back until the task has ended is a failure, and no wait for ever.
            deadline_s = time.monotonic() + DEADLINE_S / 4
            while not taken.exists() and time.monotonic() < deadline_s:
                time.sleep(0.05)
            assert taken.exists()

    # A byte of output is a block.
    blocks = map_blocks([pa.table({"_": [0]})], Tasks(make, schema, cpus=0.25), what="numbers", block_bytes=1)
    with closing(blocks):
        assert next(blocks)["number"].to_pylist() == [0]
        taken.touch()
        assert [number for block in blocks for number in block["number"].to_pylist()] == [1]


def streamed(root: Path, plan: ReadingPlan) -> NDArray[np.uint8]:
    """Stream all photos as one batch."""
    paths = tuple(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    table = PhotoTable(np.arange(len(paths)), paths, np.zeros(len(paths), np.int64), np.arange(len(paths), dtype="u8"))
    with closing(StreamedPhotos(str(root), plan)) as source:
        (photos,) = source.batches(table, [table.rows], Transform(PREPROCESSING))
    assert len(photos) == len(paths)
    return photos


def still_running() -> list[str]:
    """Name the threads that read, and say which CPUs are not free."""
    threads = [thread.name for thread in threading.enumerate()]
    found = [name for name in threads if name.startswith(("the next photos", "StreamingExecutor"))]
    held = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0.0)
    return [*found, *([f"{held:g} CPUs"] if held else [])]
