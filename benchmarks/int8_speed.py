"""What int8 gains over the float network: `python -m benchmarks.int8_speed`.

One network, as a float checkpoint (in bf16 where the processor has it, else fp32) and as the int8 one that `quantize`
makes of it, in one run: `ray-trash score` with one worker, beside a loop by hand in this process with the same engine
and decoder; `ray-trash serve` flooded with requests of 64 photos, beside a loop by hand and, with int8, beside LitServe
with the same engine; and single photos over HTTP, one after another, beside the engine alone. Each pair takes turns, so
that a machine whose speed drifts drifts for both. Medians of photos a second, and of their ratios round by round. How
much faster int8 is depends on the processor: with VNNI or AMX more.

NNCF is in the extra `int8`, LitServe in the extra `bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.answering import photos_of, write_int8_checkpoint, write_random_checkpoint
from benchmarks.figures import Figure, conclude, ratio
from benchmarks.http_speed import (
    BATCH,
    as_json,
    flood_rate,
    litserve,
    loop_rate,
    median_ratio,
    milliseconds,
    multipart,
)
from benchmarks.score_speed import speed_by_hand
from ray_trash.cluster.connect import ray_session
from ray_trash.model.predictor import Predictor
from ray_trash.score.run import score_here
from ray_trash.serve.child import endpoint
from ray_trash.terminal.say import Terminal

KINDS = ("float", "int8")
FASTER, OF_A_LOOP, HTTP_MS = 1.8, 0.9, 10.0
"""How many times as fast int8 is on processors with instructions for it, and what the ways to it may cost."""


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--float", help="a checkpoint; left out, random weights")
    parser.add_argument("--int8", help="what quantize made of it; left out, made here")
    parser.add_argument("--data", help="folder of JPEG files, repeated where they are too few (rendered)")
    parser.add_argument("--photos", type=int, default=600, help="photos that are scored in a round (600)")
    parser.add_argument("--requests", type=int, default=6, help="requests of 64 photos in a round (6)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, photos_of(options.data, options.photos) as files:
        places = {kind: Path(vars(options)[kind] or f"{folder}/{kind}") for kind in KINDS}
        photos = [file.read_bytes() for file in files]
        inputs, few = Path(folder) / "photos", Path(folder) / "few"
        for place, n in ((inputs, len(photos)), (few, BATCH)):
            place.mkdir()
            for number, photo in enumerate(photos[:n]):
                (place / f"{number:06d}.jpg").write_bytes(photo)
        if not options.float:
            write_random_checkpoint(places["float"])
        if not options.int8:
            write_int8_checkpoint(places["float"], places["int8"], few)
        rates: dict[str, list[float]] = {
            f"{way}_{kind}": [] for way in ("score", "by_hand", "serve", "loop") for kind in KINDS
        }
        rates["litserve_int8"] = []
        singles: dict[str, list[float]] = {f"{way}_{kind}": [] for way in ("http", "engine") for kind in KINDS}
        engines = measure_scoring(places, inputs, rates, options.rounds)
        measure_serving(places, photos[:BATCH], rates, singles, options)
    per_s = {name: statistics.median(values) for name, values in rates.items()}
    single_ms = {name: statistics.median(values) for name, values in singles.items()}

    beyond_ms = single_ms["http_int8"] - single_ms["engine_int8"]

    def over(what: str, ours: str, theirs: str, at_least: float | None = None) -> Figure:
        value = median_ratio(rates[ours], rates[theirs])
        return ratio(what, per_s[ours], per_s[theirs], value=value, at_least=at_least)

    conclude(
        [
            over("score in int8 over float", "score_int8", "score_float", FASTER),
            over("HTTP in int8 over float", "serve_int8", "serve_float", FASTER),
            over("score in int8 over a loop by hand", "score_int8", "by_hand_int8", OF_A_LOOP),
            over("HTTP in int8 over a loop by hand", "serve_int8", "loop_int8", OF_A_LOOP),
            over("HTTP in int8 over LitServe", "serve_int8", "litserve_int8", 1.0),
            Figure("one photo over HTTP beyond its engine", beyond_ms, "ms", HTTP_MS),
        ],
        {"engines": engines, "photos_per_s": per_s, "single_photo_ms": single_ms, "cpus": os.cpu_count()},
    )


def measure_scoring(
    places: dict[str, Path], inputs: Path, rates: dict[str, list[float]], rounds: int
) -> dict[str, str]:
    """Score with both, and by hand with both, in turn; returns what computed."""
    engines = {}
    with ray_session(dashboard=False):
        for _ in range(rounds):
            for kind, place in places.items():
                out = str(inputs.parent / "out.parquet")
                said = score_here(str(place), [str(inputs)], out, overwrite=True, terminal=Terminal.silent())
                engines[kind] = said["engine"]
                rates[f"score_{kind}"].append(said["images_per_s"])
                rates[f"by_hand_{kind}"].append(speed_by_hand(place, inputs))
            say(rates)
    return engines


def measure_serving(
    places: dict[str, Path],
    photos: list[bytes],
    rates: dict[str, list[float]],
    singles: dict[str, list[float]],
    options: argparse.Namespace,
) -> None:
    """Ask endpoints of both, loops by hand with both, and LitServe with int8, in turn."""
    form, tree = multipart(photos), as_json(photos)
    one: dict[str, Any] = {"content": photos[0], "headers": {"content-type": "image/jpeg"}}
    predictors = {kind: Predictor.load(place, engine="auto", device="cpu") for kind, place in places.items()}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=120))
        urls = {kind: f"{stack.enter_context(endpoint(str(place))).url}/v1/score" for kind, place in places.items()}
        other = stack.enter_context(litserve(places["int8"]))
        for _ in range(options.rounds):
            for kind, predictor in predictors.items():
                singles[f"engine_{kind}"].append(milliseconds(alone(predictor, photos[0])))
                singles[f"http_{kind}"].append(milliseconds(asking(client, urls[kind], one)))
                rates[f"loop_{kind}"].append(loop_rate(predictor, photos, options.requests))
                rates[f"serve_{kind}"].append(flood_rate(urls[kind], options.requests, files=form))
            rates["litserve_int8"].append(flood_rate(f"{other}/predict", options.requests, json=tree))
            say(rates)


def alone(predictor: Predictor, photo: bytes) -> Callable[[], Any]:
    """Return what decodes and answers one photo."""
    return lambda: predictor.predict(predictor.prepare(photo)[np.newaxis])


def asking(client: httpx.Client, url: str, content: dict[str, Any]) -> Callable[[], Any]:
    """Return what asks an endpoint about one photo."""
    return lambda: client.post(url, **content).raise_for_status()


def say(rates: dict[str, list[float]]) -> None:
    """Tell whoever waits."""
    newest = {name: round(values[-1], 1) for name, values in rates.items() if values}
    sys.stderr.write(f"{newest}\n")


if __name__ == "__main__":
    main()
