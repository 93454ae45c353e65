"""Signals to a process while its Ray starts, runs and ends, and while OpenVINO's networks come and go."""

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
NETWORKS = """
import signal
import numpy as np
from ray_trash.model.openvino_network import import_openvino

def small_network():
    photo = openvino.opset13.parameter([1, 4], np.float32)
    return openvino.Model([openvino.opset13.relu(photo)], [photo])

openvino, heard = import_openvino(), []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
first = openvino.compile_model(small_network(), "CPU")
second = openvino.Core().compile_model(small_network(), "CPU")
del first
del second
signal.raise_signal(signal.SIGTERM)
assert heard == [signal.SIGTERM]
"""


def test_the_kernel_still_finds_the_handler_of_sigterm_when_ray_has_gone() -> None:
    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    assert finished.stdout.split() == ["True", "True"]


def test_a_signal_is_heard_after_networks_were_compiled_and_let_go() -> None:
    ended = subprocess.run([sys.executable, "-c", NETWORKS], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
