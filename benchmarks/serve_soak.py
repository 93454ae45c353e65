"""Whether the endpoint stays as it is for as long as it runs: `python -m benchmarks.serve_soak --minutes 30`.

In rounds: its peak is measured, and how long a single photo takes at 60 % of it while nobody disturbs it; then photos
arrive at that rate for a share of `--minutes`, a replica is killed every two minutes, the model is exchanged every
three, and one client in twenty goes away before it is answered. Answers are compared with the undisturbed ones of their
round, since machines that are shared get faster and slower within minutes. Memory and descriptors of all its processes
are looked at in between. Prints a table, and ends with 1 where an answer was lost, answers took more than twice as
long, or more is held at the end than at the start.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude, ratio
from benchmarks.http_faults import kill_replica
from benchmarks.serving import (
    Clients,
    Held,
    Window,
    exchange,
    held_by,
    loaded,
    progress,
    publish,
    session_of,
)
from ray_trash.serve.child import Child, endpoint

REPLICAS = 2
SHARE_OF_PEAK = 0.6
KILL_EVERY_S, EXCHANGE_EVERY_S, LOOK_EVERY_S = 120.0, 180.0, 5.0
HANG_UP_EVERY = 20
UNDISTURBED_S, ROUNDS = 60.0, 3
MOST_GROWTH_PERCENT = 3.0
MOST_SLOWER = 2.0
SETTLE_TIMEOUT_S, BEGIN_S = 120.0, 3.0
WARM_SHARE = 0.2
"""Of the time: until then memory may grow, as what is used for the first time is loaded."""


@dataclass
class Levels:
    """What all processes of an endpoint hold, over time, while as many of them live as should."""

    session: int
    seen: list[tuple[float, Held]] = field(default_factory=list)

    def look(self) -> None:
        """Note what they hold, unless a replica is being replaced."""
        pids = session_of(self.session)
        if len(loaded(pids)) == REPLICAS:
            self.seen.append((time.monotonic(), held_by(pids)))

    def settle(self) -> None:
        """Wait until nothing of what was done to it is left: the next peak would be that of fewer replicas."""
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        while len(loaded(session_of(self.session))) != REPLICAS:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"there are not {REPLICAS} replicas again within {SETTLE_TIMEOUT_S:g} s")
            time.sleep(1)

    def growth_percent(self, of: Callable[[Held], float]) -> float:
        """Return by how much the last fifth is above the first one after it is warm, by their medians."""
        if not self.seen:
            return math.inf
        warm = self.seen[int(WARM_SHARE * len(self.seen)) :]
        n = max(1, len(warm) // 5)
        first, last = (statistics.median(of(held) for _, held in part) for part in (warm[:n], warm[-n:]))
        return 100 * (last / first - 1)


def main() -> None:
    """Disturb it for as long as asked, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of equal length (3)")
    parser.add_argument("--undisturbed-s", type=float, default=UNDISTURBED_S, help="before each of them (60)")
    parser.add_argument("--size-px", type=int, default=224)
    parser.add_argument("--kill-every-s", type=float, default=KILL_EVERY_S)
    parser.add_argument("--exchange-every-s", type=float, default=EXCHANGE_EVERY_S)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, photos_of(None, 1) as (photo,):
        folder, encoded = Path(name), photo.read_bytes()
        for seed in (0, 1):
            write_random_checkpoint(folder / str(seed), seed=seed, size_px=options.size_px)
        run = folder / "run"
        publish(folder / "0", run)
        arguments = ["--watch", str(run), "--replicas", str(REPLICAS), "--set", "serve.watch_interval_s=0.5"]
        with endpoint(*arguments) as child:
            levels, rounds = Levels(child.pid), list[Round]()
            disturbing = Disturbing(child, folder, levels, options)
            for number in range(1, options.rounds + 1):
                levels.settle()
                rate = SHARE_OF_PEAK * peak_per_s(child.url, encoded)
                with Clients([child.url], encoded, requests_per_s=rate) as clients:
                    calm = Stretch.begin(clients)
                    time.sleep(options.undisturbed_s)
                progress(f"{rate:.1f} requests a second at {child.url}: p99 {calm.timed.percentile_ms(99):.0f} ms")
                with Clients([child.url], encoded, requests_per_s=rate, hang_up_every=HANG_UP_EVERY) as clients:
                    rounds.append(Round(calm, Stretch.begin(clients)))
                    disturbing.until(60 * options.minutes * number / options.rounds, rounds[-1])
            conclude(figures_of(levels, rounds))


