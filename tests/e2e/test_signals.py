"""Signals to a process while its Ray starts, runs and ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import re, signal
from pathlib import Path
from ray_trash.cluster.connect import ray_session

def is_caught():
    caught = re.search(r"SigCgt:\\s*(\\w+)", Path("/proc/self/status").read_text())[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

signal.signal(signal.SIGTERM, lambda *_: None)
with ray_session(dashboard=False):
    print(is_caught())
print(is_caught())
"""


def test_the_kernel_still_finds_the_handler_of_sigterm_when_ray_has_gone() -> None:
    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    assert finished.stdout.split() == ["True", "True"]
