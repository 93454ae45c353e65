"""Two sides on the same photos: matched by content, counted, judged, shown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.cli import main
from ray_trash.compare.answers import read_answers
from ray_trash.compare.matching import match
from ray_trash.compare.run import comparison, config_difference
from ray_trash.evaluate.outputs import EVALUATION_FILE, PREDICTIONS_FILE, predictions_table
from ray_trash.score.rows import ROW_SCHEMA, parquet_bytes, schema_with
from tests.photos import make_photos

CLASSES = ("glass", "paper")


def predictions(answers: Mapping[str, str], labels: Mapping[str, str] | None = None) -> pa.Table:
    """Say what was answered by path; a photo's name is its content, and its folder its class unless told otherwise."""
    sure = np.array([[0.9, 0.1] if said == "glass" else [0.1, 0.9] for said in answers.values()], np.float32)
    return predictions_table(
        paths=list(answers),
        true_labels=[(labels or {}).get(path, path.split("/")[0]) for path in answers],
        probabilities=sure,
        abstained=np.zeros(len(sure), bool),
        sha256=[hashlib.sha256(path.rpartition("/")[2].encode()).hexdigest() for path in answers],
        classes=CLASSES,
    )


def evaluation(folder: Path, answers: Mapping[str, str], **changes: Any) -> Path:
    folder.mkdir()
    (folder / PREDICTIONS_FILE).write_bytes(parquet_bytes(predictions(answers, **changes)))
    (folder / EVALUATION_FILE).write_text(json.dumps({"checkpoint": folder.name, "checkpoint_path": "gone"}))
    return folder


def scores(file: Path, answers: Mapping[str, str | None]) -> Path:
    rows = [
        {"path": path, "label": said, "confidence": 0.9, "abstained": False, "model_id": file.stem}
        if said
        else {"path": path, "error_code": "truncated", "model_id": file.stem}
        for path, said in answers.items()
    ]
    table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    pq.write_table(table.replace_schema_metadata(schema_with(CLASSES, "torch").metadata), file)
    return file


def compared(first: Path, second: Path) -> dict[str, Any]:
    sides = read_answers(str(first)), read_answers(str(second))
    return comparison(*sides, match(*sides))


def answers(n: int, *, wrong: int = 0) -> dict[str, str]:
    return {f"glass/{number:03d}.jpg": "paper" if number < wrong else "glass" for number in range(n)}


def test_photos_are_matched_by_content_wherever_they_lie_and_the_others_are_named(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", {"glass/a.jpg": "glass", "glass/b.jpg": "paper", "paper/c.jpg": "paper"})
    moved = {"glass/old/a.jpg": "glass", "glass/old/b.jpg": "glass", "paper/d.jpg": "paper"}
    found = compared(first, evaluation(tmp_path / "second", moved))
    assert (found["matched_by"], found["n"], found["agree"]) == ("content", 2, 1)
    assert (found["a"]["correct"], found["b"]["correct"]) == (1, 2)
    assert (found["only_in_a"], found["only_in_b"]) == (["paper/c.jpg"], ["paper/d.jpg"])
    assert found["only_a_right"] == []
    (gained,) = found["only_b_right"]
    assert (gained["path"], gained["a"]["label"], gained["b"]["label"]) == ("glass/b.jpg", "paper", "glass")
    assert found["per_class"]["glass"]["difference"] == 0.5


def test_copies_of_a_photo_are_matched_one_by_one(tmp_path: Path) -> None:
    copies = {"glass/1/a.jpg": "glass", "glass/2/a.jpg": "glass"}
    found = compared(
        evaluation(tmp_path / "x", copies), evaluation(tmp_path / "y", {**copies, "glass/3/a.jpg": "glass"})
    )
    assert (found["n"], found["only_in_b"]) == (2, ["glass/3/a.jpg"])


def test_a_photo_with_another_true_class_is_in_no_count(tmp_path: Path) -> None:
    first = evaluation(tmp_path / "first", answers(3))
    second = evaluation(tmp_path / "second", answers(3), labels={"glass/001.jpg": "paper"})
    found = compared(first, second)
    assert (found["n"], found["relabelled"]) == (2, ["glass/001.jpg"])
    assert any("another true class" in warning for warning in found["warnings"])


def test_noise_is_no_difference_and_a_difference_is_one(tmp_path: Path) -> None:
    good = evaluation(tmp_path / "good", answers(100, wrong=10))
    like = evaluation(tmp_path / "like", answers(100, wrong=12))
    bad = evaluation(tmp_path / "bad", answers(100, wrong=50))
    assert compared(good, like)["significant"] is False
    found = compared(good, bad)
    assert found["significant"] is True
    assert found["difference"] == -0.4
    assert found["difference_ci95"][0] < -0.4 < found["difference_ci95"][1] < 0


def test_scores_are_matched_by_path_and_judged_by_the_folders_of_their_photos(tmp_path: Path) -> None:
    first = scores(tmp_path / "a.parquet", {"set/glass/1.jpg": "glass", "set/paper/2.jpg": "glass", "x/bad.jpg": None})
    second = scores(tmp_path / "b.parquet", {"set/glass/1.jpg": "glass", "set/paper/2.jpg": "paper"})
    found = compared(first, second)
    assert (found["matched_by"], found["truth"], found["n"]) == ("path", "folders", 2)
    assert (found["a"]["correct"], found["b"]["correct"], found["a"]["unanswered"]) == (1, 2, 1)
    assert found["b"]["model"] == "b"
    flat = compared(
        scores(tmp_path / "c.parquet", {"1.jpg": "glass"}), scores(tmp_path / "d.parquet", {"1.jpg": "paper"})
    )
    assert (flat["truth"], flat["agree"]) == (None, 0)
    assert "difference" not in flat


def test_configs_differ_by_their_dotted_keys() -> None:
    first = {"seed": 1, "model": {"dropout": 0.1, "hidden_layers": [1]}}
    second = {"seed": 1, "model": {"dropout": 0.2, "hidden_layers": [1]}, "new": True}
    assert config_difference(first, second) == {"model.dropout": [0.1, 0.2], "new": [None, True]}
    assert config_difference(None, second) is None


def test_the_command_says_the_verdict_and_writes_a_page_with_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_photos(tmp_path / "photos", 3, classes=("glass",))
    first = evaluation(tmp_path / "first", answers(3, wrong=1))
    second = evaluation(tmp_path / "<b>second", answers(3))
    page = tmp_path / "compare.html"
    assert main(["compare", str(first), str(second), "--out", str(page), "--data", str(photos), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["b"]["correct"] == 3
    assert "no significant difference" in err
    assert "only B right: 1 photo, glass/000.jpg" in err
    text = page.read_text()
    assert text.count('src="data:image/jpeg;base64,') == 1
    assert "&lt;b&gt;second" in text
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", text)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("first", "gone"), 3, "does not exist"),
        (("first", "empty"), 3, "holds no predictions.parquet"),
        (("first", "other.parquet"), 3, "is no file of predictions"),
        (("first", "strangers"), 3, "no photo in common"),
        (("first", "first", "--data", "photos"), 2, "without --out"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    arguments: tuple[str, ...], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation(tmp_path / "first", answers(3))
    evaluation(tmp_path / "strangers", {"glass/elsewhere.jpg": "glass"})
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    given = [part if part.startswith("--") else str(tmp_path / part) for part in arguments]
    assert main(["compare", *given]) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
