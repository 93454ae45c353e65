"""The replicas of a model start at once where nobody answers yet, and one before the others where somebody does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.cluster.carry import Carried
from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError
from ray_trash.serve import generations, replicas
from ray_trash.serve.generations import Generations
from ray_trash.serve.shelf import Origin

BAD = CheckpointError("answers differently")


class Started:
    """What Ray Serve was asked for: of each application how many replicas, in the order of asking."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.card: Carried[str] = Carried("card")

    def describe(self, settings: ServeConfig, origin: Origin, *_: Any, only_first: bool) -> int:
        return 1 if only_first else settings.replicas

    def run(self, replicas: int, *, name: str, route_prefix: None) -> Any:
        self.asked.append((name, replicas))

        async def card() -> Carried[str]:
            return self.card

        return SimpleNamespace(card=SimpleNamespace(remote=card))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    fake = Started()
    shelf = SimpleNamespace(keep=lambda name, *_: Origin("shelf", name), forget=lambda _: None)
    monkeypatch.setattr(generations, "Shelf", lambda _: shelf)
    monkeypatch.setattr(generations, "describe_replicas", fake.describe)
    monkeypatch.setattr(generations, "most_per_machine", lambda _: 2)
    monkeypatch.setattr(generations, "_end_application", lambda _: None)
    monkeypatch.setattr("ray.serve.run", fake.run)
    return fake


def of(replicas: int) -> Generations:
    return Generations(ServeConfig(replicas=replicas), name="fleet", drain_s=0.0, niceness=0)


def start(those: Generations) -> None:
    asyncio.run(those.start(SimpleNamespace(uri="place"), None))  # type: ignore[arg-type]


def test_the_first_model_s_replicas_start_at_once_and_those_of_the_next_after_one_that_answers(
    started: Started,
) -> None:
    those = of(3)
    start(those)
    start(those)
    assert [n for _, n in started.asked] == [3, 1, 3]
    (first, _), (second, _), (again, _) = started.asked
    assert first != second == again


def test_one_replica_is_asked_for_once(started: Started) -> None:
    those = of(1)
    start(those)
    start(those)
    assert [n for _, n in started.asked] == [1, 1]


def test_a_checkpoint_that_is_not_good_costs_one_process_where_others_answer(started: Started) -> None:
    those = of(3)
    start(those)
    started.card = Carried(None, BAD)
    with pytest.raises(CheckpointError, match="answers differently"):
        start(those)
    assert [n for _, n in started.asked] == [3, 1]


def test_the_rest_joins_the_first_replica_and_does_not_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(replicas, "can_grow", lambda: False)
    settings = ServeConfig(replicas=2)

    def described(name: str, *, only_first: bool) -> Any:
        application = replicas.describe_replicas(settings, Origin("shelf", name), 0, 2, only_first=only_first)
        return application._bound_deployment

    first, whole, other = (
        described("one", only_first=True),
        described("one", only_first=False),
        described("two", only_first=True),
    )
    assert (first.num_replicas, whole.num_replicas) == (1, 2)
    # Ray Serve starts those of another version anew.
    assert first.version == whole.version != other.version
