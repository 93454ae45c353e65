"""From one model to the next and back, one move at a time; only the replicas are made up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint, write_checkpoint
from ray_trash.serve import fleet, replicas
from ray_trash.serve.contract import ServeError
from ray_trash.serve.fleet import Fleet
from ray_trash.serve.generations import Generation, Generations
from ray_trash.serve.replicas import most_per_machine
from tests.models import write_model
from tests.unit.serve.backends import CARD, CLASSES

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class FakeShelf:
    """Keeps everything, unless its process was killed."""

    def __init__(self) -> None:
        self.killed = False

    def has(self, name: str) -> bool:
        return not self.killed

    def forget(self, name: str) -> None:
        pass


class InstantGenerations(Generations):
    """Replicas that take a moment to start, and then are there."""

    alive: set[str]
    made = 0
    dead = 0
    full = False

    async def start(self, checkpoint: Checkpoint, wish: Any) -> Any:
        self.made += 1
        if self.full:
            raise ClusterError(f"{checkpoint.uri}: asks for more than there is")
        name = f"generation-{self.made}"
        await asyncio.sleep(0.02)
        self.alive.add(name)
        document = checkpoint.document
        card = CARD.model_copy(update={"id": document.id, "classes": document.classes})
        self._shelf = self._shelf or FakeShelf()  # type: ignore[assignment]
        return Generation(name, checkpoint, None, card, most_per_machine(self._settings))  # type: ignore[arg-type]

    async def running(self, generation: Generation) -> int:
        return self._settings.replicas - self.dead

    async def delete(self, name: str) -> None:
        self.alive.discard(name)


class Instant(Fleet):
    """A fleet of such replicas."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(ServeConfig(**settings), name="endpoint")
        self.replicas = InstantGenerations(self._settings, name="endpoint", drain_s=0.0, niceness=0)
        self.replicas.alive = set()
        self._generations = self.replicas


