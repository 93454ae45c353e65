"""What is compiled by OpenVINO comes and goes without harm to the process that it is compiled in."""

from __future__ import annotations

import subprocess
import sys

_COMES_AND_GOES = """
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


def test_a_signal_is_heard_after_networks_were_compiled_and_let_go() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _COMES_AND_GOES], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
