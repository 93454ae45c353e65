"""What a run leaves for people to look at: TensorBoard, the contact sheet, MLflow. Written by the first worker."""

from __future__ import annotations

import importlib.util
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ray_trash.config import Config, effective_tree
from ray_trash.errors import ConfigError
from ray_trash.storage import Storage

TENSORBOARD = "tensorboard"
EXPERIMENT = "ray-trash"
"""MLflow's experiment that all runs belong to."""
CURVES = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_macro_f1",
    "learning_rate",
    "images_per_s",
)


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

    def add_epoch(self, record: Mapping[str, Any]) -> None:
        """Add the curves of one epoch."""
        for name in CURVES:
            if record.get(name) is not None:
                group, _, rest = name.partition("_")
                tag = f"{group}/{rest}" if group in ("train", "val") else f"run/{name}"
                self._writer.add_scalar(tag, record[name], record["epoch"])
        self._flush()

    def add_picture(self, tag: str, png: bytes, epoch: int) -> None:
        """Add a PNG file."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self._writer.add_image(tag, pixels, epoch, dataformats="HWC")
        self._flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
        if self._folder:
            self._run.upload(self._path, TENSORBOARD, last="")
            self._folder.cleanup()

    def _flush(self) -> None:
        self._writer.flush()
        if self._folder:
            self._run.upload(self._path, TENSORBOARD, last="")


class MLflow:
    """Parameters and curves in MLflow, where the config names a tracking server."""

    def __init__(self, config: Config, run_id: str | None, say: Callable[[str], None]) -> None:
        """Start a run, or go on with one.

        Raises:
            ConfigError: MLflow is not installed, or its server does not take the run.
        """
        self._client: Any = None
        self._say = say
        self.run_id = run_id
        uri = config.train.mlflow_tracking_uri
        if uri is None:
            return
        require_mlflow(config)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self._failure = MlflowException
        try:
            self._client = MlflowClient(tracking_uri=uri)
            if self.run_id is None:
                self.run_id = self._start(config)
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

    def add_epoch(self, record: Mapping[str, Any]) -> None:
        """Add the curves of one epoch; a server that has gone away does not end the training."""
        if self._client is None:
            return
        try:
            for name in CURVES:
                if record.get(name) is not None:
                    self._client.log_metric(self.run_id, name, record[name], step=record["epoch"])
        except self._failure as error:
            self._say(f"warning: MLflow did not take epoch {record['epoch']}: {str(error).splitlines()[0]}")

    def close(self) -> None:
        """Mark the run as finished."""
        if self._client is not None:
            try:
                self._client.set_terminated(self.run_id)
            except self._failure as error:
                self._say(f"warning: MLflow did not take the end of the run: {str(error).splitlines()[0]}")


def require_mlflow(config: Config) -> None:
    """Refuse a tracking server where MLflow is not installed.

    Raises:
        ConfigError: It is not.
    """
    if config.train.mlflow_tracking_uri is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError(
            "train.mlflow_tracking_uri is set but MLflow is not installed; pip install 'ray-trash[mlflow]'"
        )
