"""What the benchmarks of the endpoint share: clients that ask, and processes looked at."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import math
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.process_memory import memory_kib
from ray_trash.model.checkpoint import MARKER

NO_ANSWER = 0
"""What counts as the status of a request whose connection was lost, or that was not answered in time."""
TRY_NEXT = (NO_ANSWER, 502, 503, 504)
"""After which a balancer tries its next gateway. Source: Envoy's `gateway-error`."""
HANG_UP_S = 0.02
"""After how long a client that hangs up goes away: its request has arrived, and is not answered yet."""
CONNECT_TIMEOUT_S = 5.0
"""How long a gateway may take to accept a connection. Source: Envoy's `connect_timeout`."""
LOADING = (".__init__", ".initialize_and_get_metadata")
"""How Ray names replicas that have no model yet, at the end of their command line."""
_CLONE_NEWNET = 0x40000000
"""Source: <linux/sched.h>."""


def progress(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


def enter(namespace: Path) -> None:
    """Move this thread, and no other, into another network."""
    with namespace.open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


@dataclass(frozen=True)
class Asked:
    """A request that is over: when it was sent and when it ended, both of `time.monotonic`, and its status."""

    sent_s: float
    ended_s: float
    status: int
    hung_up: bool

    @property
    def lost(self) -> bool:
        """Say whether a client that waited got no answer."""
        return not self.hung_up and self.status != 200


class Clients:
    """Requests of one photo that arrive at a rate of their own in the block, at each of some gateways in turn.

    What a gateway does not answer is asked of the next one, once, as a balancer does.
    """

    def __init__(
        self,
        urls: Sequence[str],
        photo: bytes,
        *,
        requests_per_s: float,
        try_timeout_s: float = 60.0,
        hang_up_every: int = 0,
        namespace: Path | None = None,
    ) -> None:
        """Say who is asked, and how.

        Args:
            urls: The gateways.
            photo: A JPEG.
            requests_per_s: How many requests arrive.
            try_timeout_s: How long one gateway may take.
            hang_up_every: Every so manieth client goes away before it is answered; 0 none does.
            namespace: The network they are in, a file such as /run/netns/NAME. Default: that of this process.
        """
        self.asked: list[Asked] = []
        self._urls, self._photo, self._pause_s = urls, photo, 1 / requests_per_s
        self._try_timeout_s, self._hang_up_every, self._namespace = try_timeout_s, hang_up_every, namespace
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Clients:
        """Begin to ask."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more, and wait for what is not answered yet."""
        self._over.set()
        self._thread.join(timeout=3 * self._try_timeout_s)
        if self._failure is not None:
            raise RuntimeError("the clients stopped asking") from self._failure

    def since(self, began_s: float) -> Window:
        """Return what became of requests that were sent from then on."""
        return Window([each for each in list(self.asked) if each.sent_s >= began_s])

    def _run(self) -> None:
        try:
            if self._namespace is not None:
                enter(self._namespace)
            asyncio.run(self._arrive())
        except BaseException as failure:
            self._failure = failure

    async def _arrive(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        timeout = httpx.Timeout(self._try_timeout_s, connect=CONNECT_TIMEOUT_S)
        async with httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False) as client:
            began_s, waiting = time.monotonic(), set[asyncio.Task[None]]()
            for number in itertools.count(1):
                if self._over.is_set():
                    break
                task = asyncio.ensure_future(self._ask(client, number))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                await asyncio.sleep(max(0.0, began_s + number * self._pause_s - time.monotonic()))
            await asyncio.gather(*waiting)

    async def _ask(self, client: httpx.AsyncClient, number: int) -> None:
        sent_s = time.monotonic()
        hangs_up = self._hang_up_every > 0 and number % self._hang_up_every == 0
        status = NO_ANSWER
        for attempt in range(min(2, len(self._urls))):
            url = self._urls[(number + attempt) % len(self._urls)]
            status = await self._try(client, url, HANG_UP_S if hangs_up else self._try_timeout_s)
            if hangs_up or status not in TRY_NEXT:
                break
        self.asked.append(Asked(sent_s, time.monotonic(), status, hangs_up))

    async def _try(self, client: httpx.AsyncClient, url: str, timeout_s: float) -> int:
        photo: dict[str, Any] = {"content": self._photo, "headers": {"content-type": "image/jpeg"}}
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                return (await client.post(f"{url}/v1/score", **photo)).status_code
        return NO_ANSWER


@dataclass(frozen=True)
class Window:
    """What became of some requests."""

    asked: list[Asked]

    @property
    def lost(self) -> int:
        """Count requests without an answer."""
        return sum(each.lost for each in self.asked)

    @property
    def statuses(self) -> dict[int, int]:
        """Count requests of clients that waited by status."""
        return dict(Counter(each.status for each in self.asked if not each.hung_up))

    @property
    def longest_gap_s(self) -> float:
        """Return the longest time in which nobody was answered although somebody asked."""
        if not self.asked:
            return math.inf
        first_s, last_s = min(each.sent_s for each in self.asked), max(each.ended_s for each in self.asked)
        answers = sorted(each.ended_s for each in self.asked if each.status == 200)
        return max(later - before for before, later in itertools.pairwise([first_s, *answers, last_s]))

    def answered_ms(self) -> NDArray[np.float64]:
        """Return how long each answer took."""
        return 1000 * np.array([each.ended_s - each.sent_s for each in self.asked if each.status == 200])

    def percentile_ms(self, percent: float) -> float:
        """Return how long answers took."""
        taken = self.answered_ms()
        return float(np.percentile(taken, percent)) if len(taken) else math.inf


def session_of(session: int) -> list[int]:
    """List the processes of a session: they stay in it when whoever started them has gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session and "Z" not in _state(entry):
                    found.append(int(entry.name))
    return found


def loaded(pids: Iterable[int], deployment: str | None = None) -> list[int]:
    """Return those that are replicas of Ray Serve, of one deployment or any, and have loaded what they run."""
    lines = {pid: command_line(pid) for pid in pids}
    replicas = {pid: line for pid, line in lines.items() if "ServeReplica:" in line and not line.endswith(LOADING)}
    return [pid for pid, line in replicas.items() if deployment in (None, line.rpartition(":")[2].partition(".")[0])]


def command_line(pid: int) -> str:
    """Return a process's command line; an ended one has none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


@dataclass(frozen=True)
class Held:
    """What processes hold: memory, with pages that several share counted once, and descriptors."""

    mib: float
    descriptors: int


def held_by(pids: Iterable[int]) -> Held:
    """Look at some processes; what they share in memory, as Ray's object store, counts whether or not it is mapped."""
    private_kib, descriptors, shared_bytes = 0, 0, dict[tuple[int, int], int]()
    for pid in pids:
        memory = memory_kib(pid)
        private_kib += memory.get("Pss", 0) - memory.get("Pss_Shmem", 0)
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                descriptors += 1
                with contextlib.suppress(OSError):
                    if link.readlink().is_relative_to("/dev/shm"):
                        about = link.stat()
                        shared_bytes[about.st_dev, about.st_ino] = 512 * about.st_blocks
    return Held(private_kib / 1024 + sum(shared_bytes.values()) / 2**20, descriptors)


def publish(checkpoint: Path, run: Path, *, mark: int = 0) -> None:
    """Put a checkpoint in a run's place in one step; a marker of other bytes is another one to whoever watches."""
    new = run / "new"
    shutil.copytree(checkpoint, new)
    marker = new / MARKER
    marker.write_text(marker.read_text() + "\n" * mark)
    if (run / "checkpoint").exists():
        (run / "checkpoint").rename(run / "old")
    new.rename(run / "checkpoint")
    shutil.rmtree(run / "old", ignore_errors=True)


def exchange(url: str, outcome: str, checkpoint: Path, run: Path, *, mark: int = 0, timeout_s: float = 300.0) -> None:
    """Publish a checkpoint, and wait until the endpoint that watches has moved to it, `done`, or `refused` it.

    Raises:
        TimeoutError: It does neither.
    """

    def attempt() -> dict[str, str]:
        return dict(httpx.get(f"{url}/v1/model", timeout=60).json()["swap"])

    before = attempt()
    publish(checkpoint, run, mark=mark)
    deadline_s = time.monotonic() + timeout_s
    while (now := attempt()) == before or now["status"] != outcome:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no checkpoint was {outcome} for {timeout_s:g} s: {now}")
        time.sleep(0.5)
