"""What HTTP costs: `python -m benchmarks.http_speed`.

The same JPEGs and the same engine four ways, in one run: a hand-written loop (two threads decode, the engine computes),
`ray-trash serve` flooded with requests of 64 photos, as forms and as JSON with base64, LitServe with that engine
flooded with the JSON, which it reads by itself, and single photos one after another through `serve`, against the
engine alone. All of them are up from the start and take turns, so that a machine whose speed drifts drifts for all.
Medians of photos a second, medians of their ratios round by round, and the milliseconds that HTTP adds to a photo.

LitServe is in the extra `bench`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude, ratio
from ray_trash.model.predictor import Predictor
from ray_trash.serve.child import START_TIMEOUT_S, endpoint
from ray_trash.serve.sockets import bind

BATCH = 64
CLIENTS = 3
"""Requests in flight: one is computed, one is decoded, one is on its way."""


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of JPEGs; left out, some are rendered")
    parser.add_argument("--checkpoint", help="a checkpoint; left out, random weights")
    parser.add_argument("--requests", type=int, default=8, help="requests of 64 photos per measurement (8)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, photos_of(options.data, BATCH) as files:
        checkpoint = Path(options.checkpoint or folder)
        if not options.checkpoint:
            write_random_checkpoint(checkpoint)
        photos = [file.read_bytes() for file in files]
        rates: dict[str, list[float]] = {"loop": [], "serve": [], "serve_json": [], "litserve": []}
        singles: dict[str, list[float]] = {"engine": [], "serve": []}
        predictor = Predictor.load(checkpoint, engine="auto")
        with endpoint(str(checkpoint)) as child, litserve(checkpoint) as other, httpx.Client(timeout=120) as client:
            sys.stderr.write(f"{child.said}\n")
            score = f"{child.url}/v1/score"
            one: dict[str, Any] = {"content": photos[0], "headers": {"content-type": "image/jpeg"}}
            form, tree = multipart(photos), as_json(photos)
            for _ in range(options.rounds):
                singles["engine"].append(
                    milliseconds(lambda: predictor.predict(predictor.prepare(photos[0])[np.newaxis]))
                )
                singles["serve"].append(milliseconds(lambda: client.post(score, **one).raise_for_status()))
                rates["loop"].append(loop_rate(predictor, photos, options.requests))
                rates["serve"].append(flood_rate(score, options.requests, files=form))
                rates["serve_json"].append(flood_rate(score, options.requests, json=tree))
                rates["litserve"].append(flood_rate(f"{other}/predict", options.requests, json=tree))
                sys.stderr.write(f"{ {name: [round(rate, 1) for rate in values] for name, values in rates.items()} }\n")
    single_ms, engine_ms = (statistics.median(singles[name]) for name in ("serve", "engine"))
    result: dict[str, Any] = {
        "photos_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "serve_over_loop": median_ratio(rates["serve"], rates["loop"]),
        "serve_over_litserve": median_ratio(rates["serve"], rates["litserve"]),
        "serve_json_over_litserve": median_ratio(rates["serve_json"], rates["litserve"]),
        "single_photo_ms": round(single_ms, 1),
        "engine_alone_ms": round(engine_ms, 1),
        "http_adds_ms": round(single_ms - engine_ms, 1),
    }
    speeds = result["photos_per_s"]

    def over(ours: str, theirs: str, at_least: float) -> Figure:
        value = median_ratio(rates[ours], rates[theirs])
        return ratio(f"{ours} over {theirs}", speeds[ours], speeds[theirs], value=value, at_least=at_least)

    conclude(
        [
            over("serve", "loop", 0.95),
            over("serve", "litserve", 1.0),
            over("serve_json", "litserve", 1.0),
            Figure("HTTP adds to one photo", single_ms - engine_ms, "ms", at_most=10, ours=single_ms, theirs=engine_ms),
        ],
        result,
    )


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median over the rounds of one rate over the other."""
    return round(statistics.median(our / their for our, their in zip(ours, theirs, strict=True)), 3)


def milliseconds(ask: Callable[[], Any], n: int = 40) -> float:
    """Return the median of calls one after another, in milliseconds."""
    for _ in range(5):
        ask()
    taken = []
    for _ in range(n):
        started = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def loop_rate(predictor: Predictor, photos: list[bytes], batches: int) -> float:
    """Return the photos a second of a loop in which two threads decode a batch ahead of the engine."""
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        decoded = [threads.submit(predictor.prepare, photo) for photo in photos]
        for number in range(batches):
            squares = np.stack([square.result() for square in decoded])
            if number + 1 < batches:
                decoded = [threads.submit(predictor.prepare, photo) for photo in photos]
            predictor.predict(squares)
    return batches * len(photos) / (time.perf_counter() - started)


def multipart(photos: list[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Lay out photos as a form."""
    return [("images", (f"{number}.jpg", photo, "image/jpeg")) for number, photo in enumerate(photos)]


def as_json(photos: list[bytes]) -> dict[str, Any]:
    """Lay out photos as JSON."""
    return {"images": [{"data": base64.b64encode(photo).decode()} for photo in photos]}


def flood_rate(url: str, requests: int, **content: Any) -> float:
    """Return the photos a second of an endpoint that never lacks a request; one round warms it."""
    with ThreadPoolExecutor(CLIENTS) as threads, httpx.Client(timeout=300) as client:

        def ask(_: int) -> None:
            client.post(url, **content).raise_for_status()

        list(threads.map(ask, range(CLIENTS)))
        started = time.perf_counter()
        list(threads.map(ask, range(requests)))
        return requests * BATCH / (time.perf_counter() - started)


@contextlib.contextmanager
def litserve(checkpoint: Path) -> Iterator[str]:
    """Run LitServe with the same engine until the block ends. Yields its address once it answers."""
    (free,) = bind("127.0.0.1", 0)
    with free:
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.litserve_endpoint", str(checkpoint), port]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not answers(f"{url}/health"):
            if child.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("LitServe did not start")
            time.sleep(0.5)
        yield url
    finally:
        # Its workers are processes of their own, in the same group.
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(timeout=30)


def answers(url: str) -> bool:
    """Say whether something is there."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    main()
