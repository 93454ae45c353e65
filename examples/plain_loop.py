"""What `ray-trash train` does, in one flat loop without Ray: `python -m examples.plain_loop CONFIG [key=value ...]`.

The same photos, augmentation, network, optimizer and learning rates as one worker in fp32, so the same losses. What
it leaves out is what the product is for: workers, checkpoints and resume, photos of the same shot on one side,
streams, mixed precision, moving averages, plateaus, stages that are freed on the way.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

from ray_trash.config import Config, load_config
from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.sampler import epoch_order
from ray_trash.dataset.split import place_of
from ray_trash.errors import ConfigError, ImageError
from ray_trash.image.augment import augment_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.image.tensor import normalise
from ray_trash.model.network import build_network, freeze_stages, parameter_groups, set_training_mode
from ray_trash.model.weights import load_pretrained
from ray_trash.train.schedule import learning_rate_at


def train(config: Config) -> list[dict[str, float]]:
    """Train as the config says, on one device. Returns the losses of every epoch."""
    device = torch.device("cuda" if torch.cuda.is_available() and config.train.device != "cpu" else "cpu")
    settings, preprocessing = config.train, Preprocessing.from_config(config.image)

    # Photos: list, split by a hash of the content, decode once.
    listing = list_photos(
        config.data.root, config.data.classes, config.data.labels, follow_links=config.data.follow_links
    )
    folder = PhotoFolder.at(config.data.root)
    sides: dict[str, list[tuple[np.ndarray, int, int]]] = {"train": [], "val": [], "test": []}
    for path, label in rows_in(listing.files, "path", "label"):
        try:
            encoded = folder.read(path)
            photo = load_photo(encoded, preprocessing)
        except ImageError as error:
            print(f"left out: {path}: {error}")  # noqa: T201
            continue
        sha256 = hashlib.sha256(encoded).hexdigest()
        place, test = place_of(sha256), config.data.test_fraction
        side = "test" if place < test else "val" if place < test + config.data.val_fraction else "train"
        sides[side].append((photo, listing.classes.index(label), int(sha256[:16], 16)))
    labels = np.array([label for _, label, _ in sides["train"]])

    if settings.learning_rate == "auto":
        raise ConfigError("train.learning_rate=auto: this loop finds none; give a number")

    # The network, its frozen stages, and an optimizer with a learning rate for each stage.
    torch.manual_seed(config.seed)
    n_classes, model = len(listing.classes), config.model
    network = build_network(n_classes, hidden_layers=model.hidden_layers, dropout=model.dropout)
    load_pretrained(network, model.weights)
    network.to(device, memory_format=torch.channels_last)
    freeze_stages(network, model.frozen_stages)
    groups = parameter_groups(
        network,
        frozen_stages=model.frozen_stages,
        learning_rate=settings.learning_rate,
        head_factor=settings.head_learning_rate_factor,
        stage_decay=settings.stage_learning_rate_decay,
        weight_decay=settings.weight_decay,
    )
    optimizer = torch.optim.AdamW(groups, fused=True)
    peaks = [group["lr"] for group in optimizer.param_groups]

    losses = []
    for epoch in range(settings.epochs):
        # Train: every photo once, in the epoch's own order, each in a new view.
        set_training_mode(network, model.frozen_stages)
        order = epoch_order(labels, seed=config.seed, epoch=epoch, n_draws=None, balance="none")
        steps = np.array_split(order, -(-len(order) // settings.batch_size_per_worker))
        train_loss = 0.0
        for step, batch in enumerate(steps):
            torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch, step, 0]).generate_state(1)[0]))
            drawn = [
                augment_photo(photo, config.augment, preprocessing, seed=config.seed, epoch=epoch, photo_key=key)
                for photo, _, key in (sides["train"][i] for i in batch)
            ]
            logits = network(normalise(torch.from_numpy(np.stack(drawn)).to(device), preprocessing))
            truth = torch.from_numpy(labels[batch]).to(device)
            loss = F.cross_entropy(logits, truth, label_smoothing=settings.label_smoothing)
            loss.backward()
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                at, total = epoch * len(steps) + step, settings.epochs * len(steps)
                group["lr"] = learning_rate_at(at, peak, settings, total_steps=total, plateau_cuts=0)
            optimizer.step()
            optimizer.zero_grad()
            train_loss += loss.item() * len(batch)

        # Validate: every photo once, as a served network sees it.
        network.eval()
        val_loss = correct = 0.0
        with torch.inference_mode():
            for start in range(0, len(sides["val"]), settings.batch_size_per_worker):
                photos, truths, _ = zip(*sides["val"][start : start + settings.batch_size_per_worker], strict=True)
                squares = np.stack([fit_photo(photo, preprocessing) for photo in photos])
                logits = network(normalise(torch.from_numpy(squares).to(device), preprocessing))
                truth = torch.tensor(truths, device=device)
                val_loss += F.cross_entropy(logits, truth, reduction="sum").item()
                correct += float((logits.argmax(1) == truth).sum())
        losses.append({"train_loss": train_loss / len(labels), "val_loss": val_loss / len(sides["val"])})
        print(f"epoch {epoch + 1}", losses[-1], f"val_accuracy {correct / len(sides['val']):.4f}")  # noqa: T201
    return losses


if __name__ == "__main__":
    train(load_config(sys.argv[1], dict(change.split("=", 1) for change in sys.argv[2:])))
