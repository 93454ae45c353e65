"""What a command asked of an autoscaler is asked for again until the command lets go."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.cluster import keeper

ONE, TWO = [{"CPU": 1.0}], [{"CPU": 2.0}]


class _Coordinator:
    """Ray's coordinator: what it was asked for, None where that was taken back."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.request_resources = SimpleNamespace(remote=self._request)
        self.cancel_request = SimpleNamespace(remote=lambda requester_id: self.asked.append(None))

    def _request(self, *, requester_id: str, resources: Any, expire_after_s: float, priority: Any) -> None:
        assert expire_after_s > 2 * keeper.RENEW_EVERY_S
        self.asked.append(resources)


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def test_a_request_is_renewed_until_another_replaces_it_or_it_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator = _Coordinator()
    monkeypatch.setattr(keeper, "_coordinator", lambda: coordinator)
    monkeypatch.setattr(keeper, "fetch", lambda reference, what: reference)
    monkeypatch.setattr(keeper, "_requester", lambda: "a-command")
    monkeypatch.setattr(keeper, "RENEW_EVERY_S", 0.01)
    keeper.keep(ONE)
    until(lambda: coordinator.asked.count(ONE) >= 3)
    keeper.keep(TWO)
    until(lambda: coordinator.asked.count(TWO) >= 3)
    keeper.let_go()
    end = len(coordinator.asked)
    time.sleep(0.1)
    # One that was under way when it was taken back may come late.
    assert len(coordinator.asked) <= end + 1
    assert None in coordinator.asked
