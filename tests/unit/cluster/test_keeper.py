"""What commands asked of an autoscaler is kept for as long as they live."""

from __future__ import annotations

import pytest

from ray_trash.cluster import keeper
from ray_trash.cluster.capacity import Bundle

ONE, TWO = [{"CPU": 1.0}], [{"CPU": 2.0}]


def test_requests_add_up_and_end_with_their_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[list[Bundle]] = []
    living = {"01", "02"}
    monkeypatch.setattr(keeper, "LOOK_EVERY_S", 3600.0)
    monkeypatch.setattr(keeper, "request_resources", lambda bundles: requested.append(bundles))
    monkeypatch.setattr(
        keeper, "jobs", lambda: [{"JobID": each, "IsDead": each not in living} for each in ("01", "02")]
    )
    kept = keeper._Keeper()
    kept.keep("01", ONE)
    kept.keep("02", TWO)
    assert requested == [ONE, ONE + TWO]
    assert kept._drop_ended()
    living.remove("01")
    assert kept._drop_ended()
    kept.keep("02", [])
    assert not kept._drop_ended()
    assert requested[2:] == [TWO, [], []]
