"""`augmentation.png`: what training really does to the photos, before it has cost an hour."""

from __future__ import annotations

from ray_trash.config import Config
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.stream import Transform
from ray_trash.image.contact_sheet import contact_sheet
from ray_trash.image.preprocess import Preprocessing
from ray_trash.train.job import training_transform
from ray_trash.train.photos import TrainingPhotos

EPOCHS = 8
"""Epochs shown of each photo."""


def augmentation_sheet(config: Config, photos: TrainingPhotos, root: str) -> bytes:
    """Draw one photo of every class, in a PNG file: as evaluation sees it, then as the first epochs train on it."""
    table, folder = photos.train, PhotoFolder.at(root)
    columns = [
        Transform(Preprocessing.from_config(config.image)),
        *(training_transform(config, epoch) for epoch in range(EPOCHS)),
    ]
    rows = []
    for label in sorted(set(table.labels.tolist())):
        i = int((table.labels == label).argmax())
        stored = folder.load(table.paths[i], columns[0].preprocessing)
        rows.append((photos.classes[label], [column(stored, int(table.keys[i])) for column in columns]))
    return contact_sheet(rows)
