"""What a process of an endpoint loads before it can begin."""

from __future__ import annotations

import subprocess
import sys


def test_the_process_that_takes_requests_loads_no_torch() -> None:
    code = "import sys, ray_trash.serve.app, ray_trash.serve.endpoint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=300).returncode == 0
