"""What the GPU path loses: `python -m benchmarks.gpu_speed`, on whatever CUDA GPU there is.

- Training ResNet50 in the precision that `auto` takes there: `ray-trash`'s epochs without Ray, on photos in memory that
  it brings to the GPU and changes there, with moving average and checks; the same network, batch, optimizer and number
  format in a plain loop over one batch of noise that is on the GPU, which is all that the network can do; and the plain
  loop with photos kept on the GPU and cropped and mirrored there, a batch at a time.
- The input pipeline alone: batches that nobody trains on, from the GPU's memory, and from this machine's as where they
  do not fit.
- Answering: `Predictor.predict` from two threads, as `score` has it, against a loop by hand with one CUDA graph, pinned
  memory and the same network.

Sides take turns; first rounds warm up and are not counted. Without a GPU it ends with 6.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.answering import write_random_checkpoint
from benchmarks.figures import NO_GPU, Figure, conclude, ratio
from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable
from ray_trash.image.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.precision import resolve_precision
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.storage import Storage
from ray_trash.train.board import Board
from ray_trash.train.device_photos import DevicePhotos
from ray_trash.train.frozen.inputs import NetworkInputs, PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.loop import train
from ray_trash.train.run_directory import METRICS, update_run
from ray_trash.train.state import build_optimizer, seeded_network
from ray_trash.train.worker import Worker

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
STORED_PX = (256, 341)
OF_SYNTHETIC, OF_PLAIN, OF_GRAPHS = 0.9, 0.95, 0.9


class Photos(MemoryPhotos):
    """Noise of the size of TrashNet's photos, held without Ray."""

    def __init__(self, n: int, n_threads: int) -> None:
        """Draw it."""
        super().__init__([], n_threads=n_threads)
        random = np.random.default_rng(0)
        self._photos = {row: random.integers(0, 256, (*STORED_PX, 3), dtype=np.uint8) for row in range(n)}


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2048, help="of an epoch (2048)")
    parser.add_argument("--batch-photos", type=int, default=32, help="in a step (32, as configs/trashnet.yaml)")
    parser.add_argument("--epochs", type=int, default=4, help="of a round, the first uncounted (4)")
    parser.add_argument("--rounds", type=int, default=2, help="times each side is taken, in turn (2)")
    parser.add_argument("--size-px", type=int, default=192)
    parser.add_argument("--answers", type=int, default=4096, help="photos to answer in a round (4096)")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stderr.write("error: no CUDA GPU here; run it where `ray-trash doctor` finds one\n")
        sys.exit(NO_GPU)
    device = torch.device("cuda", torch.cuda.current_device())
    dtype, _ = resolve_precision("auto", device)
    worker = Worker(0, 1, device, dtype)
    torch.backends.cudnn.benchmark = True
    figures = [*training_figures(options, worker), *input_figures(options, worker), *answer_figures(options)]
    conclude(figures, {"gpu": torch.cuda.get_device_name(device), "dtype": str(dtype), **vars(options)})


def a_config(options: argparse.Namespace) -> Config:
    """Return the recipe of `configs/trashnet.yaml` as far as it costs time."""
    return Config.model_validate(
        {
            "name": "gpu",
            "data": {"root": "unused"},
            "image": {"size_px": 224, "stored_short_side_px": STORED_PX[0], "fit": "crop"},
            "augment": {"preset": "strong", "size_px": options.size_px, "crop_area_min": 0.5},
            "model": {"weights": "none", "frozen_stages": 1, "dropout": 0.3},
            "train": {
                "workers": 0,
                "epochs": options.epochs,
                "batch_size_per_worker": options.batch_photos,
                "label_smoothing": 0.1,
                "ema_decay": 0.99,
                "checkpoint_every_min": 1000,
            },
        }
    )


def a_job(options: argparse.Namespace, folder: str) -> TrainJob:
    """Return a run of so many photos."""

    def table(first: int, n: int) -> PhotoTable:
        rows = np.arange(first, first + n)
        return PhotoTable(rows, tuple(map(str, rows)), rows % len(CLASSES), rows.astype(np.uint64))

    update_run(Storage.at(folder), {"attempt": "a"})
    return TrainJob(
        config=a_config(options),
        train=table(0, options.photos),
        val=table(options.photos, len(CLASSES)),
        classes=CLASSES,
        root="unused",
        data={"fingerprint": "", "trained_on": ""},
        run_uri=folder,
        attempt="a",
        in_memory=True,
        device="cuda",
        board=Board(),
    )


