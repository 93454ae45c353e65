"""The recipe to beat: fine-tuning as one would write it in an afternoon, in plain torch, for `recipe_folds`.

Of `ray_trash` it takes the network and its weights, and nothing of how it trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from ray_trash.model.network import build_network
from ray_trash.model.precision import resolve_precision
from ray_trash.model.weights import load_pretrained

STORED = (320, 240)
SIZE_PX = 224
EPOCHS, BATCH, WARMUP_STEPS = 24, 32, 50
RATE, HEAD_FACTOR, WEIGHT_DECAY = 6e-4, 5.0, 0.02
FROZEN = ("conv1", "bn1", "layer1", "layer2")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def judge_plain(
    data: str, fold_of: Mapping[str, int], fold: int, *, weights: str, epochs: int = EPOCHS
) -> tuple[list[str], NDArray[np.bool_]]:
    """Train on all folds but one, and answer that one: its paths, and (N,) bool, which of them are right."""
    paths = sorted(fold_of)
    classes = sorted({path.split("/")[0] for path in paths})
    labels = torch.tensor([classes.index(path.split("/")[0]) for path in paths])
    photos = [_decoded(Path(data) / path) for path in paths]
    trained_on = np.flatnonzero([fold_of[path] != fold for path in paths])
    judged = np.flatnonzero([fold_of[path] == fold for path in paths])

    torch.manual_seed(0)
    network = build_network(len(classes), dropout=0.3)
    load_pretrained(network, weights)
    network.to(memory_format=torch.channels_last)
    frozen = [getattr(network, name) for name in FROZEN]
    for module in frozen:
        module.requires_grad_(False)
    body = [value for name, value in network.named_parameters() if value.requires_grad and not name.startswith("fc.")]
    groups = [{"params": body, "peak": RATE}, {"params": network.fc.parameters(), "peak": HEAD_FACTOR * RATE}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY)
    dtype, _ = resolve_precision("auto", torch.device("cpu"))
    crop = v2.RandomResizedCrop(SIZE_PX, scale=(0.6, 1.0), antialias=True)
    n_steps = len(trained_on) // BATCH

    for epoch in range(epochs):
        network.train()
        for module in frozen:
            module.eval()
        began, loss_sum = time.time(), 0.0
        order = torch.randperm(len(trained_on)).numpy()
        for step in range(n_steps):
            chosen = trained_on[order[step * BATCH : (step + 1) * BATCH]]
            squares = [_turned(crop(photos[i])) for i in chosen]
            done, total = epoch * n_steps + step, epochs * n_steps
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _factor(done, total)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits = network(_normalised(squares))
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss_sum += loss.item()
        print(f"plain, epoch {epoch + 1}: loss {loss_sum / n_steps:.4f}, {time.time() - began:.0f} s", flush=True)  # noqa: T201

    network.eval()
    said = []
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        for start in range(0, len(judged), BATCH):
            squares = [v2.functional.resize(photos[i], [SIZE_PX, SIZE_PX]) for i in judged[start : start + BATCH]]
            said.append(network(_normalised(squares)).argmax(1))
    right = (torch.cat(said) == labels[judged]).numpy()
    return [paths[i] for i in judged], right


def _decoded(file: Path) -> Tensor:
    with Image.open(file) as image:
        decoded: Tensor = v2.functional.pil_to_tensor(image.convert("RGB").resize(STORED, Image.Resampling.BICUBIC))
    return decoded


def _turned(square: Tensor) -> Tensor:
    """Draw one of the eight symmetries."""
    turned = torch.rot90(square, int(torch.randint(4, ())), (1, 2))
    return turned.flip(2) if torch.rand(()) < 0.5 else turned


def _normalised(squares: list[Tensor]) -> Tensor:
    batch = (torch.stack(squares).float() / 255 - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    return batch.contiguous(memory_format=torch.channels_last)


def _factor(step: int, total: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / (WARMUP_STEPS + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, total - WARMUP_STEPS)))
