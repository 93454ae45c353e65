"""From a checkpoint to one that answers by an int8 network; in this process, on its CPUs."""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ray_trash.cluster.shares import usable_cpus
from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.evaluate.metrics import ClassificationSums, validation_record
from ray_trash.model.calibration import fit_calibration
from ray_trash.model.checkpoint import MARKER, Checkpoint, Quantized, write_checkpoint
from ray_trash.model.document import CheckpointDocument, FloatNetwork
from ray_trash.model.engine import plan_int8_engine
from ray_trash.model.golden import answer_golden
from ray_trash.model.openvino_engine import OpenVinoEngine
from ray_trash.model.openvino_network import convert_network, from_ir, quantize_network, to_ir
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.quantize.answers import Ask, ask_both, compare_answers, photos_per_s, why_refused
from ray_trash.quantize.photos import SidedPhotos
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.quantization import quantization_lines
from ray_trash.terminal.say import Terminal

_PACKAGES = ("openvino", "nncf")
_SERVED_ANYWHERE = {"engine": "auto", "device": "cpu", "precision": "auto"}
"""Of the stored `serve` section: what it said of another network would now ask for that one, or for none."""


def require_quantizable(checkpoint: Checkpoint, out: Storage, *, overwrite: bool) -> None:
    """Refuse what can be told before any photo is read.

    Raises:
        CheckpointError: The checkpoint has an int8 network already.
        ConfigError: Packages are missing, or something is at `out` already.
    """
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"quantize: {' and '.join(absent)} is not installed; pip install 'ray-trash[int8]'")
    if checkpoint.document.is_int8:
        raise CheckpointError(f"{checkpoint.uri}: has an int8 network already; name the checkpoint it was made of")
    if out.uri == checkpoint.uri or (out.list_names() and not overwrite):
        raise ConfigError(f"{out.uri}: is there already; give another --out, or --overwrite one that is not CHECKPOINT")


def quantize_checkpoint(
    checkpoint: Checkpoint,
    photos: SidedPhotos,
    out: Storage,
    *,
    max_loss_points: float | None,
    terminal: Terminal,
) -> dict[str, Any]:
    """Make a checkpoint that answers by an int8 network, with all that the other one has but what resume needs.

    The range of each layer is measured on training photos; on validation, both networks are compared, and temperature
    and thresholds fitted anew.

    Args:
        checkpoint: One that `require_quantizable` has taken.
        photos: Of its split.
        out: Where it goes; what is there is replaced.
        max_loss_points: How much accuracy it may lose, in percentage points; None takes it whatever it loses, as who
            measures nothing but speed does.
        terminal: Is told how far this has come, and how the two compare.

    Returns:
        The content of `quantized.json`, the new checkpoint's id as `id`, and its place as `out`.

    Raises:
        CheckpointError: The int8 network is significantly worse, or loses more than it may: nothing is written.
        DataError: A photo is not what it was when it was listed.
        StorageError: The new checkpoint cannot be written.
    """
    document, started_s = checkpoint.document, time.perf_counter()
    plan = plan_int8_engine("auto", "cpu", checkpoint.uri)
    predictor = Predictor.load(checkpoint, engine="openvino", device="cpu", n_threads=usable_cpus())
    with Bar(terminal, total=len(photos.train), doing="making int8 by", noun="training photos") as bar:
        squares = np.concatenate(list(photos.squares(photos.train)))
        converted = convert_network(load_network(checkpoint), document.preprocessing)
        ir = to_ir(quantize_network(converted, list(squares), lambda: bar.advance(1)))
    int8 = OpenVinoEngine(
        from_ir(ir, checkpoint.uri), views=document.views, dtype=plan.dtype, n_threads=torch.get_num_threads()
    )
    asked: tuple[Ask, Ask] = (lambda batch: document.calibration.undo(predictor.predict(batch)), int8.probabilities)
    with Bar(terminal, total=len(photos.val), doing="comparing") as bar:
        said = ask_both(asked, photos.squares(photos.val), bar.advance)
    comparison = compare_answers(said, photos.labels)
    for side, by, rate in zip(("float", "int8"), (predictor.plan, plan), photos_per_s(asked, squares), strict=True):
        comparison[side] |= {"engine": by.name, "photos_per_s": rate}
    report = {
        "quantized_from": document.id,
        "range_photos": len(squares),
        "threads": torch.get_num_threads(),
        "max_loss_points": max_loss_points,
        **comparison,
        "warnings": list(photos.warnings),
        "seconds": round(time.perf_counter() - started_s, 1),
    }
    for line in quantization_lines(report):
        terminal.say(line)
    why = None if max_loss_points is None else why_refused(report, max_loss_points=max_loss_points)
    if why is not None:
        raise CheckpointError(
            f"{checkpoint.uri}: int8 is refused: {why}; nothing was written, use the checkpoint as it is"
        )
    target_error = document.calibration.target_error
    calibration = fit_calibration(said[1], photos.labels, target_error=target_error)
    quantized = dataclasses.replace(
        document,
        calibration=calibration,
        golden=answer_golden(
            lambda batch: calibration.apply(int8.probabilities(batch)), document.golden, document.preprocessing
        ),
        metrics={**document.metrics, **_metrics(said[1], photos.labels, document)},
        config={**document.config, "serve": {**document.config.get("serve", {}), **_SERVED_ANYWHERE}},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={**document.versions, **{name: version(name) for name in _PACKAGES}},
        float_network=FloatNetwork(document.id, document.calibration, document.golden),
    )
    written = _write(out, checkpoint, quantized, Quantized(ir, report))
    return {**report, "id": written.id, "out": out.uri}


def _metrics(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], document: CheckpointDocument
) -> dict[str, float]:
    sums = ClassificationSums.zeros(len(document.classes))
    sums.update(probabilities, labels)
    return {name: value for name, value in validation_record(sums).items() if name in document.metrics}


def _write(
    out: Storage, checkpoint: Checkpoint, document: CheckpointDocument, quantized: Quantized
) -> CheckpointDocument:
    weights = checkpoint.weights()
    if out.is_local:
        return write_checkpoint(out.local_path(), weights, document, quantized=quantized)
    with tempfile.TemporaryDirectory() as folder:
        written = write_checkpoint(Path(folder), weights, document, quantized=quantized)
        out.remove(MARKER)
        above, name = Storage.of_file(out.uri)
        above.upload(Path(folder), name, last=MARKER)
    return written
