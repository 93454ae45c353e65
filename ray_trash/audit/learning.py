"""What classifiers learn of photos: which shortcuts there are, and whose label is doubtful. In tasks.

Thumbnails go from where they are kept to where they are learnt from; what comes back is a few numbers and names.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.audit.document import ProbeResult, Suspect
from ray_trash.audit.probes import PROBES, Probed, probed_positions, run_probe
from ray_trash.audit.suspects import are_suspects_looked_for, find_suspects
from ray_trash.cluster.tasks import put, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.groups.sketches import bytes_matrix
from ray_trash.dataset.photo_set import PhotoSet
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

Features = Callable[[pa.Table], NDArray[np.float32]]
"""Takes catalog rows of accepted photos, gives what a pretrained network makes of each."""


def learn(
    photo_set: PhotoSet, photos: pa.Table, groups: NDArray[np.int64], features: Features | None, terminal: Terminal
) -> tuple[dict[str, ProbeResult], list[Suspect]]:
    """Run the probes and look for suspects, and say how far this has come.

    Args:
        photo_set: Read, grouped and split.
        photos: Its accepted photos, N.
        groups: Group number of each, (N,).
        features: Of a pretrained network. Default: suspects are looked for in thumbnails.
        terminal: Where it is said how far this has come.
    """
    sketches, what = photo_set.sketches, "the probes for shortcuts"
    positions = probed_positions(photos)
    rows = pa.array(positions)
    thumbnails = sketches.select(positions, ["thumbnail"], what=what)
    probe = task(_run_probe)
    shared = [put(value) for value in (photos.take(rows), sketches.summary.take(rows), groups[positions])]
    starts = [partial(probe, name, *shared, *thumbnails) for name in PROBES]
    if are_suspects_looked_for(photos, groups):
        everything = np.arange(len(photos))
        values = [put(features(photos))] if features else sketches.select(everything, ["thumbnail"], what=what)
        suspect = task(_find_suspects)
        starts.append(partial(suspect, put(photos.select(["path", "label"])), groups, *values))
    results: list[Any] = [None] * (len(PROBES) + 1)
    with Bar(terminal, total=len(starts), noun="classifiers", doing="learning", alike=False) as bar:
        # One at a time: each takes every processor where that is quicker.
        for number, reference in run_tasks(starts, at_once=1, what=what):
            results[number] = fetch(reference, what=what)
            bar.advance(1)
    *found, suspects = results
    return {name: result for name, result in zip(PROBES, found, strict=True) if result is not None}, suspects or []


def _run_probe(
    name: str, photos: pa.Table, summaries: pa.Table, groups: NDArray[np.int64], *thumbnails: pa.Table
) -> ProbeResult | None:
    return run_probe(name, Probed(photos, summaries, _matrix(thumbnails), groups))


def _find_suspects(
    photos: pa.Table, groups: NDArray[np.int64], *values: pa.Table | NDArray[np.float32]
) -> list[Suspect]:
    if isinstance(values[0], pa.Table):
        return find_suspects(photos, groups, _matrix(values), "thumbnail")
    return find_suspects(photos, groups, values[0], "features")


def _matrix(thumbnails: tuple[Any, ...]) -> NDArray[np.uint8]:
    return bytes_matrix(pa.concat_tables(thumbnails)["thumbnail"]) if thumbnails else np.zeros((0, 0), np.uint8)
