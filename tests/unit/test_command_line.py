"""What is wrong with a command line before any command looks at it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["audit", b"\xff/photos"], ["evaluate", "a", "--data", "b", "--out", b"\xff"]])
def test_a_name_that_is_not_utf8_is_one_line(arguments: list[str | bytes]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ray_trash", *arguments], capture_output=True, check=False, timeout=60
    )
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("error: \\xff")
    assert "not UTF-8" in line
