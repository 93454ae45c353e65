"""A watched folder: what is served of it, what is reported, and what is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ray_trash.errors import CheckpointError, ClusterError
from ray_trash.model.checkpoint import MARKER, Checkpoint, open_checkpoint, write_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.serve.watch import LOOKS, watch
from ray_trash.storage import Storage
from tests.models import write_model

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Fleet:
    """Says of each checkpoint it is given what it was told to: an error, or nothing where it is good."""

    def __init__(self, served: Checkpoint, outcomes: Sequence[Exception | None]) -> None:
        self.served = served.document.id
        self.asked: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self._outcomes = list(outcomes)

    async def card(self) -> Any:
        return SimpleNamespace(id=self.served)

    async def swap(self, checkpoint: Checkpoint) -> Any:
        self.asked.append(checkpoint.document.id)
        outcome = self._outcomes.pop(0)
        if outcome is not None:
            raise outcome
        self.served = checkpoint.document.id
        return await self.card()

    def refuse(self, what: str, error: Exception, uri: str) -> None:
        self.refused.append((what, str(error).replace(uri, "")))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> CheckpointDocument:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, document: CheckpointDocument) -> Path:
    write_another(tmp_path / "place", document, 0)
    return tmp_path / "place"


def write_another(folder: Path, document: CheckpointDocument, number: int) -> str:
    """Write a checkpoint that is whole, though nothing can answer by it. Returns its id."""
    return write_checkpoint(folder, {"fc.bias": torch.full((6,), float(number))}, document).id


def watched(folder: Path, fleet: Fleet, served: Checkpoint, *, looks: int) -> None:
    """Look at a folder so many times."""

    async def run() -> None:
        watching = asyncio.ensure_future(
            watch(Storage.at(folder), served.marker, fleet, interval_s=0.01)  # type: ignore[arg-type]
        )
        await asyncio.wait((watching,), timeout=0.05 * looks)
        assert not watching.done(), watching.exception()
        watching.cancel()

    asyncio.run(run())


def test_another_checkpoint_is_moved_to_once(folder: Path, document: CheckpointDocument) -> None:
    served = open_checkpoint(folder)
    fleet = Fleet(served, [None])
    second = write_another(folder, document, 1)
    watched(folder, fleet, served, looks=10)
    assert fleet.asked == [second]


def test_one_that_there_was_no_room_for_is_tried_again(folder: Path, document: CheckpointDocument) -> None:
    served = open_checkpoint(folder)
    fleet = Fleet(served, [ClusterError("no room"), ClusterError("no room"), None])
    second = write_another(folder, document, 1)
    watched(folder, fleet, served, looks=20)
    assert fleet.asked == [second] * 3
    assert fleet.served == second


def test_one_that_is_not_good_is_refused_once(folder: Path, document: CheckpointDocument) -> None:
    served = open_checkpoint(folder)
    second = write_another(folder, document, 1)
    fleet = Fleet(served, [CheckpointError(f"{open_checkpoint(folder).uri}: answered differently")])
    watched(folder, fleet, served, looks=10)
    assert fleet.asked == [second]
    assert fleet.served == served.document.id


def test_one_that_stays_incomplete_is_reported_once_and_served_when_it_is_whole(
    folder: Path, document: CheckpointDocument
) -> None:
    served = open_checkpoint(folder)
    second = write_another(folder, document, 1)
    marker = (folder / MARKER).read_bytes()
    (folder / MARKER).unlink()
    fleet = Fleet(served, [None])
    watched(folder, fleet, served, looks=5 * LOOKS)
    assert len(fleet.refused) == 1
    assert str(folder) not in fleet.refused[0][1]
    assert fleet.asked == []
    (folder / MARKER).write_bytes(marker)
    watched(folder, fleet, served, looks=10)
    assert fleet.asked == [second]
