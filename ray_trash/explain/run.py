"""Photos and what a checkpoint looked at in them: a picture each, and `explanations.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError, ImageError
from ray_trash.image.heat import heat_picture
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.explainer import Explainer
from ray_trash.model.predictor import Predictor
from ray_trash.score.inputs import list_inputs
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

EXPLANATIONS_FILE = "explanations.json"
_NAME_CHARACTERS = 60


def explain_photos(checkpoint: str, paths: Sequence[str], out: Storage, *, terminal: Terminal) -> dict[str, Any]:
    """Answer for each photo, and draw which part of it speaks for the answer; in this process, without a cluster.

    Writes `explanations.json` last, one entry an input: `path`, and `label`, `confidence`, `abstained` and `picture`,
    the name of a PNG file, or `error_code` and `error_message`.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        DataError: There is no photo, or none can be read.
    """
    opened = open_checkpoint(checkpoint)
    document = opened.document
    inputs = list_inputs(paths, terminal=terminal)
    if any(source.table for source in inputs.sources):
        raise DataError("explain: photos in tables are not drawn; name files and folders")
    folders = [PhotoFolder.at(source.root) for source in inputs.sources]
    entries: list[dict[str, Any]] = []
    with Bar(terminal, total=len(inputs)) as bar:
        # Exactly, or by the int8 network that the checkpoint answers by; the maps are of the float one either way.
        exact: dict[str, Any] = {"engine": "auto"} if document.is_int8 else {"precision": "fp32"}
        predictor = Predictor.load(opened, device="cpu", **exact)
        explainer = Explainer(opened)
        for number, row in enumerate(inputs.rows.to_pylist()):
            entry: dict[str, Any] = {"path": row["path"]}
            entries.append(entry)
            bar.advance(1)
            if row["error_code"]:
                entry |= {"error_code": row["error_code"], "error_message": row["error_message"]}
                continue
            try:
                square = predictor.prepare(folders[row["source"]].read(row["place"]))
            except ImageError as error:
                entry |= {"error_code": error.code, "error_message": str(error)}
                continue
            probabilities = predictor.predict(square[None])
            label = int(probabilities[0].argmax())
            picture = picture_name(number, row["path"])
            out.write_bytes(picture, heat_picture(square, explainer.heat(square, label)))
            entry |= {
                "label": document.classes[label],
                "confidence": float(probabilities[0, label]),
                "abstained": bool(document.calibration.abstains(probabilities)[0]),
                "picture": picture,
            }
    if not any("label" in entry for entry in entries):
        first = entries[0]
        raise DataError(
            f"none of the {len(entries)} photos can be read, such as {first['path']!r}: {first['error_message']}"
        )
    result = {"model_id": document.id, "engine": predictor.plan.name, "explanations": entries}
    out.write_bytes(EXPLANATIONS_FILE, (json.dumps(result, indent=2) + "\n").encode())
    return result


def picture_name(number: int, path: str) -> str:
    """Name the picture of a photo after it, in characters that every file system takes."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", path.rpartition("/")[2])[-_NAME_CHARACTERS:]
    return f"{number:04d}-{plain}.png"