def training_figures(options: argparse.Namespace, worker: Worker) -> Iterator[Figure]:
    """Train in turn by `ray-trash`, on noise, and in a plain loop with photos on the GPU."""
    photos = Photos(options.photos + len(CLASSES), torch.get_num_threads())
    speeds: dict[str, list[float]] = {"ours": [], "synthetic": [], "plain": []}
    for _ in range(options.rounds):
        speeds["ours"] += our_speeds(options, worker, photos)
        for side, batches in (("synthetic", synthetic_batches), ("plain", plain_batches)):
            speeds[side] += plain_speeds(options, worker, batches(options, worker, photos))
        sys.stderr.write(f"{ {side: round(found[-1]) for side, found in speeds.items()} } photos/s\n")
    ours, synthetic, plain = (statistics.median(found) for found in speeds.values())
    yield ratio("training over one synthetic batch", ours, synthetic, at_least=OF_SYNTHETIC)
    yield ratio("training over a plain loop, photos on the GPU", ours, plain, at_least=OF_PLAIN)


def our_speeds(options: argparse.Namespace, worker: Worker, photos: Photos) -> list[float]:
    """Train by `ray-trash` and return the photos per second of every epoch but the first."""
    with tempfile.TemporaryDirectory() as folder:
        job = a_job(options, folder)
        train(job, seeded_network(job.config, len(CLASSES)).state_dict(), worker, photos, lambda _: None)
        lines = (Path(folder) / METRICS).read_text().splitlines()
    return [json.loads(line)["images_per_s"] for line in lines[1:]]


Batches = Callable[[], tuple[Tensor, Tensor]]


def synthetic_batches(options: argparse.Namespace, worker: Worker, photos: Photos) -> Batches:
    """Make one batch, which is given again and again."""
    shape, channels_last = (options.batch_photos, 3, options.size_px, options.size_px), torch.channels_last
    batch = torch.rand(shape, device=worker.device).contiguous(memory_format=channels_last)
    labels = torch.randint(len(CLASSES), (options.batch_photos,), device=worker.device)
    return lambda: (batch, labels)


def plain_batches(options: argparse.Namespace, worker: Worker, photos: Photos) -> Batches:
    """Keep photos on the GPU, and give random ones, all of a batch cropped and mirrored alike."""
    device, side_px = worker.device, options.size_px
    table = PhotoTable(np.arange(options.photos), (), np.empty(0, np.int64), np.empty(0, np.uint64))
    stored = torch.from_numpy(np.stack(photos.stored(table))).to(device).permute(0, 3, 1, 2)
    labels = torch.randint(len(CLASSES), (options.photos,), device=device)
    mean, std = (torch.tensor(levels, device=device).view(3, 1, 1) * 255 for levels in (IMAGENET_MEAN, IMAGENET_STD))
    random = np.random.default_rng(0)

    def batch() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(options.photos, (options.batch_photos,), device=device)
        height, width = (int(side * random.uniform(0.7, 1.0)) for side in STORED_PX)
        top, left = (int(random.integers(side - cut + 1)) for side, cut in zip(STORED_PX, (height, width), strict=True))
        cut = stored[chosen, :, top : top + height, left : left + width].float()
        square = F.interpolate(cut, (side_px, side_px), mode="bilinear", antialias=True)
        square = square.flip(3) if random.random() < 0.5 else square
        return ((square - mean) / std).contiguous(memory_format=torch.channels_last), labels[chosen]

    return batch


