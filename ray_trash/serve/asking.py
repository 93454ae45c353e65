"""Asking the replicas of a model for answers: with a deadline, and once more where one of them fails or is silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from ray_trash.serve.access import this_visit
from ray_trash.serve.contract import Scored, ServeError, come_again
from ray_trash.serve.log import tell
from ray_trash.terminal.text import last_line

FAILURES = (RayActorError, RayTaskError, DeploymentUnavailableError)
"""How a replica fails, or has gone."""
ATTEMPTS = 2
"""Scoring changes nothing, so what a failing replica did not answer is asked of another, once."""
PATIENCE_SHARE = 0.5
"""After so much of the time limit another replica is asked too: the machine of one may be silent, and Ray Serve, which
has noticed that by then, lets it finish what it has. A request is let in where it should be answered by then."""


async def ask_replicas(
    handle_for: Callable[[int], Awaitable[DeploymentHandle[Any]]],
    photos: Sequence[bytes],
    *,
    timeout_s: float,
    retry_after_s: int,
    explain: bool = False,
) -> Scored:
    """Answer encoded photos by the replicas that the handle of an attempt, from 1, leads to.

    Raises:
        ServeError: 504 past the time limit; 503 where all are busy, or every attempt failed.
    """
    began_s, waiting = time.monotonic(), set[asyncio.Task[Scored]]()
    failure: BaseException | None = None
    try:
        for attempt in range(1, ATTEMPTS + 1):
            waiting.add(asyncio.ensure_future(_ask(handle_for, attempt, photos, explain)))
            is_last = attempt == ATTEMPTS
            until_s = began_s + (1.0 if is_last else PATIENCE_SHARE) * timeout_s
            while waiting:
                left_s = until_s - time.monotonic()
                done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    failure = task.exception()
                    if failure is None:
                        return task.result()
                    if isinstance(failure, BackPressureError):
                        raise come_again("busy", "all replicas are busy", retry_after_s) from failure
                    if not isinstance(failure, FAILURES):
                        raise failure
                    _tell_failure(failure, attempt)
                if not done or not is_last:
                    break
        if waiting:
            raise ServeError(504, "timeout", f"there was no answer within {timeout_s:g} s")
        raise come_again("replica_failed", "the replica failed", retry_after_s) from failure
    finally:
        for task in waiting:
            task.cancel()


async def _ask(
    handle_for: Callable[[int], Awaitable[DeploymentHandle[Any]]], attempt: int, photos: Sequence[bytes], explain: bool
) -> Scored:
    handle = await handle_for(attempt)
    answer: Scored = await handle.answer.remote(list(photos), explain=explain)
    return answer


def _tell_failure(error: BaseException, attempt: int) -> None:
    what = last_line(error)
    tell(
        "replica_failed",
        f"a replica failed under a request (attempt {attempt} of {ATTEMPTS}): {what}",
        level=logging.WARNING,
        request_id=this_visit().request_id,
        attempt=attempt,
        reason=what,
    )
