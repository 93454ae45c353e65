"""Training on a shared local Ray: S3, frozen stages, streams, worker counts, runs that exist."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ray_trash.dataset.catalog import count_trained_on, photo_keys
from ray_trash.errors import DataError
from ray_trash.model.calibration import fit_calibration
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.run import prepare_run, run_training
from tests.integration.training import configured, history, history_of, train
from tests.photos import make_photos, make_twenty_five_photos
from tests.runs import Command, epochs, error_line, settings, write_config
from tests.s3 import Bucket

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_photos_and_runs_may_be_on_s3_and_frozen_stages_keep_every_bit_through_three_workers_and_resume(
    command: Command, bucket: Bucket, tmp_path: Path
) -> None:
    photos = make_twenty_five_photos(tmp_path / "photos")
    (photos / "glass" / "bad.jpg").write_text("no photo")
    fs.copy_files(str(photos), f"{bucket.name}/set", destination_filesystem=bucket.filesystem)
    changes: dict[str, Any] = {"model__frozen_stages": 3, "data__cache": "stream", "train__epochs": 1}
    config = configured(tmp_path, bucket.uri("set"), storage=bucket.uri("runs"), **changes)
    before = prepare_run(config, resume=False, overwrite=False, terminal=Terminal.silent()).initial
    result = command("run", tmp_path / "tiny.yaml", *settings(**changes))
    assert result.code == 0, result.err
    stored = Storage.at(bucket.uri("runs/tiny"))
    assert open_checkpoint(stored.child("checkpoint")).document.epoch == 1
    assert [record["epoch"] for record in history_of(stored.read_bytes("metrics.jsonl"))] == [1]
    audit = json.loads(stored.read_bytes("audit.json"))
    assert audit["counts"]["accepted"] == 25
    assert audit["splits"]["train"]["per_class"]["metal"] == 1
    assert [entry["path"] for entry in audit["rejected"]] == ["glass/bad.jpg"]
    assert json.loads(stored.read_bytes("evaluation.json"))["n"] == audit["splits"]["test"]["n"]
    # The others find the checkpoint by the name that the first worker tells them. A mean over three is where the
    # rounding of statistics would show.
    changes |= {"train__epochs": 2, "train__workers": 3}
    resumed = command("train", tmp_path / "tiny.yaml", *settings(**changes), "--resume")
    assert resumed.code == 0, resumed.err
    assert [record["epoch"] for record in history_of(stored.read_bytes("metrics.jsonl"))] == [1, 2]
    after = open_checkpoint(stored.child("checkpoints", max(stored.child("checkpoints").list_names()))).weights()
    frozen = ("conv1.", "bn1.", "layer1.", "layer2.")
    for name, tensor in before.items():
        if name.startswith(frozen):
            assert torch.equal(tensor, after[name]), name
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("layer3."))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("fc."))


def test_streamed_photos_train_to_the_same_bits_as_photos_in_memory(
    trained: Path, tiny_photos: Path, tmp_path: Path
) -> None:
    train(configured(tmp_path, tiny_photos, data__cache="stream"))
    assert history(tmp_path / "runs" / "tiny") == history(trained)


def test_a_photo_that_vanishes_while_it_is_streamed_is_named(tmp_path: Path) -> None:
    own = make_photos(tmp_path / "own", 8)
    config = configured(tmp_path, own, data__cache="stream", train__epochs=50)
    terminal = Terminal.silent()
    prepared = prepare_run(config, resume=False, overwrite=False, terminal=terminal)
    victim = sorted((own / "glass").iterdir())[0]

    class VanishOnceStarted(Terminal):
        def say(self, text: str) -> None:
            if "epoch   1" in text:
                victim.unlink(missing_ok=True)

    with pytest.raises(DataError, match=f"glass/{victim.name}"):
        run_training(prepared, terminal=VanishOnceStarted.silent())


def test_every_documented_file_is_in_the_run_directory(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        *("config.json", "audit.json", "audit.png", "catalog.parquet", "metrics.jsonl", "tensorboard"),
        *("augmentation.png", "checkpoint", "checkpoints", "run.json"),
    }
    document = open_checkpoint(trained / "checkpoint").document
    assert document.classes == ("glass", "metal", "paper")
    assert np.isfinite(document.metrics["val_loss"])


@pytest.fixture
def run_of_two(trained: Path, tmp_path: Path) -> Path:
    """Copy the run of two epochs below `tmp_path`, where it may be gone on with or damaged."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "tiny"))


