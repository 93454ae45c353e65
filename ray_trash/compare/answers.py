"""What one side of a comparison answered, read from a run, an evaluation or a file of scores."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from ray_trash.dataset.walk import escape_name
from ray_trash.errors import CheckpointError, DataError, StorageError
from ray_trash.evaluate.outputs import EVALUATION_FILE, PREDICTIONS_FILE
from ray_trash.score.rows import classes_of
from ray_trash.storage import Storage

_NEEDED = ("path", "label", "confidence", "abstained")


@dataclass(frozen=True)
class Answers:
    """One side.

    Attributes:
        shown: Where it was read from, as given.
        model: The checkpoint's id; "" where the file does not say.
        classes: In label order.
        table: One row a photo that was answered, by path: `path`, `label`, `confidence`, `abstained`, and where they
            are known `true_label` and `sha256`.
        unanswered: Photos without an answer, which are left out.
        config: What the model was trained with; None where that is not known any more.
    """

    shown: str
    model: str
    classes: tuple[str, ...]
    table: pa.Table
    unanswered: int
    config: Mapping[str, Any] | None


def read_answers(given: str) -> Answers:
    """Read the folder of a run or an evaluation, or a Parquet file of predictions or scores, local or a URI.

    Raises:
        DataError: There is none, or it is something else.
    """
    shown = escape_name(given)
    try:
        storage = Storage.at(given)
        kind = storage.filesystem.get_file_info(storage.path).type
        if kind == fs.FileType.Directory:
            return _of_folder(storage, shown)
        if kind == fs.FileType.NotFound:
            raise DataError(f"{shown}: does not exist; name a run, an evaluation, or a Parquet file of scores")
        folder, name = Storage.of_file(given)
        return _of_file(folder.read_bytes(name), shown, config=None)
    except (StorageError, OSError) as error:
        raise DataError(f"{shown}: cannot be read: {error}") from error


def _of_folder(folder: Storage, shown: str) -> Answers:
    if not folder.exists(PREDICTIONS_FILE):
        raise DataError(
            f"{shown}: holds no {PREDICTIONS_FILE}; name a run that was evaluated (`ray-trash run` does), or the "
            "folder that `ray-trash evaluate --out` wrote"
        )
    evaluation: dict[str, Any] = {}
    if folder.exists(EVALUATION_FILE):
        evaluation = json.loads(folder.read_bytes(EVALUATION_FILE))
    model = str(evaluation.get("checkpoint", ""))
    config = _config_of(str(evaluation.get("checkpoint_path", "")), model)
    return _of_file(folder.read_bytes(PREDICTIONS_FILE), shown, model=model, config=config)


def _config_of(checkpoint: str, model: str) -> Mapping[str, Any] | None:
    from ray_trash.model.checkpoint import open_checkpoint

    try:
        document = open_checkpoint(checkpoint).document
    except (CheckpointError, StorageError):
        return None  # moved or removed since; what it answered is still there
    return document.config if document.id == model else None


def _of_file(content: bytes, shown: str, *, model: str = "", config: Mapping[str, Any] | None) -> Answers:
    try:
        table = pq.read_table(io.BytesIO(content))
        classes = tuple(classes_of(table.schema))
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{shown}: is no file of predictions or scores; name what `ray-trash evaluate` or `ray-trash score` wrote"
        ) from error
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise DataError(f"{shown}: has no column {missing[0]!r}; name what `ray-trash evaluate` or `score` wrote")
    if not model and "model_id" in table.column_names:
        model = ", ".join(sorted(set(table["model_id"].drop_null().to_pylist())))
    answered = table.filter(pc.is_valid(table["label"])).sort_by("path")
    return Answers(shown, model, classes, answered, len(table) - len(answered), config)
