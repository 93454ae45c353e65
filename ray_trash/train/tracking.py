"""What a run leaves for people to look at: TensorBoard, the contact sheet, MLflow. Written by the first worker."""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ray_trash.config import Config, effective_tree
from ray_trash.errors import ConfigError
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.picture import draw_confusion_matrix
from ray_trash.storage import Storage
from ray_trash.train.record import EpochRecord
from ray_trash.train.run_directory import AUGMENTATION_SHEET
from ray_trash.train.state import TrainState

TENSORBOARD = "tensorboard"
EXPERIMENT = "ray-trash"
"""MLflow's experiment that all runs belong to."""


class Tracking:
    """All that is drawn of a run."""

    def __init__(self, run: Storage, config: Config, state: TrainState, say: Callable[[str], None]) -> None:
        """Go on where the state is; MLflow's name for the run is kept in it."""
        self._tensorboard = TensorBoard(run, first_epoch=state.run.epochs_done + 1)
        self._trackers: list[TensorBoard | MLflow] = [self._tensorboard]
        if config.train.mlflow_tracking_uri:
            self._trackers.append(mlflow := MLflow(config, state.mlflow_run_id, say))
            state.mlflow_run_id = mlflow.run_id
        if run.exists(AUGMENTATION_SHEET):
            self._tensorboard.add_picture("augmentation", run.read_bytes(AUGMENTATION_SHEET), 0)

    def add_epoch(self, record: EpochRecord, validation: ClassificationSums, classes: Sequence[str]) -> None:
        """Add the curves of an epoch, and the confusion matrix of one that is the best so far or the last."""
        for tracker in self._trackers:
            tracker.add_epoch(record)
        # Drawing takes longer than an epoch of a head whose photos are kept, and the workers wait for it.
        if record.is_best or record.stop_reason:
            picture = draw_confusion_matrix(validation.confusion, classes, title="validation")
            self._tensorboard.add_picture("confusion_matrix", picture, record.epoch)

    def close(self) -> None:
        """Write what is left."""
        for tracker in self._trackers:
            tracker.close()


class TensorBoard:
    """Curves and pictures in `tensorboard/`; where storage is remote, written here and uploaded every epoch."""

    def __init__(self, run: Storage, *, first_epoch: int) -> None:
        """Open a log whose earlier entries from `first_epoch` on, from 1, are void."""
        # Loading it takes a third of a second, which only the worker that writes should pay.
        from torch.utils.tensorboard import SummaryWriter

        self._run = run
        self._folder = None if run.is_local else tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) if self._folder else run.local_path() / TENSORBOARD
        self._writer = SummaryWriter(str(self._path), purge_step=first_epoch)

    def add_epoch(self, record: EpochRecord) -> None:
        """Add the curves of one epoch."""
        for name, value in record.curves.items():
            group, _, rest = name.partition("_")
            tag = f"{group}/{rest}" if group in ("train", "val") else f"run/{name}"
            self._writer.add_scalar(tag, value, record.epoch)
        self._flush()

    def add_picture(self, tag: str, png: bytes, epoch: int) -> None:
        """Add a PNG file."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(tag, pixels, epoch, dataformats="HWC")
        self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        self._writer.close()
        if self._folder:
            self._folder.cleanup()

    def _flush(self) -> None:
        self._writer.flush()
        if self._folder:
            self._run.upload(self._path, TENSORBOARD, last="")


class MLflow:
    """Parameters and curves in MLflow, on the tracking server that the config names."""

    def __init__(self, config: Config, run_id: str | None, say: Callable[[str], None]) -> None:
        """Start a run, or go on with one; a `ConfigError` where MLflow is not installed or its server refuses."""
        require_mlflow(config)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._say, self._failure = say, MlflowException
        uri = config.train.mlflow_tracking_uri
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            self.run_id = run_id or self._start(config)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"train.mlflow_tracking_uri={uri}: MLflow refuses the run: {reason}") from error

    def _start(self, config: Config) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        run_id: str = self._client.create_run(experiment_id, run_name=config.name).info.run_id
        for section, values in effective_tree(config).items():
            for key, value in values.items() if isinstance(values, dict) else [("", values)]:
                self._client.log_param(run_id, f"{section}.{key}".rstrip("."), value)
        return run_id

    def add_epoch(self, record: EpochRecord) -> None:
        """Add the curves of one epoch; a server that has gone away does not end the training."""
        with self._warned_of(f"epoch {record.epoch}"):
            for name, value in record.curves.items():
                self._client.log_metric(self.run_id, name, value, step=record.epoch)

    def close(self) -> None:
        """Mark the run as finished."""
        with self._warned_of("the end of the run"):
            self._client.set_terminated(self.run_id)

    @contextmanager
    def _warned_of(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._failure as error:
            self._say(f"warning: MLflow did not take {what}: {str(error).splitlines()[0]}")


def require_mlflow(config: Config) -> None:
    """Refuse a tracking server where MLflow is not installed."""
    if config.train.mlflow_tracking_uri is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "train.mlflow_tracking_uri is set but MLflow is not installed; pip install 'ray-trash[mlflow]'"
        )