def test_a_second_run_of_a_name_needs_resume_or_overwrite(
    command: Command, tiny_photos: Path, run_of_two: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, tiny_photos)
    refused = command("train", config)
    assert refused.code == 2
    assert "--resume" in error_line(refused.err)
    assert "--overwrite" in error_line(refused.err)
    both = command("train", config, "--resume", "--overwrite")
    assert both.code == 2
    assert epochs(run_of_two) == [1, 2]


def test_a_truncated_newest_checkpoint_is_passed_over_by_name(
    command: Command, tiny_photos: Path, run_of_two: Path, tmp_path: Path
) -> None:
    newest = max((run_of_two / "checkpoints").iterdir())
    weights = newest / "weights.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[: len(data) // 2])
    again = command("train", write_config(tmp_path, tiny_photos), "--set", "train.epochs=3", "--resume")
    assert again.code == 0, again.err
    assert "passed over" in again.err
    assert newest.name in again.err
    assert epochs(run_of_two) == [1, 2, 3]


def test_photos_that_change_sides_are_noticed_and_all_that_were_trained_on_are_remembered(
    command: Command, tiny_photos: Path, run_of_two: Path, tmp_path: Path
) -> None:
    def sides() -> dict[str, str]:
        rows = pq.read_table(run_of_two / "catalog.parquet").to_pylist()
        return {row["path"]: row["split"] for row in rows}

    before = sides()
    other = {**dict.fromkeys(before, "test"), **{path: "train" for path, side in before.items() if side == "val"}}
    other.update({path: "val" for path, side in before.items() if side == "test"})
    (tmp_path / "split.csv").write_text("path,split\n" + "".join(f"{path},{side}\n" for path, side in other.items()))
    arguments = ("train", write_config(tmp_path, tiny_photos), *settings(train__epochs=3), "--resume")
    changed = (*arguments, "--set", f"data.split={tmp_path / 'split.csv'}")
    refused = command(*changed)
    assert refused.code == 3
    assert "on another side of the split" in error_line(refused.err)
    gone_on = command(*changed, "--allow-changed-data")
    assert gone_on.code == 0, gone_on.err
    catalog = pq.read_table(run_of_two / "catalog.parquet")
    seen = [before[path] == "train" or side == "train" for path, side in sides().items()]
    packed = open_checkpoint(max((run_of_two / "checkpoints").iterdir())).document.data["trained_on"]
    assert count_trained_on(packed, photo_keys(catalog)) == sum(seen)
    assert count_trained_on(packed, photo_keys(catalog.filter(seen))) == sum(seen)


