"""What a check found, and how checks are made: each with a deadline, none hiding another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ray_trash.cluster.waiting import wait_in_thread
from ray_trash.errors import RayTrashError
from ray_trash.terminal.text import last_line

Status = Literal["ok", "not checked", "warning", "problem"]
"""From the best to the worst; what could not be checked may be all right."""
_SEVERITY: tuple[Status, ...] = ("ok", "not checked", "warning", "problem")


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, what was found, and what to do, where something is."""

    check: str
    status: Status
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Judged:
    """How one machine does in one check."""

    status: Status
    found: str
    advice: str = ""


def worst(statuses: Sequence[Status]) -> Status:
    """Return the worst of some."""
    return max(statuses, key=_SEVERITY.index)


def joined(check: str, judged: Sequence[tuple[str, Judged]]) -> Finding:
    """Put what was found on each machine, by its name, into one finding that names those it is about."""
    if len(judged) == 1:
        return Finding(check, *_fields(judged[0][1]))
    status = worst([one.status for _, one in judged])
    if status == "ok":
        found = {one.found: None for _, one in judged}
        return Finding(check, status, "; ".join(found))
    about = [(machine, one) for machine, one in judged if one.status == status]
    advice = {one.advice: None for _, one in about if one.advice}
    found_there = "; ".join(f"{machine}: {one.found}" for machine, one in about)
    others = len(judged) - len(about)
    return Finding(check, status, found_there + (f"; {others} others are better" if others else ""), "; ".join(advice))


def checked(
    check: str, work: Callable[[], Finding], *, timeout_s: float, late: Status = "not checked", advice: str = ""
) -> Finding:
    """Make a check in a thread; one that is late or fails is a finding too.

    `late` is what it means that it takes longer than `timeout_s` or fails with an error of ours, `advice` what to do.
    """
    found: list[Finding] = []
    try:
        wait_in_thread(lambda: found.append(work()), name=f"check {check}", timeout_s=timeout_s)
    except TimeoutError:
        return Finding(check, late, f"no answer within {timeout_s:g} s", advice)
    except RayTrashError as error:
        return Finding(check, late, str(error), advice)
    except Exception as error:
        return Finding(check, "not checked", f"the check itself failed: {type(error).__name__}: {last_line(error)}")
    return found[0]


def _fields(one: Judged) -> tuple[Status, str, str]:
    return one.status, one.found, one.advice
