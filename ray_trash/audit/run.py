"""The audit of a data set: what is doubtful about its photos, as a document and a picture for people."""

from __future__ import annotations

import json

import numpy as np

from ray_trash.audit.document import AuditDocument, build_audit
from ray_trash.audit.learning import Features, learn
from ray_trash.audit.sheet import audit_sheet
from ray_trash.audit.suspects import find_outliers
from ray_trash.dataset.catalog import accepted_photos
from ray_trash.dataset.groups.near import MIN_SHARED_POINTS
from ray_trash.dataset.groups.relations import connected
from ray_trash.dataset.photo_set import PhotoSet
from ray_trash.image.preprocess import Preprocessing
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal

AUDIT_FILE = "audit.json"
SHEET_FILE = "audit.png"
PREPROCESSING = Preprocessing(size_px=224, stored_short_side_px=256, fit="crop")
"""What an audit looks at where no config says: as ImageNet's own evaluation. Source: torchvision
ResNet50_Weights.IMAGENET1K_V1.transforms()."""


def audit_photos(
    photo_set: PhotoSet, *, balance: str, features: Features | None = None, terminal: Terminal | None = None
) -> AuditDocument:
    """Report on a data set.

    Args:
        photo_set: Read, grouped and split.
        balance: What is done about classes of different sizes, in words.
        features: Of a pretrained network. Default: suspects are looked for in thumbnails.
        terminal: Where it is said how far this has come.
    """
    catalog, sketches = photo_set.catalog, photo_set.sketches
    photos = accepted_photos(catalog)
    numbers = np.arange(len(catalog))
    for group in connected(photo_set.relations):
        numbers[group] = group[0]
    groups = numbers[photos["row"].to_numpy()]
    probes, suspects = learn(photo_set, photos, groups, features, terminal or Terminal.silent())
    return build_audit(
        catalog,
        photo_set.relations,
        warnings=photo_set.warnings,
        uncompared=int((sketches.summary["n_points"].to_numpy() < MIN_SHARED_POINTS).sum()),
        probes=probes,
        suspects=suspects,
        outliers=find_outliers(photos, sketches.summary),
        balance=balance,
    )


def audit_json(document: AuditDocument) -> bytes:
    """Render `audit.json`."""
    return (json.dumps(document, indent=2) + "\n").encode()


def write_audit(document: AuditDocument, root: str, place: Storage) -> None:
    """Write `audit.png`, then `audit.json`."""
    place.write_bytes(SHEET_FILE, audit_sheet(document, root))
    place.write_bytes(AUDIT_FILE, audit_json(document))
