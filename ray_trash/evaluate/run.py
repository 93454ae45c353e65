"""One evaluation, from a checkpoint and a folder of photos to the files of the result.

Every accepted photo of the split is scored exactly once, and what was not scored is named.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_trash.cluster.capacity import ScoringPlan, wait_for_room
from ray_trash.cluster.here import is_connected, is_little, photos_of_224_px
from ray_trash.dataset.catalog import accepted_photos, fingerprint, require_usable_photos
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.scan import build_catalog
from ray_trash.errors import CheckpointError
from ray_trash.evaluate.masked import masked_accuracies
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.outputs import (
    CONFUSION_PICTURE_FILE,
    EVALUATION_FILE,
    PREDICTIONS_FILE,
    Evaluation,
    evaluation_json,
    predictions_table,
)
from ray_trash.evaluate.picture import draw_confusion_matrix
from ray_trash.evaluate.scoring import score_photos
from ray_trash.evaluate.selective import selective_figures
from ray_trash.evaluate.sides import list_of_classes, photos_on, put_on_sides, split_rule, warnings_of
from ray_trash.evaluate.unknown import N_PICTURES, draw_unknown, unknown_figures
from ray_trash.image.mask import Mask
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.score.pool import Computation, plan_here
from ray_trash.score.rows import parquet_bytes
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal

if TYPE_CHECKING:
    from ray_trash.cluster.growing import Wait

_logger = logging.getLogger(__name__)
_ALL = "--split all"


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    data_root: str,
    *,
    labels_uri: str | None = None,
    split: Literal["test", "val", "train", "all"],
    out: Storage,
    workers: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
    forward_batch_photos: int | None = None,
    views: Literal[1, 8] | None = None,
    with_masks: bool = False,
    wait: Wait = "auto",
    listed: Listing | None = None,
    terminal: Terminal | None = None,
) -> dict[str, Any]:
    """Score the photos of one split and write the result.

    Writes `predictions.parquet`, `confusion_matrix.png` and, last, `evaluation.json`. The same photos, checkpoint,
    batch size and kind of processor give the same files for any number of workers; few photos are scored by this
    process, which needs no connection to Ray.

    Args:
        checkpoint: An open one, at a place that every worker can open.
        data_root: Folder of class folders; folders of other classes are ignored and reported.
        labels_uri: Table of labels, as `data.labels`. Default: the folders are the labels.
        split: Which side of the checkpoint's own split rule, or `all` photos whatever their side.
        out: Folder for the result.
        workers: Processes that score, half a CPU or one GPU each. Default: one per GPU, or one per CPU where there is
            none, and fewer for few photos.
        device: Where to compute.
        precision: What to compute in; fp32 gives figures that compare across machines. A checkpoint with an int8
            network is judged by that, on CPUs, whatever is asked.
        forward_batch_photos: Photos of one forward pass. Default: as the checkpoint says.
        views: Symmetries of a photo that its answer is the mean over. Default: as the checkpoint says. With another
            number its temperature and thresholds stay as they are, as `score` and `serve` keep them, and the result
            warns of it.
        with_masks: Score the photos twice more, with their border and with their centre hidden, and drawn pictures
            that belong to no class.
        wait: How many seconds to wait for machines; `auto` is some minutes where the cluster grows.
        listed: What `list_of_classes` gave. Default: it is listed here.
        terminal: Is told how far this has come, and what is waited for.

    Returns:
        The content of `evaluation.json`.

    Raises:
        CheckpointError: The checkpoint cannot be used, or answers with numbers that are not finite.
        DataError: The data root cannot be used, or the split has no photo.
        ConfigError: `workers` is below 1.
        ClusterError: The workers do not fit the cluster.
        StorageError: The result cannot be written.
    """
    document = checkpoint.document
    views, terminal = views or document.views, terminal or Terminal.silent()
    if document.is_int8:
        device, precision = "cpu", "auto"
    rule = None if split == "all" else split_rule(document, checkpoint.uri, instead=f"evaluate with {_ALL}")
    plan = _plan_on_cluster(workers, device, wait, terminal) if is_connected() else None
    computation = Computation(
        checkpoint.uri,
        document.preprocessing,
        engine="auto" if document.is_int8 else "torch",
        precision=precision,
        batch_photos=forward_batch_photos or document.forward_batch_photos,
        views=views,
    )

    listing = listed or list_of_classes(document, data_root, labels_uri=labels_uri, terminal=terminal)
    # The photos of the split are decoded a second time for scoring. Keeping what was decoded here would hold every
    # photo of the root, most of them of other splits, to save a few percent of what the network costs; and which split
    # a photo is in is known only once all are hashed.
    catalog = build_catalog(listing, document.preprocessing, terminal=terminal).catalog
    require_usable_photos(catalog)
    photos, warnings = accepted_photos(catalog), list(listing.warnings)
    if rule is not None and split != "all":
        instead = f"to evaluate on all of them use {_ALL}"
        sided, split_warnings = put_on_sides(catalog, rule, listing.root, instead=instead)
        photos = photos_on(split, sided, rule, listing.root, instead=f"use another --split, or {_ALL}")
        warnings += split_warnings
    found_fingerprint = fingerprint(catalog)
    warnings += warnings_of(split, photos, found_fingerprint, document)
    if note := document.views_note(views):
        warnings.append(note)

    masks: tuple[Mask | None, ...] = (None, "border", "centre") if with_masks else (None,)
    unknown_kinds, unknown_squares = draw_unknown(document.preprocessing) if with_masks else ((), None)
    n_pictures = len(masks) * len(photos) + len(unknown_kinds)
    cost = photos_of_224_px(n_pictures, size_px=document.preprocessing.size_px, views=views)
    if plan is None or is_little(cost, workers=workers):
        plan = plan_here(one_thread=True, device=device)
    elif workers is None:
        plan = plan.scaled_to(n_pictures, views=views)
    _logger.info("scoring %d photos (split %s) on %d %s workers", len(photos), split, plan.workers, plan.device)
    given: dict[str, Any] = {"masks": masks, "squares": unknown_squares}
    scores = score_photos(computation, listing.root, photos, plan=plan, terminal=terminal, **given)
    if not scores.are_finite():
        raise CheckpointError(
            f"{checkpoint.uri}: gives probabilities that are not finite for some photos; use another checkpoint"
        )

    labels = photos["label"].to_pylist()
    label_numbers = np.array([document.classes.index(label) for label in labels])
    sums, *masked = (_count(probabilities, label_numbers, len(document.classes)) for probabilities in scores.photos)
    calibration, probabilities = document.calibration, scores.photos[0]
    abstained = calibration.abstains(probabilities)
    result = Evaluation(
        sums=sums,
        classes=document.classes,
        split=split,
        checkpoint=document.id,
        checkpoint_path=checkpoint.uri,
        data_root=listing.root,
        dataset_fingerprint=found_fingerprint,
        scoring={
            "device": plan.device,
            "precision": "int8" if document.is_int8 else precision,
            "batch_size": computation.batch_photos,
            "views": views,
        },
        counts=_counts(catalog),
        skipped=_findings(catalog, "rejected"),
        ignored=_findings(catalog, "ignored"),
        warnings=warnings,
        selective=selective_figures(probabilities, label_numbers, calibration, document.classes),
        masked=masked_accuracies(sums, border=masked[0], centre=masked[1]) if with_masks else None,
        unknown=unknown_figures(unknown_kinds, calibration.abstains(scores.squares)) if with_masks else None,
    ).to_json()
    predictions = predictions_table(
        paths=photos["path"].to_pylist(),
        true_labels=labels,
        probabilities=probabilities,
        abstained=abstained,
        sha256=photos["sha256"].to_pylist(),
        classes=document.classes,
    )
    title = f"{document.id} on {split}: {sums.correct}/{sums.n} right"
    picture = draw_confusion_matrix(sums.confusion, document.classes, title=title)
    out.write_bytes(PREDICTIONS_FILE, parquet_bytes(predictions))
    out.write_bytes(CONFUSION_PICTURE_FILE, picture)
    out.write_bytes(EVALUATION_FILE, evaluation_json(result))
    return result


def most_work(document: CheckpointDocument, listed: Listing, *, views: int | None, with_masks: bool) -> float:
    """Say how many photos of 224 pixels an evaluation is worth at most, reading them included."""
    n_files = len(listed.files)
    n_pictures = 3 * n_files + N_PICTURES if with_masks else n_files
    size_px = document.preprocessing.size_px
    return max(n_files, photos_of_224_px(n_pictures, size_px=size_px, views=views or document.views))


def _plan_on_cluster(
    workers: int | None, device: Literal["auto", "cpu", "cuda"], wait: Wait, terminal: Terminal
) -> ScoringPlan:
    from ray_trash.cluster.growing import wait_for_scoring

    plan = wait_for_scoring(workers, device, one_thread_each=True, wait=wait, say=terminal.say)
    wait_for_room(plan)
    return plan


def _count(probabilities: NDArray[np.float32], label_numbers: NDArray[np.int64], n_classes: int) -> ClassificationSums:
    # In the catalog's order and in one go, so that the float sums do not depend on the workers.
    sums = ClassificationSums.zeros(n_classes)
    sums.update(probabilities, label_numbers)
    return sums


def _counts(catalog: pa.Table) -> dict[str, int]:
    verdicts = Counter(catalog["verdict"].to_pylist())
    return {"seen": len(catalog), **{name: verdicts[name] for name in ("accepted", "rejected", "ignored")}}


def _findings(catalog: pa.Table, verdict: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = (
        catalog.filter(pc.equal(catalog["verdict"], verdict)).select(["path", "reason"]).to_pylist()
    )
    return found
