"""The command that draws what an answer looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ray_trash.cli import main
from tests.models import write_int8_model, write_model
from tests.photos import make_photos


def test_every_photo_has_a_picture_or_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "model")
    photos = make_photos(tmp_path / "photos", 2, classes=("glass", "pa per"))
    (photos / "glass" / "bad.jpg").write_bytes(b"no photo")
    out = tmp_path / "out"
    assert main(["explain", str(tmp_path / "model"), str(photos), "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((out / "explanations.json").read_text())
    by_path = {entry["path"]: entry for entry in said["explanations"]}
    assert by_path.pop("glass/bad.jpg")["error_code"] == "unsupported_format"
    assert sorted(by_path) == ["glass/000.jpg", "glass/001.jpg", "pa per/000.jpg", "pa per/001.jpg"]
    pictures = {entry["picture"] for entry in by_path.values()}
    assert len(pictures) == 4
    assert {path.name for path in out.iterdir()} == {*pictures, "explanations.json"}
    for name in pictures:
        with Image.open(out / name) as picture:
            assert picture.size == (32 + 4 + 32, 32)


def test_photos_of_which_none_can_be_read_are_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    assert main(["explain", str(tmp_path / "model"), str(tmp_path / "bad.jpg"), "--out", str(tmp_path / "out")]) == 3
    assert "none of the 1 photos can be read" in capsys.readouterr().err


def test_what_answers_by_int8_is_explained_by_the_answer_it_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "model")
    write_int8_model(tmp_path / "int8", tmp_path / "model")
    photos = make_photos(tmp_path / "photos", 1, classes=("glass",))
    assert main(["explain", str(tmp_path / "int8"), str(photos), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "openvino int8 on cpu"
