"""A model on trial beside the one that answers: tried, refused, promoted; only replicas and files are made up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError
from ray_trash.serve import shadow
from ray_trash.serve.contract import ServeError
from ray_trash.serve.generations import Generation, Generations
from ray_trash.serve.shadow import ShadowedFleet
from tests.unit.serve.backends import CARD, CLASSES

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
GOOD = dict.fromkeys(("first", "second", "third"), CLASSES)


def made_up(place: str) -> Any:
    """A checkpoint, as far as a fleet looks at it."""
    document = SimpleNamespace(id=place.rsplit("/", 1)[-1], classes=GOOD.get(place, ("a", "b", "c")))
    return SimpleNamespace(uri=f"/place/of/{place}", document=document)


@pytest.fixture(autouse=True)
def alive(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The generations whose replicas are there, by the fleet and a number."""
    found, numbers = set[str](), itertools.count(1)

    def open_checkpoint(place: str) -> Any:
        if place == "nowhere":
            raise CheckpointError("/place/of/nowhere: no checkpoint there")
        return made_up(place)

    async def start(generations: Generations, checkpoint: Any, wish: Any) -> Generation:
        await asyncio.sleep(0)
        if checkpoint.document.id == "spoilt":
            raise CheckpointError(f"{checkpoint.uri}: answered differently")
        name = f"{generations._name}-{next(numbers)}"
        found.add(name)
        card = CARD.model_copy(update={"id": checkpoint.document.id, "classes": checkpoint.document.classes})
        return Generation(name, checkpoint, None, card)  # type: ignore[arg-type]

    async def running(_: Generations, generation: Generation) -> int:
        return 1

    async def delete(_: Generations, name: str) -> None:
        found.discard(name)

    monkeypatch.setattr(Generations, "start", start)
    monkeypatch.setattr(Generations, "delete", delete)
    monkeypatch.setattr(Generations, "running", running)
    monkeypatch.setattr(shadow, "open_checkpoint", open_checkpoint)
    monkeypatch.setattr("ray_trash.serve.shadow.ray.cluster_resources", lambda: {"CPU": 2})
    return found


def trying(conversation: Callable[[ShadowedFleet], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        fleet = ShadowedFleet(ServeConfig(**settings), name="here")
        await fleet.swap(made_up("first"))
        await conversation(fleet)

    asyncio.run(asyncio.wait_for(run(), 20))


async def answering(fleet: ShadowedFleet) -> tuple[str | None, str | None, str]:
    """Say who answers, who is on trial, and what became of the newest attempt to try one."""
    card, state = await fleet.card(), await fleet.shadow()
    ids = [None if found is None else found.id for found in (card, state.card)]
    return ids[0], ids[1], state.swap.get("status", "")


def test_one_is_tried_promoted_and_gone_back_from(alive: set[str]) -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        assert await answering(fleet) == ("first", None, "")
        await fleet.try_out("second")
        assert await answering(fleet) == ("first", "second", "on_trial")
        assert fleet.shadow_application() == "here-shadow-2"
        assert (await fleet.promote()).id == "second"
        assert await answering(fleet) == ("second", None, "promoted")
        assert (await fleet.roll_back()).id == "first"
        assert fleet.exchanges() == {"done": 2, "promoted": 1, "rolled_back": 1}
        while len(alive) > 1:
            await asyncio.sleep(0.01)
        assert alive == {"here-model-4"}

    trying(talk)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("nowhere", "the checkpoint: no checkpoint there"),
        ("spoilt", "the checkpoint: answered differently"),
        ("other", "its classes are a, b, c; served are glass, paper, metal"),
    ],
)
def test_one_that_is_not_good_is_refused_with_the_reason_and_the_first_goes_on(
    place: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "uri_of", lambda place: f"/place/of/{place}")
    if place == "spoilt":
        monkeypatch.setitem(GOOD, place, CLASSES)

    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out(place)
        assert await answering(fleet) == ("first", None, "refused")
        detail = (await fleet.shadow()).swap["detail"]
        assert why in detail
        assert "/place" not in detail
        assert await fleet.swap_state() == {}
        assert fleet.exchanges() == {"shadow_refused": 1}
        with pytest.raises(ServeError) as raised:
            await fleet.promote()
        assert (raised.value.status, raised.value.code) == (409, "no_shadow")

    trying(talk)


def test_other_classes_are_tried_and_promoted_where_they_are_allowed() -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out("other")
        card = await fleet.promote()
        assert (card.id, card.classes) == ("other", ("a", "b", "c"))

    trying(talk, allow_new_classes=True)


def test_what_there_is_no_room_for_is_refused_before_anything_is_opened() -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out("nowhere")
        detail = (await fleet.shadow()).swap["detail"]
        assert detail.startswith("serve.replicas=2 and a model on trial ask for 3 CPUs; available: 2")

    trying(talk, replicas=2)


def test_another_one_or_none_ends_a_trial_and_the_model_that_answers_needs_none(alive: set[str]) -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out("second")
        await fleet.try_out("third")
        assert await answering(fleet) == ("first", "third", "on_trial")
        await fleet.try_out(None)
        assert await answering(fleet) == ("first", None, "ended")
        await fleet.try_out("first")
        assert await answering(fleet) == ("first", None, "ended")
        while len(alive) > 1:
            await asyncio.sleep(0.01)
        with pytest.raises(ServeError) as raised:
            await fleet.score_shadow([b"photo"], timeout_s=1)
        assert raised.value.code == "not_ready"

    trying(talk)


def test_one_that_cannot_be_started_to_answer_stays_on_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out("second")

        async def fail(_: Generations, checkpoint: Any, wish: Any) -> Any:
            raise CheckpointError(f"{checkpoint.uri}: no room")

        monkeypatch.setattr(Generations, "start", fail)
        with pytest.raises(ServeError) as raised:
            await fleet.promote()
        assert (raised.value.status, raised.value.code) == (503, "not_promoted")
        assert await answering(fleet) == ("first", "second", "on_trial")
        assert (await fleet.swap_state())["status"] == "refused"

    trying(talk)


def test_a_stop_ends_the_replicas_of_both(alive: set[str]) -> None:
    async def talk(fleet: ShadowedFleet) -> None:
        await fleet.try_out("second")
        for one in (fleet, fleet._shadow):
            generations = one._generations
            generations._deployed.update(name for name in alive if name.startswith(generations._name))
        await fleet.stop()
        assert alive == set()

    trying(talk)
