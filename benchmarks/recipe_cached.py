"""Cheap judging of a recipe: what is trained above frozen stages, from activations computed once for all folds.

The frozen stages stay ImageNet's whatever is trained, so a photo's activations under a fixed view serve every fold and
every candidate. One training is looked at in many ways: each fit of the photo, one view or eight, the last epoch or
the best one, with the moving average of the weights or without. For `recipe_folds --cheap`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ray_trash.config import Config
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.sampler import epoch_order, step_sizes
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.image.augment import augment_photo, augmentation_values
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.image.symmetry import SYMMETRIES, symmetric_views
from ray_trash.image.tensor import normalise
from ray_trash.model.frozen import TrainedStages, activations_after
from ray_trash.model.network import freeze_stages, set_training_mode
from ray_trash.model.resnet import ResNet
from ray_trash.model.weights import load_pretrained
from ray_trash.train.loss import mix, summed_loss
from ray_trash.train.schedule import learning_rate_at
from ray_trash.train.state import build_optimizer, seeded_network

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report its use
import openvino  # noqa: E402

KEPT_AFTER = (4, 5)
"""Stages after which activations are kept: all that is cheap enough to train from."""
CHUNK = 32
"""Photos of a file of activations, and of a forward pass."""
Fit = Literal["stretch", "crop", "pad"]
Square = Callable[[NDArray[np.uint8], str], NDArray[np.uint8]]
"""From a photo as it is kept, and its path, to what the network sees."""


@dataclass(frozen=True)
class FoldPhotos:
    """Photos of all folds, in an order that says nothing of class or fold: any first part of them is a sample."""

    root: str
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    folds: NDArray[np.int64]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, root: str, fold_of: dict[str, int]) -> FoldPhotos:
        """Take photos whose folder is their class."""
        classes = tuple(sorted({path.split("/")[0] for path in fold_of}))
        paths = tuple(sorted(fold_of, key=_key))
        labels = np.array([classes.index(path.split("/")[0]) for path in paths])
        return cls(root, paths, labels, np.array([fold_of[path] for path in paths]), classes)

    def positions(self, is_wanted: NDArray[np.bool_], share: float) -> NDArray[np.int64]:
        """Return the positions of a share of the photos, those that are wanted."""
        return np.flatnonzero(is_wanted & (np.arange(len(self.paths)) < share * len(self.paths)))


@dataclass(frozen=True)
class Shares:
    """Shares of all photos, 0 to 1, of which a fold's own part is taken: to train on, to judge, to judge by 8 views."""

    trained: float
    judged: float
    turned: float


