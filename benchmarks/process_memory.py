"""What a command takes of time and memory: its own process, and all that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S, POLL_SHARE = 0.5, 0.05
"""Between two looks, at least, and the share of the time that looking may take: in processes that map gigabytes of
Ray's memory the kernel counts pages for tenths of a second, and holds up whoever wants another one."""


@dataclass(frozen=True)
class Taken:
    """What a command took, and what it wrote.

    `driver_mib` is the peak of its own process, what it shares with others included; `all_mib` that of it and all below
    it, pages that they share counted once.
    """

    seconds: float
    driver_mib: float
    all_mib: float
    stdout: str
    stderr: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Taken:
    """Run a command to its end; where it fails this process ends with what it said."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, **(environment or {})})
        driver = everything = 0.0
        while child.poll() is None:
            looked = time.perf_counter()
            processes = [memory_kib(process) for process in tree(child.pid)]
            driver = max(driver, processes[0].get("Rss", 0) / 1024)
            everything = max(everything, sum(memory.get("Pss", 0) for memory in processes) / 1024)
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(POLL_S, (time.perf_counter() - looked) / POLL_SHARE))
        seconds = time.perf_counter() - started
        stdout.seek(0)
        stderr.seek(0)
        if child.returncode != 0:
            sys.exit(stderr.read())
        return Taken(seconds, driver, everything, stdout.read(), stderr.read())


def tree(root: int) -> list[int]:
    """Return the numbers of a process, first, and of all below it."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has just ended
            children[parent].append(int(entry.name))
    found = [root]
    for process in found:
        found += children[process]
    return found


def memory_kib(process: int) -> dict[str, int]:
    """Return the entries of a process in `/proc/PID/smaps_rollup`; none where it has just ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
