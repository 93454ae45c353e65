"""Who computes in the tests of requests."""

from __future__ import annotations

import pytest

from tests.unit.serve.backends import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()
