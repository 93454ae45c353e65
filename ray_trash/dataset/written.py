"""What this program wrote itself below a data root: runs, checkpoints, results, and scorings under way.

Recognised by the names of the files that mark each; a picture of a user is never taken for one of ours.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence

from ray_trash.dataset.names import looks_like_photo
from ray_trash.dataset.walk import Entry

RUN_MARK = "run.json"
CHUNKS_SUFFIX, CHUNKS_MARK = ".parts", "plan.json"
EXPLAINED_MARK, EXPLAINED_PICTURE = "explanations.json", re.compile(r"\d{4,}-.*\.png", re.DOTALL)
WRITTEN_BESIDE: dict[str, frozenset[str]] = {
    RUN_MARK: frozenset({"augmentation.png", "audit.png", "confusion_matrix.png"}),
    "audit.json": frozenset({"audit.png"}),
    "evaluation.json": frozenset({"confusion_matrix.png", "predictions.parquet"}),
    "checkpoint.json": frozenset({"COMPLETE"}),
}
"""The file that marks a folder, and what was written beside it; the rest shows by its suffix that it is no photo."""


def written_files(entries: Sequence[Entry]) -> set[str]:
    """Return the paths of files that this program wrote: the marked ones, and in a run all but what may be a photo."""
    names = defaultdict(set)
    for entry in entries:
        if entry.kind == "file":
            folder, name = posixpath.split(entry.path)
            names[folder].add(name)
    runs = {folder for folder, inside in names.items() if folder and RUN_MARK in inside}
    return {
        f"{folder}/{name}".lstrip("/") for folder, inside in names.items() for name in _written(folder, inside, runs)
    }


def _written(folder: str, names: set[str], runs: set[str]) -> set[str]:
    parts = folder.split("/")
    if any("/".join(parts[:end]) in runs for end in range(1, len(parts) + 1)):
        written = {name for name in names if not looks_like_photo(name)}
    else:
        written = names & {CHUNKS_MARK} if folder.endswith(CHUNKS_SUFFIX) else set()
    if EXPLAINED_MARK in names:
        written |= {EXPLAINED_MARK, *filter(EXPLAINED_PICTURE.fullmatch, names)}
    for mark in names & WRITTEN_BESIDE.keys():
        written |= names & {mark, *WRITTEN_BESIDE[mark]}
    return written
