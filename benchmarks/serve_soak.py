"""Whether the endpoint stays as it is for as long as it runs: `python -m benchmarks.serve_soak --minutes 30`.

First its peak is measured, and how long a single photo takes at 60 % of it while nobody disturbs it. Then photos arrive
at that rate for `--minutes`: a replica is killed every two minutes, the model is exchanged every three, and one client
in twenty goes away before it is answered. Memory and descriptors of all its processes are looked at in between. Prints
a table, and ends with 1 where an answer was lost, answers took more than twice as long, or more is held at the end than
at the start.
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

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude
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
UNDISTURBED_S = 60.0
MOST_GROWTH_PERCENT = 3.0
MOST_SLOWER = 2.0
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
    parser.add_argument("--undisturbed-s", type=float, default=UNDISTURBED_S, help="before it (60)")
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
            peak = peak_per_s(child.url, encoded)
            progress(f"peak: {peak:.1f} requests a second at {child.url}")
            rate = SHARE_OF_PEAK * peak
            with Clients([child.url], encoded, requests_per_s=rate) as calm:
                time.sleep(options.undisturbed_s)
            before = calm.since(0)
            progress(f"undisturbed: p99 {before.percentile_ms(99):.0f} ms")
            levels = Levels(child.pid)
            with Clients([child.url], encoded, requests_per_s=rate, hang_up_every=HANG_UP_EVERY) as clients:
                disturb(child, folder, levels, clients, options)
            conclude(figures_of(levels, before, clients.since(0)))


def disturb(child: Child, folder: Path, levels: Levels, clients: Clients, options: argparse.Namespace) -> None:
    """Kill, exchange and look for as long as asked."""
    began_s = time.monotonic()
    kills = exchanges = 0
    while (elapsed_s := time.monotonic() - began_s) < 60 * options.minutes:
        if elapsed_s > (kills + 1) * options.kill_every_s:
            kills += kill_replica(child.pid)
        elif elapsed_s > (exchanges + 1) * options.exchange_every_s:
            exchanges += 1
            exchange(child.url, "done", folder / str(exchanges % 2), folder / "run")
        else:
            levels.look()
            if levels.seen:
                held = levels.seen[-1][1]
                progress(
                    f"{elapsed_s:.0f} s: {held.mib:.0f} MiB, {held.descriptors} descriptors, {kills} kills, "
                    f"{exchanges} exchanges, {clients.since(0).lost} lost"
                )
        time.sleep(LOOK_EVERY_S)


def figures_of(levels: Levels, before: Window, after: Window) -> list[Figure]:
    """Hold what was seen against the limits."""
    calm_ms, disturbed_ms = before.percentile_ms(99), after.percentile_ms(99)
    return [
        Figure("requests", len(after.asked), ""),
        Figure("answers lost", after.lost + before.lost, "", 0),
        Figure("hung up", sum(each.hung_up for each in after.asked), ""),
        Figure("p99 of a photo, undisturbed", calm_ms, "ms"),
        Figure("p99 of a photo, disturbed", disturbed_ms, "ms"),
        Figure("disturbed over undisturbed", disturbed_ms / calm_ms, "", MOST_SLOWER),
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
