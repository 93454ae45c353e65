"""What a photo, a step and a request cost: `python -m benchmarks.scale_figures`, for `docs/scale.md`.

Times are processor time of one thread, medians over rounds: they hold on a machine that has other work too. Bytes are
exact. Prints a table in Markdown, a line a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch

from benchmarks.answering import CLASSES, photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude
from ray_trash.config import AugmentConfig, ServeConfig
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.columns import table_of_rows
from ray_trash.image.augment import augment_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.image.sketch import sketch_photo
from ray_trash.model.network import build_network, freeze_stages, set_training_mode
from ray_trash.model.predictor import Predictor
from ray_trash.serve import contract
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys

PREPROCESSING = Preprocessing(224, 256, "crop")
"""As in configs/trashnet.yaml, as is the augmentation."""
AUGMENT = AugmentConfig(preset="strong", size_px=192)
BATCH = 16
ROWS = 100_000


class Instantly:
    """A backend that computes nothing: what is left is what a request costs."""

    def __init__(self) -> None:
        """Answer as a model of six classes."""
        self._card = contract.ModelCard(
            id="0",
            classes=CLASSES,
            engine="",
            preprocessing={},
            thresholds={},
            temperature=1,
            target_error=0,
            answer_shares={},
            metrics={},
        )

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> contract.Scored:
        """Answer every photo alike."""
        n = len(photos)
        probabilities = np.full((n, len(CLASSES)), 1 / len(CLASSES), np.float32)
        return contract.Scored(self._card, probabilities, np.zeros(n, bool), {})

    async def card(self) -> contract.ModelCard | None:
        """Return the model."""
        return self._card

    async def swap_state(self) -> Mapping[str, Any]:
        """Say nothing: there is one model."""
        return {}

    async def description(self) -> str | None:
        """Return no card."""
        return None

    def exchanges(self) -> Mapping[str, int]:
        """Count none."""
        return {}

    async def shadow(self) -> contract.ShadowState:
        """Have none on trial."""
        return contract.ShadowState()

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> contract.Scored:
        """Score by the one there is."""
        return await self.score(photos, timeout_s=timeout_s)

    async def promote(self) -> contract.ModelCard:
        """Stay."""
        return await self.roll_back()

    async def roll_back(self) -> contract.ModelCard:
        """Stay."""
        return self._card


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of JPEGs; left out, some are rendered")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with photos_of(options.data, 64) as files:
        photos = [file.read_bytes() for file in files]
    told = []
    for what, value in figures(photos, options.rounds):
        sys.stdout.write(f"| {what} | {value} |\n")
        sys.stdout.flush()
        number, unit = value.split(" ")
        told.append(Figure(what, float(number), unit))
    conclude(told)


def figures(photos: list[bytes], rounds: int) -> Iterator[tuple[str, str]]:
    """Measure one figure after the other."""

    def per_photo(work: Callable[[Any], object], inputs: Sequence[Any]) -> str:
        return f"{1000 * cpu_s(lambda: [work(item) for item in inputs], rounds) / len(inputs):.2f} ms"

    stored = [load_photo(photo, PREPROCESSING) for photo in photos]
    yield "file of a photo", f"{statistics.mean(map(len, photos)) / 1000:.0f} kB"
    yield "stored photo, 256 px short side", f"{statistics.mean(photo.nbytes for photo in stored) / 1000:.0f} kB"
    yield "hash a file", per_photo(lambda photo: hashlib.sha256(photo).hexdigest(), photos)
    yield "decode a photo to 256 px", per_photo(lambda photo: load_photo(photo, PREPROCESSING), photos)
    yield "sketch a photo for duplicates", per_photo(sketch_photo, stored)
    yield "augment a stored photo to 192 px", per_photo(augmented, list(enumerate(stored)))
    yield "square of 224 px from a stored photo", per_photo(lambda photo: fit_photo(photo, PREPROCESSING), stored)
    yield "row of the catalogue", f"{catalogue_bytes():.0f} bytes"
    yield from network_figures(rounds)
    yield from request_figures(photos, rounds)


def augmented(numbered: tuple[int, np.ndarray]) -> np.ndarray:
    """Draw an augmentation of a numbered photo."""
    key, photo = numbered
    return augment_photo(photo, AUGMENT, PREPROCESSING, seed=0, epoch=0, photo_key=key)


def catalogue_bytes() -> float:
    """Return what a row of a catalogue of ordinary names takes in memory."""
    digest = hashlib.sha256(b"").hexdigest()
    rows = (
        (n, f"cardboard/{n:08}.jpg", "cardboard", 20_000, digest, 341, 256, "accepted", None, None) for n in range(ROWS)
    )
    return float(table_of_rows(rows, CATALOG_SCHEMA).nbytes / ROWS)


def network_figures(rounds: int) -> Iterator[tuple[str, str]]:
    """Measure the network: answering with the engine of `serve`, and a step of training with all stages learning."""
    network = build_network(len(CLASSES)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())
    with tempfile.TemporaryDirectory() as folder:
        write_random_checkpoint(Path(folder))
        predictor = Predictor.load(folder, engine="auto")
        n_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    squares = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    answering = cpu_s(lambda: predictor.predict(squares), rounds) / BATCH
    yield f"answer a square of 224 px ({predictor.plan.name})", f"{1000 * answering:.0f} ms"
    inputs = torch.rand(BATCH, 3, 192, 192).to(memory_format=torch.channels_last)

    def step() -> None:
        optimizer.zero_grad()
        network(inputs).sum().backward()
        optimizer.step()

    for frozen in (0, 4):
        freeze_stages(network, frozen)
        set_training_mode(network, frozen)
        training = cpu_s(step, max(2, rounds // 2)) / BATCH
        yield f"train on a square of 192 px, fp32, {frozen} stages frozen", f"{1000 * training:.0f} ms"
    yield "weights that are served", f"{n_bytes / 1e6:.0f} MB"
    gradients = sum(weight.nbytes for weight in network.parameters())
    moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
    yield "gradients of a step", f"{gradients / 1e6:.0f} MB"
    yield "state of AdamW", f"{moments / 1e6:.0f} MB"


def request_figures(photos: list[bytes], rounds: int) -> Iterator[tuple[str, str]]:
    """Measure the gateway alone: reading a request, its limits, and its answer; no socket and nothing computed."""
    app = Gateway(Instantly(), ServeConfig(), keys=Keys()).application()
    one: dict[str, Any] = {"content": photos[0], "headers": {"content-type": "image/jpeg"}}
    form = [("images", (f"{number}.jpg", photo, "image/jpeg")) for number, photo in enumerate(photos)]

    async def ask(n: int, content: dict[str, Any]) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            for _ in range(n):
                (await client.post("/v1/score", **content)).raise_for_status()

    for what, content, n in (("1 photo", one, 100), (f"{len(photos)} photos", {"files": form}, 10)):
        seconds = cpu_s(partial(lambda n, content: asyncio.run(ask(n, content)), n, content), rounds) / n
        yield f"a request of {what}, client and gateway", f"{1000 * seconds:.2f} ms"


def cpu_s(work: Callable[[], object], rounds: int) -> float:
    """Return the median of the processor time that some work takes, in seconds; once before, to warm it."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