class Activations:
    """Activations of the stages that are never trained, on disk; what is missing is computed."""

    def __init__(self, folder: Path, photos: FoldPhotos, config: Config) -> None:
        """Keep them under what they depend on."""
        self._folder, self._photos = folder, photos
        self._network = seeded_network(config, len(photos.classes))
        load_pretrained(self._network, config.model.weights)
        self._network.eval()
        self._files = PhotoFolder.at(photos.root)
        self._lock = threading.Lock()
        self._compiled: dict[int, Any] = {}

    def training(self, config: Config, view: int, positions: NDArray[np.int64]) -> Tensor:
        """Return the activations of photos as training sees them in an epoch."""
        preprocessing = Preprocessing.from_config(config.image)

        def drawn(stored: NDArray[np.uint8], path: str) -> NDArray[np.uint8]:
            key = _key(path)
            return augment_photo(stored, config.augment, preprocessing, seed=0, epoch=view, photo_key=key)

        name = f"{_digest(augmentation_values(config.augment, preprocessing))}-{view}"
        return self._of(name, config, positions, drawn)

    def looked_at(self, config: Config, fit: Fit, symmetry: int, positions: NDArray[np.int64]) -> Tensor:
        """Return the activations of photos under one fit and one symmetry."""
        preprocessing = replace(Preprocessing.from_config(config.image), fit="crop" if fit == "crop" else "stretch")

        def fitted(stored: NDArray[np.uint8], path: str) -> NDArray[np.uint8]:
            square = fit_photo(_padded(stored) if fit == "pad" else stored, preprocessing)
            return np.ascontiguousarray(symmetric_views(square)[symmetry])

        return self._of(f"{fit}-{config.image.size_px}-{symmetry}", config, positions, fitted)

    def _of(self, name: str, config: Config, positions: NDArray[np.int64], square: Square) -> Tensor:
        numbers = np.unique(positions // CHUNK)
        # Each chunk on one thread: threads that compute one together wait for whichever is held up.
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            chunks = threads.map(lambda number: self._chunk(name, config, int(number), square), numbers)
            rows = [
                chunk[torch.from_numpy(positions[positions // CHUNK == number] % CHUNK)]
                for number, chunk in zip(numbers, chunks, strict=True)
            ]
        return torch.cat(rows)

    def _chunk(self, name: str, config: Config, number: int, square: Square) -> Tensor:
        n_frozen = config.model.frozen_stages
        file = self._folder / f"{name}-{config.image.stored_short_side_px}" / str(number)
        wanted = file.with_suffix(f".{n_frozen}.npy")
        if not wanted.exists():
            preprocessing = Preprocessing.from_config(config.image)
            paths = self._photos.paths[number * CHUNK : (number + 1) * CHUNK]
            squares = [square(load_photo(self._files.read(path), preprocessing), path) for path in paths]
            batch = normalise(torch.from_numpy(np.stack(squares)), preprocessing).contiguous().numpy()
            request = self._for(batch.shape[-1]).create_infer_request()
            found = [request.infer([one[np.newaxis]]).to_tuple() for one in batch]
            file.parent.mkdir(parents=True, exist_ok=True)
            for n, activations in zip(KEPT_AFTER, zip(*found, strict=True), strict=True):
                unfinished = file.with_suffix(f".{n}.part.npy")
                np.save(unfinished, np.concatenate(activations).astype(np.float16))
                unfinished.rename(file.with_suffix(f".{n}.npy"))
        return torch.from_numpy(np.load(wanted))

    def _for(self, side_px: int) -> Any:
        with self._lock:
            if side_px not in self._compiled:
                self._compiled[side_px] = _compiled(self._network, side_px)
            return self._compiled[side_px]


class _Frozen(nn.Module):
    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        return tuple(activations_after(self.network, photos, KEPT_AFTER).values())


def _compiled(network: ResNet, side_px: int) -> Any:
    example = torch.zeros((1, 3, side_px, side_px))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the tracing of shapes, which are fixed here
        traced = torch.jit.trace(_Frozen(network), example, check_trace=False)
        model = openvino.convert_model(traced, example_input=example, input=list(example.shape))
    threads = torch.get_num_threads()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, "ENABLE_CPU_PINNING": False}
    return openvino.Core().compile_model(model, "CPU", settings)


def judge_cached(
    config: Config,
    activations: Activations,
    photos: FoldPhotos,
    fold: int,
    *,
    shares: Shares,
    fits: Sequence[Fit],
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.bool_]]]:
    """Train on all folds but one and look at that one in many ways.

    Yields what was done, the positions of the photos that were looked at, and whether each is right. The best epoch is
    chosen by one half of the fold and counted on the other, and the other way round: chosen and counted on the same
    photos it would look better than it is.
    """
    trained_on = photos.positions(photos.folds != fold, shares.trained)
    judged, turned = (photos.positions(photos.folds == fold, share) for share in (shares.judged, shares.turned))
    truth = photos.labels[judged]
    seen: dict[tuple[Fit, str], list[NDArray[np.float32]]] = {}
    looks = {fit: activations.looked_at(config, fit, 0, judged) for fit in fits}
    parts: dict[str, nn.Module] = {}
    for parts in train_cached(config, activations, photos, trained_on):
        for weights, part in parts.items():
            for fit in fits:
                seen.setdefault((fit, weights), []).append(_probabilities(part, looks[fit]))
    for (fit, weights), epochs in seen.items():
        yield f"{fit}, last, {weights}", judged, epochs[-1].argmax(1) == truth
        yield f"{fit}, best, {weights}", judged, _best_by_halves(epochs, truth)
    if not len(turned):
        return
    weights, part = list(parts.items())[-1]
    for fit in fits:
        one = seen[fit, weights][-1][: len(turned)]
        said = [_probabilities(part, activations.looked_at(config, fit, n, turned)) for n in range(1, len(SYMMETRIES))]
        yield f"{fit}, last, {weights}, 1 view of a part", turned, one.argmax(1) == truth[: len(turned)]
        yield f"{fit}, last, {weights}, 8 views of it", turned, sum(said, one).argmax(1) == truth[: len(turned)]


def train_cached(
    config: Config, activations: Activations, photos: FoldPhotos, positions: NDArray[np.int64]
) -> Iterator[dict[str, nn.Module]]:
    """Train what lies above the frozen stages; yields it after every epoch, and its moving average."""
    train, n_views = config.train, config.augment.views or 1
    labels = photos.labels[positions]
    views = [activations.training(config, view, positions) for view in range(n_views)]
    network = seeded_network(config, len(photos.classes))
    load_pretrained(network, config.model.weights)
    network.to(memory_format=torch.channels_last)
    freeze_stages(network, config.model.frozen_stages)
    optimizer = build_optimizer(network, config)
    part = TrainedStages(network, config.model.frozen_stages)
    averaged = copy.deepcopy(part).requires_grad_(False).eval() if train.ema_decay else None
    sizes = step_sizes(len(labels), -(-len(labels) // train.batch_size_per_worker))
    for epoch in range(train.epochs):
        set_training_mode(network, config.model.frozen_stages)
        order, began = epoch_order(labels, seed=config.seed, epoch=epoch, n_draws=None, balance="none"), time.time()
        loss_sum = 0.0
        for step, rows in enumerate(np.split(order, np.cumsum(sizes)[:-1])):
            torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch, step]).generate_state(1)[0]))
            random = np.random.default_rng([config.seed, epoch, step])
            inputs = views[epoch % n_views][torch.from_numpy(rows)].float()
            batch = mix(inputs, torch.from_numpy(labels[rows]), config.augment, random)
            loss = summed_loss(part(batch.photos), batch, class_weights=None, label_smoothing=train.label_smoothing)
            (loss / len(rows)).backward()
            done = epoch * len(sizes) + step
            for group in optimizer.param_groups:
                total = train.epochs * len(sizes)
                group["lr"] = learning_rate_at(done, group["initial_lr"], train, total_steps=total, plateau_cuts=0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss_sum += loss.item()
            if averaged is not None:
                _average(averaged, part, min(train.ema_decay, (1 + done) / (10 + done)))
        print(f"epoch {epoch + 1}: loss {loss_sum / len(labels):.4f}, {time.time() - began:.0f} s", flush=True)  # noqa: T201
        network.eval()
        yield {"plain": part} if averaged is None else {"plain": part, "averaged": averaged}


@torch.no_grad()
def _average(ema: nn.Module, network: nn.Module, decay: float) -> None:
    for average, value in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - decay)


def _probabilities(part: nn.Module, activations: Tensor) -> NDArray[np.float32]:
    with torch.inference_mode():
        return torch.cat([part(chunk.float()).softmax(1) for chunk in activations.split(CHUNK)]).numpy()


def _best_by_halves(epochs: Sequence[NDArray[np.float32]], truth: NDArray[np.int64]) -> NDArray[np.bool_]:
    right = np.zeros(len(truth), bool)
    first = np.arange(len(truth)) % 2 == 0
    for half in (first, ~first):
        best = max(range(len(epochs)), key=lambda epoch: _macro_f1(epochs[epoch][half], truth[half]))
        right[~half] = epochs[best][~half].argmax(1) == truth[~half]
    return right


def _macro_f1(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    sums = ClassificationSums.zeros(probabilities.shape[1])
    sums.update(probabilities, truth)
    return sums.macro_f1


def _padded(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put a photo on a grey square."""
    height, width = photo.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), (124, 116, 104))
    square.paste(Image.fromarray(photo), ((side - width) // 2, (side - height) // 2))
    return np.array(square)


def _key(path: str) -> int:
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big")


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