@dataclass(frozen=True)
class Stretch:
    """Clients that ask, and from when on it counts how long their answers take: the first ones connect."""

    clients: Clients
    timed_from_s: float

    @classmethod
    def begin(cls, clients: Clients) -> Stretch:
        """Let clients that were just started connect."""
        time.sleep(BEGIN_S)
        return cls(clients, time.monotonic())

    @property
    def all(self) -> Window:
        """Return what became of all requests until now."""
        return self.clients.since(0)

    @property
    def timed(self) -> Window:
        """Return what became of those whose time counts."""
        return self.clients.since(self.timed_from_s)


@dataclass(frozen=True)
class Round:
    """A stretch in which nobody disturbed, and the one after it."""

    calm: Stretch
    disturbed: Stretch

    def slowness(self) -> NDArray[np.float64]:
        """Return how long each disturbed answer took, by the undisturbed p99."""
        return self.disturbed.timed.answered_ms() / self.calm.timed.percentile_ms(99)


@dataclass
class Disturbing:
    """Kills and exchanges by a clock that runs while there are any."""

    child: Child
    folder: Path
    levels: Levels
    options: argparse.Namespace
    elapsed_s: float = 0.0
    kills: int = 0
    exchanges: int = 0

    def until(self, end_s: float, about: Round) -> None:
        """Kill, exchange and look for as long as asked."""
        began_s = time.monotonic() - self.elapsed_s
        while (now_s := time.monotonic() - began_s) < end_s:
            if now_s > (self.kills + 1) * self.options.kill_every_s:
                self.kills += kill_replica(self.child.pid)
            elif now_s > (self.exchanges + 1) * self.options.exchange_every_s:
                self.exchanges += 1
                exchange(self.child.url, "done", self.folder / str(self.exchanges % 2), self.folder / "run")
            else:
                self.levels.look()
                self._tell(now_s, about)
            time.sleep(LOOK_EVERY_S)
        self.elapsed_s = now_s

    def _tell(self, now_s: float, about: Round) -> None:
        for _, held in self.levels.seen[-1:]:
            slow = int((about.slowness() > MOST_SLOWER).sum())
            progress(
                f"{now_s:.0f} s: {held.mib:.0f} MiB, {held.descriptors} descriptors, {self.kills} kills, "
                f"{self.exchanges} exchanges, {about.disturbed.all.lost} lost, {slow} slow"
            )


def figures_of(levels: Levels, rounds: list[Round]) -> list[Figure]:
    """Hold what was seen against the limits."""
    calm_ms = statistics.median(each.calm.timed.percentile_ms(99) for each in rounds)
    disturbed_ms = statistics.median(each.disturbed.timed.percentile_ms(99) for each in rounds)
    slower = float(np.percentile(np.concatenate([each.slowness() for each in rounds]), 99))
    asked = [asked for each in rounds for asked in each.disturbed.all.asked]
    return [
        Figure("requests", len(asked), ""),
        Figure("answers lost", sum(each.calm.all.lost + each.disturbed.all.lost for each in rounds), "", 0),
        Figure("hung up", sum(each.hung_up for each in asked), ""),
        ratio(
            "p99 of a photo, disturbed over undisturbed", disturbed_ms, calm_ms, "ms", value=slower, at_most=MOST_SLOWER
        ),
        *(Figure("memory at the end", held.mib, "MiB") for _, held in levels.seen[-1:]),
        Figure("memory, growth", levels.growth_percent(lambda held: held.mib), "%", MOST_GROWTH_PERCENT),
        Figure("descriptors, growth", levels.growth_percent(lambda held: held.descriptors), "%", MOST_GROWTH_PERCENT),
    ]


def peak_per_s(url: str, photo: bytes, *, clients: int = 8, requests: int = 200) -> float:
    """Return how many requests of one photo are answered a second where there is never a lack of them."""
    with ThreadPoolExecutor(clients) as threads, httpx.Client(timeout=120) as client:

        def ask(_: int) -> None:
            client.post(f"{url}/v1/score", content=photo, headers={"content-type": "image/jpeg"}).raise_for_status()

        list(threads.map(ask, range(clients)))
        began_s = time.perf_counter()
        list(threads.map(ask, range(requests)))
        return requests / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
