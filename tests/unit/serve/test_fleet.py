"""From one model to the next and back, one move at a time; only the replicas are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ServeError
from ray_trash.serve.fleet import Fleet, Generation
from tests.unit.serve.backends import CARD, CLASSES

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Instant(Fleet):
    """A fleet whose replicas take a moment to start, and then are there."""

    def __init__(self) -> None:
        super().__init__(ServeConfig())
        self.alive: set[str] = set()
        self.made = 0

    async def _deploy(self, checkpoint: Checkpoint) -> Any:
        self.made += 1
        name = f"generation-{self.made}"
        await asyncio.sleep(0.02)
        self.alive.add(name)
        document = checkpoint.document
        card = CARD.model_copy(update={"id": document.id, "classes": document.classes})
        return Generation(name, checkpoint, None, card)  # type: ignore[arg-type]

    async def _delete(self, name: str) -> None:
        self.alive.discard(name)


def made_up(model_id: str, *, classes: tuple[str, ...] = CLASSES) -> Any:
    """A checkpoint, as far as a fleet looks at it."""
    document = SimpleNamespace(id=model_id, classes=classes)
    return SimpleNamespace(uri=f"/place/of/{model_id}", document=document)


@pytest.fixture
def models() -> tuple[Checkpoint, Checkpoint]:
    return made_up("first"), made_up("second")


def finish(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_there_is_nothing_to_go_back_to_before_the_first_move(models: tuple[Checkpoint, Checkpoint]) -> None:
    async def run() -> None:
        fleet = Instant()
        await fleet.swap(models[0])
        with pytest.raises(ServeError) as raised:
            await fleet.roll_back()
        assert raised.value.status == 409

    finish(run())


def test_a_rollback_during_a_move_waits_for_it_and_undoes_it(models: tuple[Checkpoint, Checkpoint]) -> None:
    first, second = models

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)
        moved, back = await asyncio.gather(fleet.swap(second), fleet.roll_back())
        assert (moved.id, back.id) == (second.document.id, first.document.id)
        now = await fleet.card()
        assert now is not None
        assert now.id == first.document.id

    finish(run())


def test_of_two_rollbacks_at_once_the_second_undoes_the_first_and_one_generation_is_left(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    first, second = models

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)
        await fleet.swap(second)
        cards = await asyncio.gather(fleet.roll_back(), fleet.roll_back())
        assert [card.id for card in cards] == [first.document.id, second.document.id]
        while len(fleet.alive) > 1:
            await asyncio.sleep(0.01)
        assert fleet.alive == {"generation-4"}

    finish(run())


def test_other_classes_are_refused_before_anything_is_started(models: tuple[Checkpoint, Checkpoint]) -> None:
    first, other = models[0], made_up("other", classes=tuple("abcdef"))

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)
        with pytest.raises(CheckpointError, match="its classes are a, b, c, d, e, f"):
            await fleet.swap(other)
        assert fleet.alive == {"generation-1"}

    finish(run())


def test_one_that_is_not_good_is_noted_and_the_reason_tells_clients_no_place(
    models: tuple[Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = models

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)

        async def fail(checkpoint: Checkpoint) -> Any:
            raise CheckpointError(f"{checkpoint.uri}: answered differently")

        monkeypatch.setattr(fleet, "_deploy", fail)
        with pytest.raises(CheckpointError):
            await fleet.swap(second)
        state = await fleet.swap_state()
        assert (state["status"], state["checkpoint"]) == ("refused", second.document.id)
        assert state["detail"] == "the checkpoint: answered differently"
        now = await fleet.card()
        assert now is not None
        assert now.id == first.document.id

    finish(run())


def test_a_first_model_that_finds_no_room_waits_and_is_not_refused_and_a_later_one_is(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    class Full(Instant):
        is_full = True

        async def _deploy(self, checkpoint: Checkpoint) -> Any:
            if self.is_full:
                raise ClusterError(f"{checkpoint.uri}: asks for more than there is")
            return await super()._deploy(checkpoint)

    async def run() -> None:
        fleet = Full()
        for _ in range(2):
            with pytest.raises(ClusterError):
                await fleet.swap(models[0])
        state = await fleet.swap_state()
        assert (state["status"], state["detail"]) == ("waiting", "the checkpoint: asks for more than there is")
        assert not fleet.exchanges()
        fleet.is_full = False
        await fleet.swap(models[0])
        fleet.is_full = True
        with pytest.raises(ClusterError):
            await fleet.swap(models[1])
        assert (await fleet.swap_state())["status"] == "refused"
        assert fleet.exchanges() == {"refused": 1}

    finish(run())