def test_labels_and_sides_of_a_table_reach_training_evaluation_and_resume(
    command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    flat, table = tmp_path / "flat", tmp_path / "train.csv"
    flat.mkdir()
    lines = ["image_id;breed;split"]
    for number, photo in enumerate(sorted(tiny_photos.rglob("*.jpg"))):
        shutil.copy(photo, flat / f"{number:04x}.jpg")
        lines.append(f"{number:04x};{photo.parent.name};{('training', 'valid', 'test')[number % 3]}")
    table.write_text("\r\n".join(lines), encoding="utf-16")
    arguments = ("train", write_config(tmp_path, flat), *settings(data__labels=table, train__epochs=1))
    trained = command(*arguments)
    assert trained.code == 0, trained.err
    checkpoint = tmp_path / "runs" / "tiny" / "checkpoint"
    document = open_checkpoint(checkpoint).document
    assert document.classes == ("glass", "metal", "paper")
    assert document.data["n"] == {"train": 12, "val": 12, "test": 12}
    evaluated = command("evaluate", checkpoint, "--data", flat, "--labels", table, "--out", tmp_path / "test")
    assert evaluated.code == 0, evaluated.err
    predictions = pq.read_table(tmp_path / "test" / "predictions.parquet").to_pylist()
    assert [row["path"] for row in predictions] == [f"{number:04x}.jpg" for number in range(2, 36, 3)]
    assert {row["path"]: row["true_label"] for row in predictions}["0002.jpg"] == "glass"
    table.write_text("\n".join(lines).replace("0000;glass", "0000;paper"))
    refused = command(*arguments, "--resume")
    assert refused.code == 3
    assert "1 with another content or label (0000.jpg)" in error_line(refused.err)


def test_a_resumed_run_that_is_over_trains_no_further_and_finds_the_same_of_its_photos(
    command: Command, tiny_photos: Path, run_of_two: Path, tmp_path: Path
) -> None:
    before, audit = ((run_of_two / name).read_bytes() for name in ("metrics.jsonl", "audit.json"))
    over = command("train", write_config(tmp_path, tiny_photos), *settings(train__epochs=2), "--resume")
    assert over.code == 0, over.err
    assert (run_of_two / "metrics.jsonl").read_bytes() == before
    assert (run_of_two / "audit.json").read_bytes() == audit


def test_a_run_ends_when_its_time_is_up_and_goes_on_when_it_is_given_more(tiny_photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "tiny"
    train(configured(tmp_path, tiny_photos, train__epochs=3, train__time_budget_min=1e-6))
    assert epochs(run) == [1]
    assert history(run)[-1]["stop_reason"] == "trained 1 of 3 epochs, as train.time_budget_min=1e-06 allows"
    train(configured(tmp_path, tiny_photos, train__epochs=3, train__time_budget_min=60), resume=True)
    assert epochs(run) == [1, 2, 3]
    assert [record["stop_reason"] for record in history(run)[1:]] == ["", "trained all 3 epochs"]
    drawn = [record["epoch"] for record in history(run) if record["is_best"] or record["stop_reason"]]
    assert drawn == [1, 3], "an epoch that is neither the best nor the last shows that it is left out"
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Images("confusion_matrix")] == drawn


def test_a_rate_that_is_looked_for_is_found_once_kept_and_shown(
    command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    config, run = write_config(tmp_path, tiny_photos), tmp_path / "runs" / "tiny"
    changes: dict[str, Any] = {"train__learning_rate": "auto", "train__schedule": "constant"}
    begun = command("train", config, *settings(train__epochs=1, **changes))
    assert begun.code == 0, begun.err
    found = json.loads((run / "learning_rate.json").read_bytes())
    assert f"learning rate {found['learning_rate']:g}, by {len(found['rates'])} steps of a range test: " in begun.err
    assert json.loads((run / "run.json").read_bytes())["learning_rate"] == found["learning_rate"]
    gone_on = command("train", config, *settings(train__epochs=2, **changes), "--resume")
    assert gone_on.code == 0, gone_on.err
    assert "range test" not in gone_on.err
    rates = [record["learning_rate"] for record in history(run)]
    assert rates == [found["learning_rate"]] * 2
    assert found["why"] in (run / "report.html").read_text()
    assert (run / "learning_rate.png").exists()
    refused = command("tune", config, *settings(name="sweep", **changes))
    assert refused.code == 2
    assert "train.learning_rate=auto: a sweep compares rates that are known" in error_line(refused.err)


def test_the_temperature_fits_what_is_answered_also_where_that_is_a_mean_over_views(
    tiny_photos: Path, tmp_path: Path
) -> None:
    # Kept by `last`, an epoch is answered in all views only where it stays the last.
    train(configured(tmp_path, tiny_photos, evaluate__views=8, train__precision="fp32", train__select_by="last"))
    run = tmp_path / "runs" / "tiny"
    predictor = Predictor.load(run / "checkpoint", device="cpu", precision="fp32")
    document = predictor.document
    assert document.epoch == 2
    photos = [row for row in pq.read_table(run / "catalog.parquet").to_pylist() if row["split"] == "val"]
    squares = np.stack([predictor.prepare((tiny_photos / row["path"]).read_bytes()) for row in photos])
    labels = np.array([document.classes.index(row["label"]) for row in photos])
    said = document.calibration.undo(predictor.predict(squares))
    expected = fit_calibration(said, labels, target_error=document.calibration.target_error)
    assert document.calibration.temperature == pytest.approx(expected.temperature, rel=1e-3)
