"""What the command refuses before it does anything."""

from __future__ import annotations

import subprocess
import sys


def test_a_python_without_docstrings_is_refused() -> None:
    command = [sys.executable, "-OO", "-m", "ray_trash", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: python -OO or PYTHONOPTIMIZE=2: ")
