"""A model on trial scores some of what was answered, gives way to everything else, and answers nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np

from ray_trash.config import ServeConfig
from ray_trash.serve.backlog import Backlog
from ray_trash.serve.contract import Scored, ServeError
from ray_trash.serve.telemetry import Telemetry
from ray_trash.serve.trial import Trial
from tests.unit.serve.asking import JPEG, code_of, files, talk
from tests.unit.serve.backends import BAD, CARD, GOOD, UNSURE, FakeBackend

SHADOW = CARD.model_copy(update={"id": "ba9876543210"})


def on_trial(backend: FakeBackend, *requests: tuple[bytes, ...], share: float = 1.0) -> Any:
    """Have requests answered, one after the other. Returns the answers, what is said of the model, and the counters."""

    async def ask(client: httpx.AsyncClient) -> Any:
        answers = []
        for photos in requests:
            answers.append((await client.post("/v1/score", files=files(*photos))).json())
            # What was begun for the model on trial ends.
            for _ in range(20):
                await asyncio.sleep(0)
        return answers, (await client.get("/v1/model")).json(), (await client.get("/metrics")).text.splitlines()

    return talk(backend, ask, shadow_share=share)


def test_its_answers_are_counted_beside_those_that_were_given_and_are_in_no_answer(backend: FakeBackend) -> None:
    request = (GOOD, BAD, UNSURE, GOOD)
    (without,), model, _ = on_trial(backend, request)
    assert model["shadow"] is None
    backend.on_trial = SHADOW
    (answer,), model, lines = on_trial(backend, request)
    assert answer == without
    assert backend.shadow_asked == [[GOOD, UNSURE, GOOD]]
    shadow = model["shadow"]
    assert (shadow["id"], shadow["engine"], shadow["share"]) == (SHADOW.id, "none", 1.0)
    assert shadow["swap"] == {"status": "on_trial"}
    figures = shadow["figures"]
    assert (figures["photos"], figures["agreed"], figures["differences"]) == (3, 1, {"glass": {"metal": 2}})
    assert (figures["abstained"], figures["model_abstained"]) == (3, 1)
    np.testing.assert_allclose(figures["mean_confidence"], 0.6, atol=1e-6)
    np.testing.assert_allclose(figures["model_mean_confidence"], (0.9 + 0.4 + 0.9) / 3, atol=1e-6)
    np.testing.assert_allclose(figures["mean_forward_s"], 0.5)
    pair = 'model="0123456789ab",shadow="ba9876543210"'
    for line in (
        'ray_trash_shadow{id="ba9876543210"} 1.0',
        f'ray_trash_shadow_photos_total{{label="glass",{pair}}} 2.0',
        f'ray_trash_shadow_photos_total{{label="metal",{pair}}} 1.0',
        f'ray_trash_shadow_differences_total{{label="glass",{pair},shadow_label="metal"}} 2.0',
        f"ray_trash_shadow_abstained_total{{{pair}}} 3.0",
        'ray_trash_shadow_confidence_count{shadow="ba9876543210"} 3.0',
        'ray_trash_shadow_forward_seconds_sum{shadow="ba9876543210"} 1.5',
        'ray_trash_shadow_not_scored_total{outcome="dropped"} 0.0',
        'ray_trash_photos_total{label="glass",model="0123456789ab"} 2.0',
    ):
        assert line in lines, line


def offered(backend: FakeBackend, *, n: int, backlog: Backlog | None = None, draws: list[float] | None = None) -> Any:
    """Offer so many photos twice at once. Returns the figures once all is done."""
    backend.on_trial = SHADOW
    counters = Telemetry().shadow
    numbers = iter(draws or [0.0] * 2 * n)

    async def run() -> None:
        trial = Trial(backend, ServeConfig(), counters, backlog or Backlog(), draw=lambda: next(numbers))
        scored = Scored(CARD, np.eye(3, dtype=np.float32)[[0] * n], np.zeros(n, bool), {})
        await trial.offer([GOOD] * n, scored)
        await trial.offer([GOOD] * n, scored)
        while trial._under_way is not None:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), 10))
    return counters.figures


def test_it_scores_its_share_of_the_photos(backend: FakeBackend) -> None:
    figures = offered(backend, n=3, draws=[0.05, 0.5, 0.09, 0.1, 0.2, 0.9])
    assert backend.shadow_asked == [[GOOD, GOOD]]
    assert (figures.photos, figures.dropped) == (2, 0)


def test_while_it_scores_or_a_photo_waits_what_it_is_offered_is_dropped_and_counted(backend: FakeBackend) -> None:
    backend.shadow_delay_s = 0.01
    figures = offered(backend, n=3)
    assert (figures.photos, figures.dropped, figures.failed) == (3, 3, 0)
    busy = Backlog()
    busy.begin(1)
    backend.shadow_asked.clear()
    figures = offered(backend, n=2, backlog=busy)
    assert (figures.photos, figures.dropped, backend.shadow_asked) == (0, 4, [])


def test_one_that_has_no_time_drops_photos_and_one_that_fails_fails_them(backend: FakeBackend) -> None:
    backend.shadow_problem = ServeError(504, "timeout", "there was no answer within 30 s")
    assert offered(backend, n=1).dropped == 2
    for problem in (ServeError(503, "replica_failed", "the replica failed"), RuntimeError("something unforeseen")):
        backend.shadow_problem = problem
        figures = offered(backend, n=1)
        assert (figures.photos, figures.dropped, figures.failed) == (0, 1, 1)


def test_what_it_refuses_fails_and_another_model_has_figures_of_its_own(backend: FakeBackend) -> None:
    counters, label = Telemetry().shadow, np.eye(3, dtype=np.float32)[[0, 1]]
    scored = Scored(CARD, label, np.zeros(2, bool), {})
    counters.count(scored, [0, 1], Scored(SHADOW, label, np.zeros(2, bool), {0: ("truncated", "it ends early")}))
    assert (counters.figures.photos, counters.figures.agreed, counters.figures.failed) == (1, 1, 1)
    # Classes are told by their names, whatever their order.
    other = SHADOW.model_copy(update={"id": "other", "classes": ("paper", "glass", "wood")})
    counters.count(scored, [0, 1], Scored(other, label, np.zeros(2, bool), {}))
    assert counters.figures.differences == {"glass": {"paper": 1}, "paper": {"glass": 1}}
    assert counters.figures.failed == 0


def test_only_an_operator_lets_it_answer_and_there_must_be_one(backend: FakeBackend) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        operator = {"authorization": "Bearer of-operators"}
        sent = [await client.post("/v1/model/promote", headers=headers) for headers in (JPEG, operator)]
        backend.on_trial = SHADOW
        return [*sent, await client.post("/v1/model/promote", headers=operator)]

    without_key, without_shadow, done = talk(backend, ask, operator_key="of-operators")
    assert (without_key.status_code, code_of(without_key)) == (401, "unauthorized")
    assert (without_shadow.status_code, code_of(without_shadow)) == (409, "no_shadow")
    assert (done.status_code, done.json()["id"]) == (200, SHADOW.id)
