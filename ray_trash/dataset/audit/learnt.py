"""What small classifiers learn of the photos: shortcut probes and doubtful labels, learnt once for the same photos.

Learning takes seconds where nothing else of an audit does, and a run that is resumed looks at the same photos again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.dataset.audit.probes import run_probes
from ray_trash.dataset.audit.suspects import find_suspects
from ray_trash.dataset.sketches import bytes_matrix


@dataclass(frozen=True)
class Learnt:
    """What was learnt.

    Attributes:
        probes: As `run_probes` gives them.
        suspects: As `find_suspects` gives them, perhaps with those of conflicts among them.
        source: SHA-256, in hex, of all that the two depend on.
    """

    probes: Mapping[str, Any]
    suspects: Sequence[Mapping[str, Any]]
    source: str


def learn(
    photos: pa.Table,
    sketches: pa.Table,
    sides: Sequence[str | None],
    groups: NDArray[np.int64],
    *,
    features: NDArray[np.float32] | None = None,
    known: Mapping[str, Any] | None = None,
) -> Learnt:
    """Learn from the photos, or take over what an earlier audit learnt from the same.

    Args:
        photos: Catalog rows of accepted photos, N.
        sketches: Of the same, in the same order.
        sides: Of the same.
        groups: Group number of each, (N,).
        features: Of a pretrained network, (N, F); left out, suspects are looked for in thumbnails.
        known: The document of an earlier audit.
    """
    source = _source(photos, sketches, sides, groups, features)
    if known is not None and known.get("learnt_from") == source:
        return Learnt(known["probes"], known["suspects"], source)
    return Learnt(
        run_probes(photos, sketches, sides, groups), find_suspects(photos, sketches, groups, features), source
    )


def _source(
    photos: pa.Table,
    sketches: pa.Table,
    sides: Sequence[str | None],
    groups: NDArray[np.int64],
    features: NDArray[np.float32] | None,
) -> str:
    columns = ("path", "label", "size_bytes", "width", "height")
    rows = [photos[name].to_pylist() for name in columns]
    digest = hashlib.sha256(json.dumps([version("ray-trash"), rows, list(sides), groups.tolist()]).encode())
    for name in ("thumbnail", "corners"):
        digest.update(bytes_matrix(sketches, name).tobytes())
    if features is not None:
        digest.update(features.tobytes())
    return digest.hexdigest()
