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

from ray_trash.audit.probes import run_probes
from ray_trash.audit.suspects import find_suspects
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.groups.sketches import bytes_matrix

_LEARNT_BY = ("ray-trash", "scikit-learn", "scipy", "numpy")


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
    relations: Sequence[Relation],
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
        relations: What ties them: conflicts among those are suspects of the earlier audit.
        features: Of a pretrained network, (N, F); left out, suspects are looked for in thumbnails.
        known: The document of an earlier audit, with its `seal` as `learnt_from`.
    """
    source = _source(photos, sketches, sides, groups, relations, features)
    if known is not None and known.get("learnt_from") == seal(source, known.get("probes"), known.get("suspects")):
        return Learnt(known["probes"], known["suspects"], source)
    probes = run_probes(photos, sketches, sides, groups)
    return Learnt(probes, find_suspects(photos, sketches, groups, features), source)


def seal(source: str, probes: Any, suspects: Any) -> str:
    """Return a SHA-256, in hex, by which a document tells that nobody changed what was learnt from `source`."""
    return hashlib.sha256(json.dumps([source, probes, suspects]).encode()).hexdigest()


def _source(
    photos: pa.Table,
    sketches: pa.Table,
    sides: Sequence[str | None],
    groups: NDArray[np.int64],
    relations: Sequence[Relation],
    features: NDArray[np.float32] | None,
) -> str:
    columns = ("path", "label", "size_bytes", "width", "height")
    parts = [
        [version(name) for name in _LEARNT_BY],
        [photos[name].to_pylist() for name in columns],
        list(sides),
        groups.tolist(),
        [(relation.first, relation.second, relation.kind) for relation in relations],
    ]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for name in ("thumbnail", "corners"):
        digest.update(np.ascontiguousarray(bytes_matrix(sketches, name)).data)
    if features is not None:
        digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()
