"""What the program wrote below a data root is never read as photos, and no photo is taken for its work."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from ray_trash.audit.run import AUDIT_FILE, SHEET_FILE
from ray_trash.dataset import written
from ray_trash.dataset.listing import list_photos
from ray_trash.evaluate.outputs import CONFUSION_PICTURE_FILE, EVALUATION_FILE, PREDICTIONS_FILE
from ray_trash.explain.run import EXPLANATIONS_FILE, picture_name
from ray_trash.model.checkpoint import DOCUMENT_FILE, MARKER
from ray_trash.score.chunks import PLAN_FILE, Target
from ray_trash.train.run_directory import AUGMENTATION_SHEET, RUN
from tests.photos import put

PHOTOS = ("glass/1.jpg", "paper/1.jpg")


def test_the_marks_are_the_names_that_are_written() -> None:
    pictures = {AUGMENTATION_SHEET, SHEET_FILE, CONFUSION_PICTURE_FILE}
    assert written.RUN_MARK == RUN
    assert {
        RUN: pictures,
        AUDIT_FILE: {SHEET_FILE},
        EVALUATION_FILE: {CONFUSION_PICTURE_FILE, PREDICTIONS_FILE},
        DOCUMENT_FILE: {MARKER},
    } == written.WRITTEN_BESIDE
    assert written.EXPLAINED_MARK == EXPLANATIONS_FILE
    assert written.EXPLAINED_PICTURE.fullmatch(picture_name(7, "glass/a b.jpg"))
    assert Target("a.parquet").chunks_name == f"a.parquet{written.CHUNKS_SUFFIX}"
    assert written.CHUNKS_MARK == PLAN_FILE


def test_runs_and_results_are_no_photos_and_their_folders_no_classes(tmp_path: Path) -> None:
    run = [
        "run.json",
        "audit.json",
        "audit.png",
        "augmentation.png",
        "checkpoint/COMPLETE",
        "tensorboard/events.1.host",
    ]
    ours = [
        *(f"runs/tiny/{name}" for name in run),
        *("runs/tiny/trials/000/run.json", "runs/tiny/trials/000/augmentation.png", "runs/failed/run.json"),
        *("test/evaluation.json", "test/predictions.parquet", "test/confusion_matrix.png"),
        *("glass/audit.json", "glass/audit.png", "audit.json", "audit.png"),
        *("maps/explanations.json", "maps/0000-1.jpg.png", "maps/0001-1.jpg.png"),
        *("model/COMPLETE", "model/checkpoint.json", "scores.parquet.parts/plan.json"),
    ]
    put(tmp_path, *ours, *PHOTOS, "scores.parquet", "scores.parquet.parts/000000.parquet", "model/weights.safetensors")
    listing = list_photos(str(tmp_path))
    assert listing.classes == ("glass", "paper")
    assert listing.files["path"].to_pylist() == [*PHOTOS]
    ignored = listing.ignored.filter(pc.equal(listing.ignored["reason"], "written by this program"))
    assert set(ignored["path"].to_pylist()) == set(ours)


def test_a_run_beside_the_folder_of_classes_hides_none_of_it(tmp_path: Path) -> None:
    put(tmp_path, *(f"images/train/{path}" for path in PHOTOS), *(f"images/test/{path}" for path in PHOTOS))
    before = list_photos(str(tmp_path))
    put(tmp_path, "runs/tiny/run.json", "runs/tiny/audit.png", "images/audit.json", "images/audit.png")
    after = list_photos(str(tmp_path))
    assert after.files.equals(before.files)
    assert after.classes == before.classes == ("glass", "paper")


def test_photos_are_photos_though_their_folder_is_marked(tmp_path: Path) -> None:
    put(tmp_path, *PHOTOS, "glass/run.json", "glass/plan.json", "paper/confusion_matrix.png", "run.json", "a/2.jpg")
    listing = list_photos(str(tmp_path))
    assert listing.files["path"].to_pylist() == [
        "a/2.jpg",
        "glass/1.jpg",
        "paper/1.jpg",
        "paper/confusion_matrix.png",
    ]
