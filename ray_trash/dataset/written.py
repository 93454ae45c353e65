"""What this program wrote itself below a data root: runs, checkpoints, results, and scorings under way.

Recognised by the names of the files that mark each; a picture of a user is never taken for one of ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.names import looks_like_photo

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
_MARKS = frozenset({*WRITTEN_BESIDE, CHUNKS_MARK, EXPLAINED_MARK})


def written_files(entries: pa.Table) -> set[str]:
    """Return the paths of files (`ENTRY_SCHEMA`) that this program wrote.

    Those are the marked ones, and in a run all but what may be a photo.
    """
    marked = defaultdict(set)
    for folder, name in _files(entries):
        if name in _MARKS:
            marked[folder].add(name)
    if not marked:
        return set()
    runs = {folder for folder, marks in marked.items() if folder and RUN_MARK in marks}
    names = defaultdict(set)  # of folders where something was written: those are few, however many photos there are
    for folder, name in _files(entries):
        if folder in marked or _is_in(folder, runs):
            names[folder].add(name)
    return {
        f"{folder}/{name}".lstrip("/") for folder, inside in names.items() for name in _written(folder, inside, runs)
    }


def _files(entries: pa.Table) -> Iterator[tuple[str, str]]:
    for path, kind in rows_in(entries, "path", "kind"):
        if kind == "file":
            folder, _, name = path.rpartition("/")
            yield folder, name


def _is_in(folder: str, runs: set[str]) -> bool:
    if not runs:
        return False
    parts = folder.split("/")
    return any("/".join(parts[:end]) in runs for end in range(1, len(parts) + 1))


def _written(folder: str, names: set[str], runs: set[str]) -> set[str]:
    if _is_in(folder, runs):
        written = {name for name in names if not looks_like_photo(name)}
    else:
        written = names & {CHUNKS_MARK} if folder.endswith(CHUNKS_SUFFIX) else set()
    if EXPLAINED_MARK in names:
        written |= {EXPLAINED_MARK, *filter(EXPLAINED_PICTURE.fullmatch, names)}
    for mark in names & WRITTEN_BESIDE.keys():
        written |= names & {mark, *WRITTEN_BESIDE[mark]}
    return written