def plain_speeds(options: argparse.Namespace, worker: Worker, batches: Batches) -> list[float]:
    """Train in a loop by hand and return the photos per second of every epoch but the first."""
    config = a_config(options)
    network = seeded_network(config, len(CLASSES)).to(worker.device, memory_format=torch.channels_last).train()
    for module in (network.conv1, network.bn1):
        module.requires_grad_(False)
    optimizer = build_optimizer(network, config)
    speeds = []
    for _ in range(config.train.epochs):
        started, steps = time.perf_counter(), options.photos // options.batch_photos
        for _ in range(steps):
            photos, labels = batches()
            with worker.autocast():
                logits = network(photos)
            F.cross_entropy(logits.float(), labels, label_smoothing=0.1).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        speeds.append(steps * options.batch_photos / (time.perf_counter() - started))
    return speeds[1:]


def input_figures(options: argparse.Namespace, worker: Worker) -> Iterator[Figure]:
    """Take an epoch's batches and train on none."""
    photos = Photos(options.photos + len(CLASSES), torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        job = a_job(options, folder)
    order = np.arange(options.photos)
    batches = [order[start : start + options.batch_photos] for start in range(0, len(order), options.batch_photos)]

    def speed(inputs: NetworkInputs) -> float:
        seconds = 0.0
        for epoch in range(2):  # the first one warms up
            started = time.perf_counter()
            for _ in inputs.training(batches, epoch):
                pass
            torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return len(order) / seconds

    kept, sent = speed(DevicePhotos(photos, job, worker)), speed(PhotoInputs(photos, job, worker))
    yield ratio("inputs alone: kept on the GPU over sent to it", kept, sent)


def answer_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Answer photos in batches of 64, as `score` does and by hand."""
    squares = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), np.uint8)
    n_batches = options.answers // len(squares)
    with tempfile.TemporaryDirectory() as folder:
        write_random_checkpoint(Path(folder))
        predictor = Predictor.load(folder, device="cuda")
        by_hand = hand_loop(Path(folder), squares, predictor.plan.dtype)
    with ThreadPoolExecutor(2) as threads:

        def ours() -> None:
            for _ in threads.map(predictor.predict, [squares] * n_batches):
                pass

        def theirs() -> None:
            by_hand(n_batches)

        speed, by_hand_speed = in_turn([ours, theirs], options.rounds, n_batches * len(squares))
    what = f"answering ({predictor.plan.name}) over a loop by hand with CUDA graphs"
    yield ratio(what, speed, by_hand_speed, at_least=OF_GRAPHS)
    one_ms = [1000 / speed for speed in in_turn([lambda: [predictor.predict(squares[:1]) for _ in range(50)]], 2, 50)]
    yield Figure("one photo", one_ms[0], "ms")


def in_turn(sides: Sequence[Callable[[], Any]], rounds: int, n_photos: int) -> list[float]:
    """Return the median photos per second of some sides; a round before the first one warms them."""
    speeds: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for side, found in zip(sides, speeds, strict=True):
            started = time.perf_counter()
            side()
            if number:
                found.append(n_photos / (time.perf_counter() - started))
    return [statistics.median(found) for found in speeds]


def hand_loop(checkpoint: Path, squares: np.ndarray, dtype: torch.dtype) -> Callable[[int], None]:
    """Record the network once, and return what answers batches by it, one copied while another is computed."""
    device = torch.device("cuda")
    network = load_network(open_checkpoint(checkpoint)).to(device, memory_format=torch.channels_last)
    mean, std = (torch.tensor(levels, device=device).view(3, 1, 1) * 255 for levels in (IMAGENET_MEAN, IMAGENET_STD))
    pinned = torch.from_numpy(squares).pin_memory()
    given = pinned.to(device)

    def forward() -> Tensor:
        with torch.inference_mode(), torch.autocast("cuda", dtype, dtype != torch.float32, cache_enabled=False):
            photos = given.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
            return torch.softmax(network((photos - mean) / std).float(), 1)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            forward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        said = forward()
    copying, answers = torch.cuda.Stream(), torch.empty(said.shape, pin_memory=True)

    def answer(n_batches: int) -> None:
        for _ in range(n_batches):
            with torch.cuda.stream(copying):
                there = pinned.to(device, non_blocking=True)
            torch.cuda.current_stream().wait_stream(copying)
            there.record_stream(torch.cuda.current_stream())
            given.copy_(there)
            graph.replay()
            answers.copy_(said, non_blocking=True)
        torch.cuda.synchronize()

    return answer


if __name__ == "__main__":
    main()
