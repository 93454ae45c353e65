"""What the endpoint does under too much work and with dying replicas: `python -m benchmarks.http_faults`.

First its peak is measured: requests of 16 photos, as many as it takes. Then requests arrive at three times that rate
for `--seconds`, whether or not the ones before have been answered: how many photos are still answered a second, and how
long it takes to be turned away. Then requests arrive at half the peak while a replica is killed ten times: once through
plain HTTP, where every answer counts, and once through the client, which tries again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude, ratio
from benchmarks.http_speed import flood_rate, multipart
from ray_trash.errors import RayTrashError
from ray_trash.serve.child import endpoint
from ray_trash.serve.client import Client

BATCH = 16
KILLS = 10


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of JPEGs; left out, some are rendered")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (60)")
    parser.add_argument("--kills", type=int, default=KILLS, help="of replicas, each of both times (10)")
    parser.add_argument("--kill-every-s", type=float, default=15.0, help="time to load a model on a busy machine (15)")
    parser.add_argument("--size-px", type=int, default=224)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, photos_of(options.data, BATCH) as files:
        write_random_checkpoint(Path(folder), size_px=options.size_px)
        photos = [(file.name, file.read_bytes()) for file in files]
        with endpoint(folder, "--replicas", "2") as child:
            url, pid = child.url, child.pid
            content = multipart([photo for _, photo in photos])
            peak = flood_rate(f"{url}/v1/score", 24, files=content) * BATCH / 64
            flood = asyncio.run(arrive(url, content, 3 * peak / BATCH, options.seconds))
            killing_s = options.kills * options.kill_every_s
            raw = asyncio.run(arrive(url, content, 0.5 * peak / BATCH, killing_s, options.kills, pid))
            client = asyncio.run(arrive(url, photos, 0.5 * peak / BATCH, killing_s, options.kills, pid))
    result = {
        "peak_photos_per_s": round(peak, 1),
        "overload": {
            "answered_photos_per_s": round(flood.answered * BATCH / options.seconds, 1),
            "goodput_over_peak": round(flood.answered * BATCH / options.seconds / peak, 3),
            "turned_away": flood.statuses[503],
            "turned_away_p99_ms": flood.percentile_ms(503, 99),
            "answered_p99_ms": flood.percentile_ms(200, 99),
            "statuses": dict(flood.statuses),
        },
        "kills_raw": {"statuses": dict(raw.statuses), "answered": round(raw.answered / raw.asked, 5)},
        "kills_client": {"statuses": dict(client.statuses), "answered": round(client.answered / client.asked, 5)},
    }
    conclude(
        [
            ratio("photos answered under overload over the peak", flood.answered * BATCH / options.seconds, peak),
            *(Figure("p99 of being turned away", ms, "ms") for ms in [flood.percentile_ms(503, 99)] if ms is not None),
            Figure("answered while replicas are killed, one try", raw.answered / raw.asked),
            Figure("answered while replicas are killed, by the client", client.answered / client.asked, at_least=1),
        ],
        result,
    )


class Tally:
    """What became of requests."""

    def __init__(self) -> None:
        """Start with none."""
        self.statuses: Counter[int] = Counter()
        self.seconds: dict[int, list[float]] = {}

    def add(self, status: int, seconds: float) -> None:
        """Count one."""
        self.statuses[status] += 1
        self.seconds.setdefault(status, []).append(seconds)

    @property
    def answered(self) -> int:
        """Requests that were answered."""
        return self.statuses[200]

    @property
    def asked(self) -> int:
        """Requests in all."""
        return self.statuses.total()

    def percentile_ms(self, status: int, percent: float) -> float | None:
        """Return how long answers of a status took."""
        taken = self.seconds.get(status)
        return round(1000 * float(np.percentile(taken, percent)), 1) if taken else None


async def arrive(
    url: str, content: Any, requests_per_s: float, seconds: float, n_kills: int = 0, kill_below: int = 0
) -> Tally:
    """Send requests at a rate of their own, and kill so many replicas below a process, spread over that time."""
    tally, sent = Tally(), []
    through_client = isinstance(content[0][1], bytes)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with Client(url, timeout_s=120) as patient:
        async with httpx.AsyncClient(timeout=120, limits=limits) as client:

            async def ask() -> None:
                started = time.perf_counter()
                try:
                    if through_client:
                        await asyncio.to_thread(patient.score, content)
                        status = 200
                    else:
                        status = (await client.post(f"{url}/v1/score", files=content)).status_code
                except (httpx.HTTPError, RayTrashError):
                    status = 0
                tally.add(status, time.perf_counter() - started)

            started = time.monotonic()
            kills = 0
            while (elapsed := time.monotonic() - started) < seconds:
                if kills < n_kills and elapsed > (kills + 0.5) * seconds / n_kills:
                    kills += kill_replica(kill_below)
                sent.append(asyncio.ensure_future(ask()))
                await asyncio.sleep(max(0.0, started + len(sent) / requests_per_s - time.monotonic()))
            await asyncio.gather(*sent)
    return tally


def kill_replica(parent: int) -> int:
    """Kill one process that answers. Returns how many were killed."""
    session = os.getsid(parent)
    for folder in Path("/proc").iterdir():
        try:
            belongs = folder.name.isdigit() and os.getsid(int(folder.name)) == session
            if belongs and b"ServeReplica" in (folder / "cmdline").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
                return 1
        except OSError:
            continue
    return 0


if __name__ == "__main__":
    main()
