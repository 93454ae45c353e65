"""Streamed photos, with what Ray Data does done in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_trash.cluster.blocks import Tasks
from ray_trash.cluster.shares import ReadingPlan
from ray_trash.config import AugmentConfig
from ray_trash.dataset import stream
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.stream import Batches, MemoryPhotos, PhotoTable, StreamedPhotos, Transform
from ray_trash.errors import ClusterError, DataError
from ray_trash.image.preprocess import Preprocessing
from tests.photos import make_photos

PREPROCESSING = Preprocessing(24, 32, "crop")
PLAN = ReadingPlan(tasks=1, cpus=1.0, ahead_bytes=1 << 20)
SOON_S = 30.0


class Executions:
    """What Ray Data is asked for, and who waits for it."""

    def __init__(self) -> None:
        self.sizes = list[int]()
        self.pieces = list[list[int]]()
        self.n_made = 0
        self.changed = threading.Condition()

    def map_blocks(
        self,
        blocks: Sequence[pa.Table],
        step: Tasks,
        *,
        what: str,
        in_order: bool,
        block_bytes: int,
        holds_back: bool,
        no_answer_s: float | None,
    ) -> Generator[pa.Table]:
        """Give what tasks make side by side, the last one always a little ahead of the others."""
        assert not in_order
        assert not holds_back
        with self.changed:
            self.sizes.append(sum(map(len, blocks)))
            photos = Counter(number for block in blocks for number in block["number"].to_pylist())
            self.pieces.append([photos[number] for number in sorted(photos)])
            self.changed.notify_all()
        making = [iter(step.function(block)) for block in reversed(blocks)]
        for turn in zip_longest(*making):
            for made in filter(None, turn):
                with self.changed:
                    self.n_made += 1
                    self.changed.notify_all()
                yield made

    def made(self, n_pieces: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.n_made >= n_pieces, SOON_S)

    def are(self, *sizes: int) -> bool:
        """Whether these come to be asked for, in whatever order: those that begin together are threads."""
        with self.changed:
            return self.changed.wait_for(lambda: sorted(self.sizes) == sorted(sizes), SOON_S)


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> Executions:
    found = Executions()
    monkeypatch.setattr(stream, "map_blocks", found.map_blocks)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 30)


@pytest.fixture
def source(root: Path) -> Iterator[StreamedPhotos]:
    with closing(StreamedPhotos(str(root), PLAN)) as found:
        yield found


def table_of(root: Path) -> PhotoTable:
    paths = tuple(sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg")))
    n = len(paths)
    return PhotoTable(np.arange(n), paths, np.zeros(n, np.int64), np.arange(n, dtype=np.uint64) + 7)


def drawn(epoch: int, **augment: Any) -> Transform:
    return Transform(PREPROCESSING, AugmentConfig(**augment), seed=3, epoch=epoch)


def batches_of(n: int, *sizes: int, seed: int = 0) -> Batches:
    return np.split(np.random.default_rng(seed).permutation(n)[: sum(sizes)], np.cumsum(sizes)[:-1])


def in_memory(root: Path, table: PhotoTable) -> MemoryPhotos:
    folder, memory = PhotoFolder.at(str(root)), MemoryPhotos([], n_threads=1)
    memory._photos = {row: folder.load(table.paths[row], PREPROCESSING) for row in table.rows}
    return memory


def use_pieces_of(n_photos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PIECE_PHOTOS", "PIECE_PHOTOS"):
        monkeypatch.setattr(stream, name, n_photos)


@pytest.mark.parametrize("sizes", [(32, 32, 26), (7, 1, 0, 5), (70, 20), (90,)])
def test_streamed_photos_are_those_from_memory_to_the_bit_whatever_the_batches(
    root: Path, source: StreamedPhotos, executions: Executions, sizes: tuple[int, ...]
) -> None:
    table = table_of(root)
    batches = batches_of(len(table), *sizes)
    for transform in (drawn(2), drawn(0, size_px=40), Transform(PREPROCESSING)):
        streamed = list(source.batches(table, batches, transform))
        assert [photos.shape for photos in streamed] == [
            (size, transform.side_px, transform.side_px, 3) for size in sizes
        ]
        wanted = in_memory(root, table).batches(table, [batch for batch in batches if len(batch)], transform)
        for photos, same in zip((photos for photos in streamed if len(photos)), wanted, strict=True):
            assert np.array_equal(photos, same)


def test_many_photos_are_several_executions_which_begin_as_they_are_needed(
    root: Path, executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_pieces_of(5, monkeypatch)
    table = table_of(root)
    with closing(StreamedPhotos(str(root), ReadingPlan(tasks=1, cpus=1.0, ahead_bytes=5 * 5 * 3 * 24**2))) as source:
        photos = source.batches(table, batches_of(90, *[9] * 10), drawn(0))
        next(photos)
        assert executions.made(10)
        assert executions.are(25, 25)
        assert len(list(photos)) == 9
    assert executions.are(25, 25, 25, 15)


@pytest.mark.parametrize(
    ("tasks", "photos_ahead", "sizes"),
    [(2, 1000, [[5, 5, 40, 40]]), (3, 60, [[5, 5, 5, 10, 10, 10], [10, 10, 10, 10, 5]]), (9, 0, [[5] * 9, [5] * 9])],
)
def test_each_task_hands_on_few_photos_first_for_who_waits_and_then_as_many_as_may_be_read_ahead(
    root: Path,
    executions: Executions,
    monkeypatch: pytest.MonkeyPatch,
    tasks: int,
    photos_ahead: int,
    sizes: list[list[int]],
) -> None:
    monkeypatch.setattr(stream, "FIRST_PIECE_PHOTOS", 5)
    monkeypatch.setattr(stream, "PIECE_PHOTOS", 40)
    table, plan = table_of(root), ReadingPlan(tasks, cpus=1.0, ahead_bytes=photos_ahead * 3 * 24**2)
    with closing(StreamedPhotos(str(root), plan)) as source:
        assert sum(map(len, source.batches(table, batches_of(90, 90), drawn(0)))) == 90
    assert sorted(executions.pieces) == sizes


@pytest.mark.parametrize(("tasks", "batch", "n_ahead"), [(1, 2, 1), (8, 2, 1), (8, 40, 2)])
def test_what_is_read_for_somebody_who_is_slow_is_bounded_however_many_tasks_and_large_batches(
    root: Path, executions: Executions, monkeypatch: pytest.MonkeyPatch, tasks: int, batch: int, n_ahead: int
) -> None:
    use_pieces_of(5, monkeypatch)
    table, plan = table_of(root), ReadingPlan(tasks, cpus=1.0, ahead_bytes=0)
    with closing(StreamedPhotos(str(root), plan)) as source:
        photos = source.batches(table, batches_of(90, *[batch] * (90 // batch)), drawn(0))
        next(photos)
        assert executions.made(-(-batch // 5) + n_ahead)
        assert sum(executions.sizes) <= 2 * max(2, tasks) * 5
        photos.close()


def test_expected_photos_come_while_the_last_ones_are_taken_and_are_not_read_twice(
    root: Path, source: StreamedPhotos, executions: Executions
) -> None:
    table = table_of(root)
    first, val, second = (batches_of(90, *sizes, seed=sum(sizes)) for sizes in ((30, 30), (10,), (40, 20)))
    source.expect(table, val, Transform(PREPROCESSING))
    source.expect(table, second, drawn(1))
    assert executions.are()
    photos = source.batches(table, first, drawn(0))
    next(photos)
    assert executions.are(60, 10, 60)
    list(photos)
    list(source.batches(table, val, Transform(PREPROCESSING)))
    (same,) = in_memory(root, table).batches(table, second[:1], drawn(1))
    assert np.array_equal(next(source.batches(table, second, drawn(1))), same)
    assert executions.are(60, 10, 60)


def test_photos_that_were_not_expected_do_not_wait_for_those_that_were(
    root: Path, source: StreamedPhotos, executions: Executions
) -> None:
    table = table_of(root)
    list(source.batches(table, batches_of(90, 10), drawn(0)))
    source.expect(table, batches_of(90, 45, 45), drawn(1))
    assert executions.are(10, 90)
    assert len(list(source.batches(table, batches_of(90, 45, 44), drawn(1)))) == 2
    assert executions.are(10, 90, 89)


def test_whoever_stops_early_leaves_no_thread(root: Path, source: StreamedPhotos, executions: Executions) -> None:
    table, before = table_of(root), threading.active_count()
    photos = source.batches(table, batches_of(90, *[1] * 90), drawn(0))
    next(photos)
    source.expect(table, batches_of(90, 20), drawn(1))
    photos.close()
    source.close()
    assert threading.active_count() == before


def test_a_photo_that_changed_is_named_where_its_batch_is_asked_for(tmp_path: Path, executions: Executions) -> None:
    own = make_photos(tmp_path, 2)
    table = table_of(own)
    with closing(StreamedPhotos(str(own), PLAN)) as source:
        list(source.batches(table, [np.arange(6)], drawn(0)))
        (own / table.paths[4]).unlink()
        source.expect(table, [np.arange(6)], drawn(1))
        with pytest.raises(DataError, match=table.paths[4]):
            list(source.batches(table, [np.arange(6)], drawn(1)))


def test_photos_that_do_not_come_are_an_error_of_the_cluster(
    root: Path, source: StreamedPhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()

    def never(*_: object, **__: object) -> Generator[pa.Table]:
        hold.wait(SOON_S)
        yield pa.table({})

    monkeypatch.setattr(stream, "map_blocks", never)
    monkeypatch.setattr(stream, "NO_ANSWER_S", 0.01)
    threading.Timer(1.0, hold.set).start()
    with pytest.raises(ClusterError, match="the next photos"):
        next(source.batches(table_of(root), [np.arange(3)], drawn(0)))
