"""Waiting that ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import time
from ray_trash.cluster.waiting import or_end
with or_end(60):
    pass
print("in time", flush=True)
with or_end(0.2):
    time.sleep(60)
"""


def test_work_that_takes_too_long_ends_its_process_and_shows_where() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=40, check=False)
    assert ended.returncode == 1
    assert ended.stdout == "in time\n"
    assert "Timeout" in ended.stderr
    assert 'File "<string>"' in ended.stderr
