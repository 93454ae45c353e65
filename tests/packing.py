"""Packed sets made in the process of a test, without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ray_trash.cluster.blocks import Tasks
from ray_trash.dataset.listing import list_photos
from ray_trash.pack import run
from ray_trash.pack.target import Target
from ray_trash.terminal.say import Terminal


def pack(
    root: Path | str,
    to: Path | str,
    *,
    split: str = "auto",
    labels: Path | None = None,
    overwrite: bool = False,
    terminal: Terminal | None = None,
    backwards: bool = False,
) -> dict[str, Any]:
    """Pack a folder as the command does; `backwards` makes the shards from the last to the first."""
    target = Target(str(to))
    target.require_free(str(root), overwrite=overwrite)
    listing = list_photos(str(root), labels_uri=str(labels) if labels else None)
    with pytest.MonkeyPatch.context() as patch:
        if backwards:
            patch.setattr(run, "map_blocks", _backwards)
        return run.pack_photos(listing, target, split=split, terminal=terminal or Terminal.silent())


def _backwards(blocks: Sequence[pa.Table], step: Tasks, *, what: str) -> Iterator[pa.Table]:
    return reversed([step.function(block) for block in reversed(blocks)])
