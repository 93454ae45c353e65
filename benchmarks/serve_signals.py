"""How the endpoint ends when it is told to at any moment: `python -m benchmarks.serve_signals`.

Starts `ray-trash serve --watch` again and again, and sends SIGTERM, or every other time SIGINT, at moments spread over
its start, an exchange of its model, load, and its stop (a second signal after the first). An end is clean where the
command has ended within 15 s with exit code 0, or that of the signal where it was not up yet, and leaves no process, no
one at its port, and no folder of Ray's. Prints a line an end, then a table, and ends with 1 where one was not clean.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude
from benchmarks.serving import Clients, command_line, progress, publish, session_of
from ray_trash.serve.child import START_TIMEOUT_S
from ray_trash.serve.sockets import bind

MOMENTS = ("start", "exchange", "load", "stop")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
END_S = 15.0
"""How long an end may take."""
GIVEN_UP_S = 60.0
LONGEST_EXCHANGE_S = 12.0
"""Over which the moments of an exchange are spread: replicas of the next model load, those of the one before end."""
LONGEST_STOP_S = 4.0
_READY = re.compile(r"ready: (http://\S+) ")


@dataclass(frozen=True)
class End:
    """One end of an endpoint: when it was told to stop and by what, how it ended, and what it left."""

    moment: str
    after_s: float
    by: str
    seconds: float
    exit_code: int | None
    left: tuple[str, ...]
    said: str

    @property
    def is_clean(self) -> bool:
        """Say whether it ended as it should."""
        number = signal.Signals[self.by].value
        # Before Python has started, the kernel ends the process.
        codes = (0, 128 + number, -number) if self.moment == "start" else (0,)
        return self.exit_code in codes and self.seconds <= END_S and not self.left


def main() -> None:
    """Start and end it, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=list(MOMENTS))
    parser.add_argument("--requests-per-s", type=float, default=5.0, help="where there is load (5)")
    options = parser.parse_args()
    ends = list[End]()
    with tempfile.TemporaryDirectory() as name, photos_of(None, 1) as (photo,):
        folder = Path(name)
        for seed in (0, 1):
            write_random_checkpoint(folder / str(seed), seed=seed, size_px=64)
        start_s = 20.0
        for number in range(options.times):
            moment = options.moments[number % len(options.moments)]
            by = SIGNALS[number // len(options.moments) % len(SIGNALS)]
            # Evenly over the moment, in an order that does not go by the kind of the signal.
            share = (number // len(options.moments) * 0.618) % 1
            with Started(folder, number) as started:
                if moment == "start":
                    after_s = share * start_s
                    started.wait_s(after_s)
                    end = started.end(moment, after_s, by)
                else:
                    start_s = started.wait_until_ready()
                    with Clients([started.url], photo.read_bytes(), requests_per_s=options.requests_per_s):
                        end = end_at(moment, share, by, started, folder)
            ends.append(end)
            verdict = "clean" if end.is_clean else f"NOT CLEAN: {end}"
            progress(f"{number + 1}: {end.by} {end.after_s:.1f} s into {moment}, {end.seconds:.1f} s: {verdict}")
    conclude(figures_of(ends))


def figures_of(ends: list[End]) -> Iterator[Figure]:
    """Count ends that were not clean, by moment, and say how long they took."""
    for moment in dict.fromkeys(end.moment for end in ends):
        these = [end for end in ends if end.moment == moment]
        unclean = sum(not end.is_clean for end in these)
        yield Figure(f"{moment}: ends that were not clean, of {len(these)}", unclean, "", 0)
        yield Figure(f"{moment}: longest end", max(end.seconds for end in these), "s", END_S)


def end_at(moment: str, share: float, by: signal.Signals, started: Started, folder: Path) -> End:
    """Tell an endpoint that is ready to stop, so far into a moment."""
    if moment == "exchange":
        publish(folder / "1", started.run)
        started.wait_s(after_s := share * LONGEST_EXCHANGE_S)
    elif moment == "load":
        started.wait_s(after_s := share)
    else:
        started.send(by)
        started.wait_s(after_s := share * LONGEST_STOP_S)
    return started.end(moment, after_s, by)


class Started:
    """An endpoint that watches a run of its own, with folders of its own; whatever it leaves ends with the block."""

    def __init__(self, folder: Path, number: int) -> None:
        """Start it."""
        self.run = folder / f"run-{number}"
        publish(folder / "0", self.run)
        (free,) = bind("127.0.0.1", 0)
        self.port = free.getsockname()[1]
        free.close()
        self.url = f"http://127.0.0.1:{self.port}"
        # Short, for Ray's sockets are below it.
        self._temporary = tempfile.TemporaryDirectory(prefix="rts", dir="/tmp", ignore_cleanup_errors=True)
        self._log = Path(self._temporary.name) / "stderr"
        command = [sys.executable, "-m", "ray_trash", "serve", "--watch", str(self.run), "--port", str(self.port)]
        command += ["--set", "serve.watch_interval_s=0.2", "--set", "serve.log_format=text"]
        self.began_s = time.monotonic()
        self._told_s: float | None = None
        with self._log.open("w") as log:
            self.child = subprocess.Popen(
                command,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "TMPDIR": self._temporary.name, "RAY_TMPDIR": self._temporary.name},
            )

    def __enter__(self) -> Started:
        """Take it as it is."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left of it."""
        for pid in session_of(self.child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()
        self._temporary.cleanup()
        shutil.rmtree(self.run)

    def wait_until_ready(self) -> float:
        """Return how long it took until it answered, since it was started."""
        while not _READY.search(self._log.read_text()):
            if self.child.poll() is not None or time.monotonic() - self.began_s > START_TIMEOUT_S:
                raise RuntimeError(f"the endpoint did not start: {self._log.read_text()}")
            time.sleep(0.05)
        return time.monotonic() - self.began_s

    def wait_s(self, seconds: float) -> None:
        """Wait, unless it ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout=seconds)

    def send(self, by: signal.Signals) -> None:
        """Tell it to stop."""
        self._told_s = self._told_s or time.monotonic()
        self.child.send_signal(by)

    def end(self, moment: str, after_s: float, by: signal.Signals) -> End:
        """Tell it to stop, and look what is left once it has ended."""
        self.send(by)
        assert self._told_s is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(timeout=GIVEN_UP_S)
        # Ray's processes notice that the command has gone.
        while session_of(self.child.pid) and time.monotonic() - self._told_s < END_S:
            time.sleep(0.05)
        seconds = time.monotonic() - self._told_s
        return End(
            moment, after_s, by.name, seconds, self.child.returncode, tuple(self._left()), self._log.read_text()[-2000:]
        )

    def _left(self) -> Iterator[str]:
        for pid in session_of(self.child.pid):
            yield command_line(pid)[:120]
        with socket.socket() as other, contextlib.suppress(OSError):
            other.settimeout(1)
            other.connect(("127.0.0.1", self.port))
            yield f"somebody at port {self.port}"
        for path in Path(self._temporary.name).rglob("*"):
            if path != self._log and (not path.is_dir() or path.name.startswith("session_")):
                yield str(path.relative_to(self._temporary.name))


if __name__ == "__main__":
    main()
