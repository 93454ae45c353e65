"""A gateway that follows a fleet of another process; only the fleet and the replicas are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from ray.exceptions import RayActorError

from ray_trash.cluster.carry import Carried
from ray_trash.config import ServeConfig
from ray_trash.serve import follower
from ray_trash.serve.contract import ServeError, ShadowState
from ray_trash.serve.follower import FleetState, Follower
from tests.unit.serve.backends import CARD

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Method:
    """A method of a process elsewhere."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work

    async def remote(self, *arguments: Any, **options: Any) -> Any:
        return self._work(*arguments, **options)


class Models:
    """A fleet that says what it is told to, or is away."""

    def __init__(self) -> None:
        self.application: str | None = None
        self.on_trial: str | None = None
        self.is_away = False
        self.notice: dict[str, Any] = {}
        self.state, self.roll_back, self.promote = (
            Method(work) for work in (self._state, self._roll_back, self._promote)
        )

    def _state(self) -> FleetState:
        if self.is_away:
            raise RayActorError
        card = CARD if self.application else None
        shadow = ShadowState(CARD if self.on_trial else None, {"status": "on_trial"})
        return FleetState(self.application, card, {"status": "done"}, {"done": 1}, None, shadow, self.on_trial)

    def _roll_back(self) -> Carried[Any]:
        if self.application == "first":
            return Carried(None, ServeError(409, "no_model_before", "there is none"))
        self.application = "first"
        return Carried(CARD)

    def _promote(self) -> Carried[Any]:
        if self.on_trial is None:
            return Carried(None, ServeError(409, "no_shadow", "there is none"))
        self.application, self.on_trial = self.on_trial, None
        return Carried(CARD)


class Replicas:
    """The replicas of an application; those of one that was ended answer no more."""

    alive: set[str]

    def __init__(self, application: str) -> None:
        self.application, self.answer = application, Method(self._answer)

    def _answer(self, photos: list[bytes], *, explain: bool) -> str:
        if self.application not in self.alive:
            raise RayActorError
        return f"by {self.application}"


@pytest.fixture(autouse=True)
def replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_trash.serve.follower.serve.get_app_handle", Replicas)
    monkeypatch.setattr(follower, "LOOK_S", 0.01)
    Replicas.alive = {"first", "second"}


def following(conversation: Callable[[Follower, Models], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        models = Models()
        backend = Follower(models, ServeConfig(), notice=lambda: models.notice)  # type: ignore[arg-type]
        task = asyncio.ensure_future(backend.follow())
        await conversation(backend, models)
        assert not task.done()
        task.cancel()

    asyncio.run(asyncio.wait_for(run(), 10))


async def until(is_so: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    while not await is_so():
        await asyncio.sleep(0.01)


async def score(backend: Follower) -> Any:
    return await backend.score([b"photo"], timeout_s=5)


def test_there_is_no_answer_before_the_fleet_has_a_model_and_then_there_is() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        with pytest.raises(ServeError) as raised:
            await score(backend)
        assert (raised.value.status, raised.value.code) == (503, "not_ready")
        assert await backend.card() is None
        models.application = "first"

        async def has_card() -> bool:
            return await backend.card() is not None

        await until(has_card)
        assert await score(backend) == "by first"
        assert (await backend.swap_state(), backend.exchanges()) == ({"status": "done"}, {"done": 1})

    following(talk)


def test_a_gateway_that_has_not_noticed_an_exchange_asks_the_new_replicas_at_its_second_attempt() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        models.application = "first"

        async def answers() -> bool:
            return await backend.card() is not None

        await until(answers)
        models.application = "second"
        Replicas.alive = {"second"}
        # The first attempt fails at once, before there was another look.
        answered = await asyncio.gather(*(score(backend) for _ in range(3)))
        assert answered == ["by second"] * 3

    following(talk)


def test_while_the_fleet_is_away_the_model_that_answered_goes_on_and_a_rollback_is_told_to_come_again() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        models.application = "first"

        async def answers() -> bool:
            return await backend.card() is not None

        await until(answers)
        models.is_away = True
        models.roll_back = Method(models._state)
        await asyncio.sleep(0.1)
        assert await score(backend) == "by first"
        assert await backend.card() == CARD
        with pytest.raises(ServeError) as raised:
            await backend.roll_back()
        assert (raised.value.status, raised.value.code) == (503, "fleet_away")

    following(talk)


def test_a_rollback_is_noticed_with_its_answer_and_its_refusal_arrives_whole() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        models.application = "second"
        await backend.roll_back()
        assert await score(backend) == "by first"
        with pytest.raises(ServeError) as raised:
            await backend.roll_back()
        assert (raised.value.status, raised.value.code) == (409, "no_model_before")

    following(talk)


def test_a_model_on_trial_is_asked_while_there_is_one_and_a_promotion_is_noticed_with_its_answer() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        models.application = "first"

        async def is_on_trial() -> bool:
            return (await backend.shadow()).card is not None

        with pytest.raises(ServeError) as raised:
            await backend.score_shadow([b"photo"], timeout_s=5)
        assert raised.value.code == "not_ready"
        models.on_trial = "second"
        await until(is_on_trial)
        tried: Any = await backend.score_shadow([b"photo"], timeout_s=5)
        assert (await score(backend), tried) == ("by first", "by second")
        await backend.promote()
        assert await score(backend) == "by second"
        assert not await is_on_trial()
        with pytest.raises(ServeError) as raised:
            await backend.promote()
        assert (raised.value.status, raised.value.code) == (409, "no_shadow")

    following(talk)


def test_before_there_is_a_model_a_gateway_says_why_there_is_none() -> None:
    async def talk(backend: Follower, models: Models) -> None:
        models.is_away, models.notice = True, {"status": "refused", "detail": "the checkpoint: answered differently"}

        async def has_read_it() -> bool:
            return bool(await backend.swap_state())

        await until(has_read_it)
        with pytest.raises(
            ServeError, match="there is no model: the checkpoint: answered differently; come again"
        ) as raised:
            await score(backend)
        assert (raised.value.status, raised.value.code) == (503, "model_refused")
        models.is_away, models.application = False, "first"

        async def has_card() -> bool:
            return await backend.card() is not None

        await until(has_card)
        assert await score(backend) == "by first"

    following(talk)
