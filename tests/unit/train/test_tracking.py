"""What a run leaves in TensorBoard and MLflow."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ray_trash.config import Config
from ray_trash.errors import ConfigError
from ray_trash.evaluate.metrics import VALIDATION_FIGURES
from ray_trash.storage import Storage
from ray_trash.train.record import EpochRecord
from ray_trash.train.tracking import MLflow, TensorBoard

pytestmark = pytest.mark.filterwarnings(
    # MLflow's and TensorBoard's own imports warn of what they use themselves.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
)


def record(epoch: int) -> EpochRecord:
    metrics = {"train_loss": 1 / epoch, "train_accuracy": 0.5, **dict.fromkeys(VALIDATION_FIGURES, 0.5)}
    return EpochRecord(epoch, metrics, 1e-3, 1e-2, 0, 1, 20.0, 1.0, False, "", f"epoch-{epoch:03d}-val_loss-0.5000")


def config(uri: str) -> Config:
    return Config.model_validate({"name": "one", "data": {"root": "photos"}, "train": {"mlflow_tracking_uri": uri}})


def test_curves_and_pictures_are_there_once_an_epoch_after_a_resume(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    first = TensorBoard(run, first_epoch=1)
    for epoch in (1, 2, 3):
        first.add_epoch(record(epoch))
    first.add_picture("augmentation", picture.getvalue(), 0)
    first.close()
    # The third epoch's checkpoint was damaged: the run goes on after the second.
    second = TensorBoard(run, first_epoch=3)
    second.add_epoch(record(3))
    second.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert events.Tags()["images"] == ["augmentation"]
    rates = {tag: events.Scalars(f"run/{tag}")[0].value for tag in ("learning_rate", "head_learning_rate")}
    assert rates == pytest.approx({"learning_rate": 1e-3, "head_learning_rate": 1e-2})


def test_mlflow_gets_parameters_and_curves_and_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    said: list[str] = []
    tracker = MLflow(config(uri), None, said.append)
    tracker.add_epoch(record(1))
    resumed = MLflow(config(uri), tracker.run_id, said.append)
    resumed.add_epoch(record(2))
    resumed.close()
    assert tracker.run_id is not None
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(tracker.run_id)
    assert run.data.params["train.mlflow_tracking_uri"] == uri
    assert [metric.step for metric in client.get_metric_history(tracker.run_id, "train_loss")] == [1, 2]
    assert run.info.status == "FINISHED"
    assert said == []


def test_a_tracking_server_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ConfigError, match=r"train\.mlflow_tracking_uri=file://.*refuses"):
        MLflow(config((tmp_path / "mlruns").as_uri()), None, lambda _: None)
