"""When nothing is exported: a file that is there, an answer that differs, packages that are missing."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.model import export
from ray_trash.model.export import export_checkpoint


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(trained, tmp_path):
    file = tmp_path / "model.pt2"
    file.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"model\.pt2: is there already; .* --overwrite"):
        export_checkpoint(str(trained.directory), "torch", out=str(file))
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", [1 / 3, np.nan])
def test_an_export_that_answers_otherwise_is_not_written(trained, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(export, "_render_torch", lambda answering, document: b"a program")
    monkeypatch.setattr(export, "_load_torch", lambda data: lambda photos: np.full((len(photos), 3), wrong))
    with pytest.raises(CheckpointError, match=r"exported as torch, a probability differs by .* nothing was written"):
        export_checkpoint(str(trained.directory), "torch", out=str(tmp_path / "model.pt2"))
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_for_onnx_the_command_that_installs_them_is_named(trained, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnxscript is not installed; pip install 'ray-trash\[onnx\]'"):
        export_checkpoint(str(trained.directory), "onnx")
