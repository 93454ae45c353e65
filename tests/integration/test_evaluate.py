from __future__ import annotations

import hashlib
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from PIL import Image
from rich.console import Console

from ray_trash.cluster.capacity import ScoringPlan, plan_scoring
from ray_trash.dataset.split import SplitRule
from ray_trash.errors import CheckpointError, ClusterError, DataError
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.run import evaluate_checkpoint
from ray_trash.evaluate.scoring import Scores, score_photos
from ray_trash.evaluate.unknown import draw_unknown, unknown_figures
from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.tensor import normalise
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import open_checkpoint, write_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import build_network
from ray_trash.model.predictor import Predictor
from ray_trash.quantize.photos import find_photos
from ray_trash.score.pool import Computation
from ray_trash.score.rows import classes_of
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from tests.models import write_int8_model

pytestmark = pytest.mark.usefixtures("ray_cluster")

CLASSES = ("tin", "glass", "paper", "wood")
"""Not in alphabetical order, and there is no photo of the last one."""
PER_CLASS = 20
BATCH_SIZE = 8
"""Such that three workers all get batches, and the last batch is short."""
CALIBRATION = Calibration(1.5, (0.45, 0.4, 0.5, 0.4), 0.1, 40)
PREPROCESSING = Preprocessing(size_px=64, stored_short_side_px=64, fit="stretch")


