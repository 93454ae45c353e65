"""A command whose cluster's head has gone ends."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

SCRIPT = """
import argparse, socket, time
from ray_trash import cli
from ray_trash.cluster import head
head.LOOK_EVERY_S, head.END_TIMEOUT_S = 0.01, {end_timeout_s}

def work(options, terminal):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        watching = head.watching_head(address)
        watching.__enter__()
        time.sleep(0.1)
    try:
        time.sleep(600)
    finally:
        time.sleep({cleaning_s})

class Parser:
    def parse_args(self, arguments):
        return argparse.Namespace(action=work, json=None, has_log=False, way_on="To continue: here.")

cli.build_parser = Parser
cli.command()
"""


@pytest.mark.parametrize(("cleaning_s", "end_timeout_s"), [(0, 60), (600, 0.1)])
def test_a_command_without_a_head_ends_with_one_line_whatever_it_waits_for(
    cleaning_s: float, end_timeout_s: float
) -> None:
    script = SCRIPT.format(cleaning_s=cleaning_s, end_timeout_s=end_timeout_s)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 6, ended.stderr
    assert re.fullmatch(
        r"error: the cluster's head at \S+ has gone; start it again\. To continue: here\.\n", ended.stderr
    )
