"""What unit tests do to torch in their process is undone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Give torch its threads back: a model that is loaded for one thread would slow, and round, all tests after it."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
