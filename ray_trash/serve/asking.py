"""Asking the replicas of a model for answers: with a deadline, and once more where one of them fails."""

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

ATTEMPTS = 2
"""Scoring changes nothing, so what a failing replica did not answer is asked of another, once."""


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
    deadline_s = time.monotonic() + timeout_s
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                handle = await handle_for(attempt)
                answer: Scored = await handle.answer.remote(list(photos), explain=explain)
                return answer
        except TimeoutError as error:
            raise ServeError(504, "timeout", f"there was no answer within {timeout_s:g} s") from error
        except BackPressureError as error:
            raise come_again("busy", "all replicas are busy", retry_after_s) from error
        except (RayActorError, RayTaskError, DeploymentUnavailableError) as error:
            what = last_line(error)
            tell(
                "replica_failed",
                f"a replica failed under a request (attempt {attempt} of {ATTEMPTS}): {what}",
                level=logging.WARNING,
                request_id=this_visit().request_id,
                attempt=attempt,
                reason=what,
            )
            if attempt == ATTEMPTS:
                raise come_again("replica_failed", "the replica failed", retry_after_s) from error
    raise AssertionError("the last attempt answers or raises")