def draw_photo(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    colours = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return colours.resize(size, Image.Resampling.BICUBIC)


def save_photo(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_photo(rng, (96, 72)).save(path, "JPEG")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for label in CLASSES[:3]:
        for number in range(PER_CLASS):
            save_photo(root / label / f"{number}.jpg", rng)
    save_photo(root / "rubber" / "1.jpg", rng)
    whole = (root / "tin" / "0.jpg").read_bytes()
    (root / "tin" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "glass" / "empty.jpg").touch()
    (root / "glass" / ".hidden.jpg").write_bytes(whole)
    return root


@torch.no_grad()
def spread_answers(network: torch.nn.Module) -> None:
    """Without this, an untrained network gives one class to every photo, and any mix-up would pass."""
    rng = np.random.default_rng(1)
    squares = np.stack([np.asarray(draw_photo(rng, (64, 64))) for _ in range(16)])
    logits = network(normalise(torch.from_numpy(squares), PREPROCESSING, dtype=torch.float32))  # (16, C)
    spread, mean = torch.std_mean(logits, dim=0)
    head = network.fc
    assert isinstance(head, torch.nn.Linear)
    head.weight /= spread[:, None]
    head.bias.copy_((head.bias - mean) / spread)


def write_random_checkpoint(directory: Path, rule: SplitRule) -> Path:
    torch.manual_seed(0)
    network = build_network(len(CLASSES), hidden_layers=(), dropout=0.0)
    network.eval()
    spread_answers(network)
    document = CheckpointDocument(
        classes=CLASSES,
        hidden_layers=(),
        dropout=0.0,
        frozen_stages=0,
        preprocessing=PREPROCESSING,
        views=1,
        calibration=CALIBRATION,
        metrics={},
        data={"split": rule.to_json()},
        config={},
        epoch=0,
        created_at="2026-01-01T00:00:00+00:00",
        versions={},
        golden=compute_golden(network, PREPROCESSING, 1, CALIBRATION),
    )
    write_checkpoint(directory, network.state_dict(), document)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rule = SplitRule("stratified", val_fraction=0.2, test_fraction=0.3)
    return write_random_checkpoint(tmp_path_factory.mktemp("run") / "checkpoint", rule)


def evaluate(checkpoint: Path, photos: Path, out: Path, **options) -> dict:
    return evaluate_checkpoint(
        open_checkpoint(checkpoint),
        str(photos),
        out=Storage.at(out),
        device="cpu",
        forward_batch_photos=BATCH_SIZE,
        **options,
    )


@pytest.fixture(scope="module")
def evaluations(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Evaluate with workers, and for 0 of them in this process."""
    folders, scored_by = {}, []

    def score(*arguments: Any, plan: ScoringPlan, **options: Any) -> Scores:
        scored_by.append(0 if plan.in_process else plan.workers)
        return score_photos(*arguments, plan=plan, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_trash.evaluate.run.score_photos", score)
        for workers in (0, 1, 2, 3):
            folders[workers] = tmp_path_factory.mktemp(f"evaluation-{workers}")
            evaluate(checkpoint, photos, folders[workers], split="all", workers=workers or None)
    assert scored_by == [0, 1, 2, 3]
    return folders


def read_json(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_any_number_of_workers_gives_the_same_files_to_the_bit(evaluations, workers):
    assert read_json(evaluations[workers])["confusion_matrix"] == read_json(evaluations[1])["confusion_matrix"]
    for name in ("predictions.parquet", "evaluation.json"):
        assert (evaluations[workers] / name).read_bytes() == (evaluations[1] / name).read_bytes()


def test_every_good_photo_is_scored_once_and_every_other_file_is_named(evaluations):
    result = read_json(evaluations[1])
    predictions = pq.read_table(evaluations[1] / "predictions.parquet")

    expected = sorted(f"{label}/{number}.jpg" for label in CLASSES[:3] for number in range(PER_CLASS))
    assert predictions.column("path").to_pylist() == expected
    assert result["n"] == 3 * PER_CLASS
    assert result["skipped"] == [
        {"path": "glass/empty.jpg", "reason": "empty_file"},
        {"path": "tin/cut.jpg", "reason": "truncated"},
    ]
    assert [item["path"] for item in result["ignored"]] == ["glass/.hidden.jpg", "rubber/1.jpg"]
    assert result["counts"] == {"seen": 64, "accepted": 60, "rejected": 2, "ignored": 2}
    assert any("rubber" in warning for warning in result["warnings"])


def test_rows_and_figures_are_those_of_the_predictor_alone(evaluations, checkpoint, photos):
    predictions = pq.read_table(evaluations[1] / "predictions.parquet")
    probabilities = np.stack(predictions.column("probabilities").to_numpy())
    predictor = Predictor.load(checkpoint, device="cpu", precision="fp32")
    encoded = [(photos / path).read_bytes() for path in predictions.column("path").to_pylist()]
    expected = predictor.predict(np.stack([predictor.prepare(photo) for photo in encoded]))
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)

    assert classes_of(predictions.schema) == list(CLASSES)
    assert predictions.column("label").to_pylist() == [CLASSES[i] for i in probabilities.argmax(axis=1)]
    labels = np.array([CLASSES.index(path.split("/")[0]) for path in predictions.column("path").to_pylist()])
    sums = ClassificationSums.zeros(len(CLASSES))
    sums.update(probabilities, labels)
    result = read_json(evaluations[1])
    assert result["confusion_matrix"] == sums.confusion.tolist()
    assert result["accuracy"] == sums.accuracy
    assert result["loss"] == pytest.approx(sums.loss)
    assert len(set(predictions.column("label").to_pylist())) > 2
    assert result["per_class"]["wood"]["recall"] is None


def test_what_is_left_unanswered_is_in_the_rows_and_counted(evaluations):
    result = read_json(evaluations[1])
    predictions = pq.read_table(evaluations[1] / "predictions.parquet")
    thresholds = [CALIBRATION.thresholds[CLASSES.index(label)] for label in predictions.column("label").to_pylist()]
    abstained = predictions.column("confidence").to_numpy() < np.array(thresholds, np.float32)
    assert predictions.column("abstained").to_pylist() == abstained.tolist()
    assert 0 < result["selective"]["answered"] == (~abstained).sum() < result["n"]
    assert result["selective"]["target_error"] == CALIBRATION.target_error
    assert result["selective"]["thresholds"] == dict(zip(CLASSES, CALIBRATION.thresholds, strict=True))
    assert result["risk_coverage"][0]["risk"] == pytest.approx(1 - result["accuracy"])
    assert 0 < result["aurc"] < 1
    assert result["ece_uncalibrated"] != result["ece"]


def test_masks_come_with_pictures_of_no_class(evaluations, checkpoint, photos, tmp_path):
    result = evaluate(checkpoint, photos, tmp_path, split="all", workers=1, with_masks=True)
    kinds, squares = draw_unknown(PREPROCESSING)
    abstained = CALIBRATION.abstains(Predictor.load(checkpoint, device="cpu", precision="fp32").predict(squares))
    assert result["unknown"] == unknown_figures(kinds, abstained)
    assert 0 < result["unknown"]["abstained"] < result["unknown"]["n"] == len(kinds)
    assert set(result["masked"]) == {"border", "centre"}
    alone = pq.read_table(evaluations[1] / "predictions.parquet")
    assert pq.read_table(tmp_path / "predictions.parquet").equals(alone)
    assert "unknown" not in read_json(evaluations[1])


def test_over_other_views_the_answers_are_their_mean_and_that_is_said(checkpoint, photos, tmp_path):
    said = io.StringIO()
    terminal = Terminal(Console(file=said, width=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_trash.terminal.bar.FIRST_LINE_S", 0.0)
        result = evaluate(checkpoint, photos, tmp_path, split="all", workers=1, views=8, terminal=terminal)
    assert result["scoring"]["views"] == 8
    assert any("over 8 views" in warning and "over 1" in warning for warning in result["warnings"])
    predictor = Predictor.load(checkpoint, device="cpu", precision="fp32", views=8)
    predictions = pq.read_table(tmp_path / "predictions.parquet")
    encoded = [(photos / path).read_bytes() for path in predictions.column("path").to_pylist()]
    expected = predictor.predict(np.stack([predictor.prepare(photo) for photo in encoded]))
    np.testing.assert_allclose(np.stack(predictions.column("probabilities").to_numpy()), expected, atol=1e-4)
    for step in ("reading", "scoring"):
        assert re.search(rf"^{step} .*\d+", said.getvalue(), re.MULTILINE), step


def test_the_picture_is_written_beside_the_figures(evaluations):
    assert Image.open(evaluations[1] / "confusion_matrix.png").format == "PNG"


def test_a_split_holds_the_photos_the_checkpoints_rule_gives_it(evaluations, checkpoint, photos, tmp_path):
    tested = evaluate(checkpoint, photos, tmp_path / "test", split="test", workers=1)
    everything = pq.read_table(evaluations[1] / "predictions.parquet").to_pylist()
    scored = pq.read_table(tmp_path / "test" / "predictions.parquet").to_pylist()

    by_path = {row["path"]: row for row in everything}
    assert 0 < tested["n"] == len(scored) < 40
    for row in scored:
        assert row["sha256"] == by_path[row["path"]]["sha256"]
        np.testing.assert_allclose(row["probabilities"], by_path[row["path"]]["probabilities"], atol=1e-4)
    assert tested["dataset_fingerprint"] == read_json(evaluations[1])["dataset_fingerprint"]


def test_a_split_without_photos_is_a_data_error_that_names_it(photos, tmp_path):
    rule = SplitRule("stratified", val_fraction=0.2, test_fraction=0.0)
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", rule)
    with pytest.raises(DataError, match=r"the split 'test' has no photo .*--split all"):
        evaluate(checkpoint, photos, tmp_path / "out", split="test", workers=1)
    assert not (tmp_path / "out").exists()


def test_photos_of_foreign_classes_only_are_a_data_error(checkpoint, tmp_path):
    for label in ("rubber", "stone"):
        save_photo(tmp_path / "photos" / label / "1.jpg", np.random.default_rng(0))
    with pytest.raises(DataError, match=r"'rubber', 'stone'.*'tin', 'glass', 'paper', 'wood'"):
        evaluate(checkpoint, tmp_path / "photos", tmp_path / "out", split="all", workers=1)


def test_photos_that_are_all_bad_are_a_data_error_that_names_one(checkpoint, tmp_path):
    (tmp_path / "photos" / "tin").mkdir(parents=True)
    (tmp_path / "photos" / "tin" / "1.jpg").touch()
    with pytest.raises(DataError, match=r"1 rejected: 1 empty file JPG; such as 'tin/1\.jpg': the file is empty"):
        evaluate(checkpoint, tmp_path / "photos", tmp_path / "out", split="all", workers=1)


def test_more_workers_than_fit_are_refused_within_seconds(checkpoint, photos, tmp_path):
    workers = 2 * int(ray.cluster_resources()["CPU"]) + 1
    begun = time.monotonic()
    with pytest.raises(ClusterError, match=rf"workers={workers} asks for .* available: "):
        evaluate(checkpoint, photos, tmp_path, split="all", workers=workers)
    assert time.monotonic() - begun < 15


def score_two(checkpoint_uri: str, photos: Path, sha256: list[str]) -> None:
    score_photos(
        Computation(checkpoint_uri, PREPROCESSING, engine="torch", precision="fp32", batch_photos=1),
        str(photos),
        pa.table({"path": ["tin/0.jpg", "tin/1.jpg"], "sha256": sha256}),
        plan=plan_scoring(1, "cpu", [1.0], 0, one_thread_each=True),
    )


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_photo_that_changes_under_the_evaluation_is_a_data_error(checkpoint, photos):
    sha256 = [sha256_of(photos / "tin/0.jpg"), "0" * 64]
    with pytest.raises(DataError, match=r"^tin/1\.jpg: changed since it was catalogued"):
        score_two(str(checkpoint), photos, sha256)


def test_a_checkpoint_a_worker_cannot_open_is_a_checkpoint_error(photos, tmp_path):
    sha256 = [sha256_of(photos / "tin/0.jpg"), sha256_of(photos / "tin/1.jpg")]
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        score_two(str(tmp_path / "nothing"), photos, sha256)


def test_a_quantized_checkpoint_is_judged_by_its_int8_network(checkpoint, photos, tmp_path):
    write_int8_model(tmp_path / "int8", checkpoint)
    document = evaluate(tmp_path / "int8", photos, tmp_path / "out", split="all", workers=1)
    assert (document["scoring"]["precision"], document["scoring"]["device"]) == ("int8", "cpu")
    assert document["checkpoint"] == open_checkpoint(tmp_path / "int8").document.id
    assert document["n"] == 3 * PER_CLASS


def test_photos_to_quantize_with_are_on_the_sides_of_the_checkpoint_s_split(checkpoint, photos):
    found = find_photos(open_checkpoint(checkpoint), str(photos), terminal=Terminal.silent())
    sides = [set(found.train["sha256"].to_pylist()), set(found.val["sha256"].to_pylist())]
    assert not sides[0] & sides[1]
    assert all(sides)
    assert [CLASSES[label] for label in found.labels] == found.val["label"].to_pylist()
    squares = np.concatenate(list(found.squares(found.val)))
    assert squares.shape == (len(found.val), 64, 64, 3)
    assert any("rubber" in warning for warning in found.warnings)
