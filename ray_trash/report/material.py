"""What a folder holds for a report: the files of a run, a sweep or an evaluation, each read once, or None."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.audit.run import AUDIT_FILE
from ray_trash.config import config_from_tree
from ray_trash.dataset.walk import escape_name
from ray_trash.errors import CheckpointError, DataError, StorageError
from ray_trash.evaluate.outputs import EVALUATION_FILE, PREDICTIONS_FILE
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.storage import Storage
from ray_trash.train.learning_rate import RangeTest, read_range_test
from ray_trash.train.run_directory import AUGMENTATION_SHEET, BEST, RUN, read_metrics
from ray_trash.tune.trials import (
    TRIALS_FILE,
    VERDICT_FILE,
    TrialRecord,
    directory_of,
    metric_of,
    records_from_json,
)

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Material:
    """What a report is made from.

    Attributes:
        place: The folder that the report is of.
        origin: The run or sweep that trained the model, the same folder or another; None where it is not there.
        config: As resolved; empty where it is not known.
        run: The content of `run.json`.
        range_test: How the run found its learning rate, where it did.
        epochs: Of the run, or of the trial that the sweep kept.
        trials: Of a sweep, with their curves.
        checkpoint: The one that is reported on, where it is still there.
        sheet: A PNG file of what training saw.
    """

    place: Storage
    origin: Storage | None
    config: Mapping[str, Any]
    run: Mapping[str, Any] | None
    audit: Mapping[str, Any] | None
    epochs: tuple[Mapping[str, Any], ...]
    trials: tuple[TrialRecord, ...] | None
    verdict: Mapping[str, Any] | None
    evaluation: Mapping[str, Any] | None
    predictions: pa.Table | None
    checkpoint: Checkpoint | None
    sheet: bytes | None
    range_test: RangeTest | None = None

    @property
    def kind(self) -> Literal["run", "sweep", "evaluation"]:
        """What the folder is."""
        if self.origin is None or self.origin.uri != self.place.uri:
            return "evaluation"
        return "run" if self.trials is None else "sweep"

    @property
    def root(self) -> str | None:
        """Where the photos were; what an evaluation says comes first, for it may be of others."""
        root = (self.evaluation or {}).get("data_root") or self.config.get("data", {}).get("root")
        return None if root is None else str(root)

    @property
    def side(self) -> Mapping[str, Any]:
        """What the audit says of the side that was evaluated; empty where it does not know it."""
        if self.audit is None or self.evaluation is None:
            return {}
        found: Mapping[str, Any] = self.audit["splits"].get(self.evaluation["split"], {})
        return found


def read_material(place: Storage) -> Material:
    """Read a folder of results.

    An evaluation that was written elsewhere is joined with the run beside its checkpoint, if that is still there; the
    audit of that run only where it is of the same photos.

    Raises:
        DataError: It is no such folder, or a file in it is damaged.
    """
    shown = escape_name(place.uri)
    try:
        evaluation = _json(place, EVALUATION_FILE)
        is_run = place.exists(RUN)
        if not is_run and evaluation is None:
            what = "does not exist" if not place.exists() else "holds no run.json and no evaluation.json"
            raise DataError(
                f"{shown}: {what}; name the folder of a run or a sweep, or what `ray-trash evaluate --out` wrote"
            )
        checkpoint = _checkpoint(place, evaluation)
        origin = place if is_run else _origin(checkpoint, evaluation)
        predictions = None
        if evaluation is not None and place.exists(PREDICTIONS_FILE):
            predictions = pq.read_table(io.BytesIO(place.read_bytes(PREDICTIONS_FILE)))
        found = Material(
            place=place,
            origin=origin,
            config=checkpoint.document.config if checkpoint is not None else {},
            run=None,
            audit=None,
            epochs=(),
            trials=None,
            verdict=None,
            evaluation=evaluation,
            predictions=predictions,
            checkpoint=checkpoint,
            sheet=None,
        )
        return found if origin is None else _with_origin(found, origin)
    except pa.ArrowException as error:
        raise DataError(f"{shown}/{PREDICTIONS_FILE}: cannot be read ({error}); evaluate again") from error


def _with_origin(found: Material, origin: Storage) -> Material:
    config = _json(origin, CONFIG_FILE) or found.config
    trials = _trials(origin, metric_of(config_from_tree(config))) if origin.exists(TRIALS_FILE) else None
    verdict = _json(origin, VERDICT_FILE)
    trained = origin if trials is None else _winner(origin, trials, verdict)
    audit = _json(origin, AUDIT_FILE)
    if audit is not None and found.evaluation is not None:
        # Another set of photos has other duplicates, and other sides.
        same = audit.get("fingerprint") == found.evaluation["dataset_fingerprint"]
        audit = audit if same or origin.uri == found.place.uri else None
    return replace(
        found,
        config=config,
        run=_json(origin, RUN),
        audit=audit,
        epochs=() if trained is None else tuple(read_metrics(trained)),
        trials=trials,
        verdict=verdict,
        sheet=origin.read_bytes(AUGMENTATION_SHEET) if origin.exists(AUGMENTATION_SHEET) else None,
        range_test=read_range_test(origin),
    )


def _json(place: Storage, name: str) -> Any:
    if not place.exists(name):
        return None
    try:
        return json.loads(place.read_bytes(name))
    except ValueError as error:
        raise DataError(f"{place.uri}/{name}: is damaged ({error}); write it again, or remove it") from error


def _checkpoint(place: Storage, evaluation: Mapping[str, Any] | None) -> Checkpoint | None:
    """Open the checkpoint that was evaluated, in the run's own folder first: a run may have been moved as a whole."""
    places = [place.child(BEST)]
    if evaluation is not None:
        places.append(Storage.at(evaluation["checkpoint_path"]))
    for candidate in places:
        try:
            found = open_checkpoint(candidate)
        except (CheckpointError, StorageError):
            continue
        if evaluation is None or found.document.id == evaluation["checkpoint"]:
            return found
    return None


def _origin(checkpoint: Checkpoint | None, evaluation: Mapping[str, Any] | None) -> Storage | None:
    if checkpoint is None or checkpoint.name != BEST or evaluation is None:
        return None
    folder, _ = Storage.of_file(checkpoint.uri)
    return folder if folder.exists(RUN) else None


def _trials(origin: Storage, metric: str) -> tuple[TrialRecord, ...]:
    records = records_from_json(origin.read_bytes(TRIALS_FILE))
    return tuple(
        replace(record, curve=tuple(float(epoch[metric]) for epoch in read_metrics(directory_of(origin, record.run))))
        for record in records
    )


def _winner(origin: Storage, trials: tuple[TrialRecord, ...], verdict: Mapping[str, Any] | None) -> Storage | None:
    winner = (verdict or {}).get("winner")
    return next((directory_of(origin, record.run) for record in trials if record.trial == winner), None)
