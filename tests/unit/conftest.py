"""Torch in unit tests: small networks, one thread. Where no collected test has loaded it, nor does this."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.shallow import build_shallow_resnets


@pytest.fixture(scope="package", autouse=True)
def shallow_resnet() -> Iterator[None]:
    """Build networks that cost little."""
    network = sys.modules.get("ray_trash.model.network")
    if network is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        build_shallow_resnets(network, patch)
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: several that wait for each other on busy processors take a hundred times as long."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