class Machines:
    """Those that answer, and how often somebody looked."""

    def __init__(self) -> None:
        self.answering, self.looks = ["one"], 0

    def look(self, *, answers: object) -> list[str]:
        self.looks += 1
        return self.answering

    async def wait_for_looks(self, n: int) -> None:
        enough = self.looks + n
        await until(lambda: self.looks >= enough)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines()
    monkeypatch.setattr(replicas, "usable_machines", found.look)
    monkeypatch.setattr(fleet, "RENEW_S", 0.01)
    return found


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


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_move_waits_for_replicas_that_are_being_replaced_and_not_for_ever(
    comes_back: bool, models: tuple[Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = models
    monkeypatch.setattr(fleet, "WHOLE_LOOK_S", 0.01)
    monkeypatch.setattr(fleet, "WHOLE_TIMEOUT_S", 20.0 if comes_back else 0.2)

    async def run() -> None:
        moving = Instant(replicas=2)
        await moving.swap(first)
        moving.replicas.dead = 1
        move = asyncio.ensure_future(moving.swap(second))
        await asyncio.sleep(0.1)
        assert moving.replicas.made == 1
        moving.replicas.dead = 0 if comes_back else 1
        assert (await move).id == second.document.id

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
        while len(fleet.replicas.alive) > 1:
            await asyncio.sleep(0.01)
        assert fleet.replicas.alive == {"generation-4"}

    finish(run())


def test_other_classes_are_refused_before_anything_is_started(models: tuple[Checkpoint, Checkpoint]) -> None:
    first, other = models[0], made_up("other", classes=tuple("abcdef"))

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)
        with pytest.raises(CheckpointError, match="its classes are a, b, c, d, e, f"):
            await fleet.swap(other)
        assert fleet.replicas.alive == {"generation-1"}

    finish(run())


def test_other_classes_are_exchanged_as_any_where_they_are_allowed_and_there_is_a_way_back(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    async def run() -> None:
        fleet = Instant(allow_new_classes=True)
        await fleet.swap(models[0])
        assert (await fleet.swap(made_up("other", classes=("a", "b")))).classes == ("a", "b")
        assert (await fleet.roll_back()).classes == CLASSES
        assert fleet.exchanges() == {"done": 2, "rolled_back": 1}

    finish(run())


def test_the_same_weights_with_another_calibration_are_another_model_and_with_other_classes_refused(
    tmp_path: Path,
) -> None:
    write_model(tmp_path / "first")
    first = open_checkpoint(tmp_path / "first")

    def with_other(**changes: Any) -> Checkpoint:
        write_checkpoint(tmp_path / "other", first.weights(), replace(first.document, **changes))
        return open_checkpoint(tmp_path / "other")

    async def run() -> None:
        fleet, ids = Instant(), {first.document.id}
        await fleet.swap(first)
        for change in ({"thresholds": (0.9,) * 6}, {"temperature": 2.0}):
            calibration = replace(first.document.calibration, **change)
            ids.add((await fleet.swap(with_other(calibration=calibration))).id)
        assert len(ids) == 3
        assert fleet.exchanges() == {"done": 2}
        with pytest.raises(CheckpointError, match=r"are trash, .*; served are cardboard, .*allow_new_classes"):
            await fleet.swap(with_other(classes=tuple(reversed(first.document.classes))))

    finish(run())


def test_one_that_is_not_good_is_noted_and_the_reason_tells_clients_no_place(
    models: tuple[Checkpoint, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = models

    async def run() -> None:
        fleet = Instant()
        await fleet.swap(first)

        async def fail(checkpoint: Checkpoint, wish: Any) -> Any:
            raise CheckpointError(f"{checkpoint.uri}: answered differently")

        monkeypatch.setattr(fleet.replicas, "start", fail)
        with pytest.raises(CheckpointError):
            await fleet.swap(second)
        state = await fleet.swap_state()
        assert (state["status"], state["checkpoint"]) == ("refused", second.document.id)
        assert state["detail"] == "the checkpoint: answered differently"
        now = await fleet.card()
        assert now is not None
        assert now.id == first.document.id

    finish(run())


def test_replicas_that_had_to_share_a_machine_are_spread_once_another_is_back(
    models: tuple[Checkpoint, Checkpoint], machines: Machines
) -> None:
    async def run() -> None:
        instant = Instant(replicas=2)
        await instant.swap(models[0])
        looking = asyncio.ensure_future(instant.look_after())
        await machines.wait_for_looks(3)
        assert instant.replicas.made == 1
        machines.answering = ["one", "two"]
        await until(lambda: instant.replicas.alive == {"generation-2"})
        machines.answering = ["one"]
        await machines.wait_for_looks(3)
        assert instant.replicas.made == 2
        assert (instant.exchanges(), await instant.swap_state()) == ({}, {})
        looking.cancel()

    finish(run())


def test_a_replica_that_dies_and_one_that_comes_in_its_place_are_in_the_log(
    models: tuple[Checkpoint, Checkpoint], caplog: pytest.LogCaptureFixture
) -> None:
    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    async def run() -> None:
        instant = Instant(replicas=2)
        await instant.swap(models[0])
        looking = asyncio.ensure_future(instant.look_after())
        for dead in (1, 2, 1, 0):
            before = len(told())
            instant.replicas.dead = dead
            await asyncio.sleep(0.1)
            assert len(told()) == before + (dead != 1 or before == 0)
        looking.cancel()

    with caplog.at_level(logging.INFO, logger="ray_trash.serve"):
        finish(run())
    assert told() == [
        "a replica has died or hangs, 1 of 2 replicas of first are left; another is being started",
        "a replica has died or hangs, 0 of 2 replicas of first are left; another is being started",
        "2 of 2 replicas of first answer again, after 0 s",
    ]


def test_replicas_of_a_fleet_whose_process_ended_are_renewed_as_soon_as_there_is_room(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    async def run() -> None:
        instant = Instant()
        card = CARD.model_copy(update={"id": "first"})
        instant._now = Generation("adopted", models[0], None, card)  # type: ignore[arg-type]
        instant.replicas.alive, instant.replicas.full = {"adopted"}, True
        looking = asyncio.ensure_future(instant.look_after())
        await until(lambda: instant.replicas.made > 1)
        assert instant.application() == "adopted"
        instant.replicas.full = False
        await until(lambda: instant.replicas.alive == {f"generation-{instant.replicas.made}"})
        looking.cancel()

    finish(run())


def test_once_the_process_that_keeps_the_checkpoint_was_killed_the_replicas_are_renewed_with_another(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    async def run() -> None:
        instant = Instant()
        await instant.swap(models[0])
        instant.replicas._shelf.killed = True  # type: ignore[union-attr]
        looking = asyncio.ensure_future(instant.look_after())
        await until(lambda: instant.replicas.alive == {"generation-2"})
        looking.cancel()

    finish(run())


def test_replicas_of_a_fleet_of_which_none_is_left_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        starting = SimpleNamespace(replica_states={"STARTING": 1})
        about = SimpleNamespace(last_deployed_time_s=1.0, deployments={"Model": starting})
        monkeypatch.setattr("ray.serve.status", lambda: SimpleNamespace(applications={"endpoint-1": about}))
        instant = Instant()
        instant.replicas.alive = {"endpoint-1"}
        assert await instant.adopt() is None
        assert instant.replicas.alive == set()

    finish(run())


def test_a_first_model_that_finds_no_room_waits_and_is_not_refused_and_a_later_one_is(
    models: tuple[Checkpoint, Checkpoint],
) -> None:
    async def run() -> None:
        instant = Instant()
        instant.replicas.full = True
        for _ in range(2):
            with pytest.raises(ClusterError):
                await instant.swap(models[0])
        state = await instant.swap_state()
        assert (state["status"], state["detail"]) == ("waiting", "the checkpoint: asks for more than there is")
        assert not instant.exchanges()
        instant.replicas.full = False
        await instant.swap(models[0])
        assert not await instant.swap_state()
        instant.replicas.full = True
        with pytest.raises(ClusterError):
            await instant.swap(models[1])
        assert (await instant.swap_state())["status"] == "refused"
        assert instant.exchanges() == {"refused": 1}
        instant.settle()
        assert not await instant.swap_state()

    finish(run())
