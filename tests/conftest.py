"""What a test gets from its folder: its level as a marker and, for unit tests, strict warnings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_trash.cluster.environment import prepare_environment

# As the command does, before anything imports torch or Ray.
prepare_environment()

LEVELS = ("unit", "integration", "e2e", "machines")

UNIT_WARNINGS = ("error",)
"""Filters of the unit level, the last that matches wins; one after `error` needs a reason."""


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes a share of the processors, for itself and whatever it starts."""
    workers, own = os.environ.get("PYTEST_XDIST_WORKER_COUNT"), os.environ.get("PYTEST_XDIST_WORKER", "")
    if workers is not None and hasattr(os, "sched_setaffinity"):
        # Threads that wait for one another are slow where two processes want the same processors.
        share = sorted(os.sched_getaffinity(0))[int(own.removeprefix("gw")) % int(workers) :: int(workers)]
        if share:
            os.sched_setaffinity(0, share)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        level = item.path.relative_to(root).parts[0]
        if level in LEVELS:
            item.add_marker(level)
        if level == "unit":
            # In front of the test's own filters, which are applied after these and win.
            item.add_marker(pytest.mark.filterwarnings(*UNIT_WARNINGS), append=False)
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needs_gpu and not _cuda_is_available():
        for item in needs_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


def _cuda_is_available() -> bool:
    import torch

    return torch.cuda.is_available()
