from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.outputs import Subject, evaluation_document
from ray_trash.evaluate.table import print_evaluation


def printed(classes: list[str], *, width: int = 100) -> str:
    sums = ClassificationSums.zeros(3)
    sums.update(np.eye(3)[[0, 0, 0, 1]], np.array([0, 0, 0, 0]))
    subject = Subject(
        checkpoint_id="abc123",
        checkpoint_path="checkpoint",
        split="test",
        dataset_fingerprint="f00d",
        counts={"seen": 9, "accepted": 6, "rejected": 2, "ignored": 1},
        skipped=[],
        ignored=[],
        scoring={},
        warnings=["the photos changed since training"],
    )
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    print_evaluation(evaluation_document(sums, classes, subject), console)
    return stream.getvalue()


def test_accuracy_is_printed_as_a_ratio_with_its_interval_beside_macro_f1():
    text = printed(["glass", "metal", "paper"])
    assert "accuracy 3/4 = 75.0 %, 95 % interval 30.1 to 95.4 %" in text
    assert "macro-F1 0.857" in text
    assert "9 seen = 6 accepted + 2 rejected + 1 ignored" in text
    assert "the photos changed since training" in text


def test_every_class_has_a_row_with_dashes_where_a_ratio_does_not_exist():
    rows = {line.split()[0]: line.split()[1:] for line in printed(["glass", "metal", "paper"]).splitlines() if line}
    assert rows["glass"] == ["4", "1.000", "0.750", "0.301", "to", "0.954", "0.857"]
    assert rows["metal"] == ["0", "0.000", "-", "-", "0.000"]
    assert rows["paper"] == ["0", "-", "-", "-", "-"]


def test_no_control_characters_reach_a_file():
    assert "\x1b" not in printed(["glass", "me\x1b[31mtal", "pa\nper"])


def test_brackets_in_a_class_name_are_printed_as_they_are():
    assert "[bold]glass[/]" in printed(["[bold]glass[/]", "metal", "paper"])


def test_a_narrow_terminal_still_shows_the_class_names():
    assert "glass" in printed(["glass", "metal", "paper"], width=50)
