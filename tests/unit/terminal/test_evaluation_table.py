from __future__ import annotations

import io
from typing import Any

import numpy as np
from rich.console import Console

from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.outputs import Evaluation
from ray_trash.terminal.evaluation_table import print_evaluation
from ray_trash.terminal.say import Terminal


def printed(classes: list[str], *, width: int = 100, more: dict[str, Any] | None = None) -> str:
    sums = ClassificationSums.zeros(3)
    sums.update(np.eye(3)[[0, 0, 0, 1]], np.array([0, 0, 0, 0]))
    evaluation = Evaluation(
        sums=sums,
        classes=classes,
        split="test",
        checkpoint="abc123",
        checkpoint_path="checkpoint",
        data_root="photos",
        dataset_fingerprint="f00d",
        counts={"seen": 9, "accepted": 6, "rejected": 2, "ignored": 1},
        skipped=[{"path": "glass/a.png", "reason": "truncated"}, {"path": "glass/b.png", "reason": "truncated"}],
        ignored=[],
        scoring={},
        warnings=["the photos changed since training"],
    )
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    print_evaluation(evaluation.to_json() | (more or {}), Terminal(console))
    return stream.getvalue()


def test_accuracy_is_printed_as_a_ratio_with_its_interval_beside_macro_f1():
    text = printed(["glass", "metal", "paper"])
    assert "accuracy 3/4 = 75.0 %, 95 % interval 30.1 to 95.4 %" in text
    assert "macro-F1 0.857" in text
    assert "9 seen = 6 accepted + 2 rejected + 1 ignored" in text
    assert "2 rejected: 2 truncated PNG" in text
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


def selective(**changes: Any) -> dict[str, Any]:
    figures = {"target_error": 0.05, "answered": 3, "coverage": 0.75, "error": 1 / 3, "error_ci95": [0.061, 0.792]}
    return {"ece_uncalibrated": 0.5, "selective": figures | changes}


def test_what_is_answered_is_one_line_with_what_was_asked_for():
    text = printed(["glass", "metal", "paper"], width=120, more=selective())
    assert (
        "answers 3 of 4 (75.0 %), abstains on 1; wrong 1/3 = 33.3 % (95 % interval 6.1 to 79.2 %, target 5.0 %)\n"
        in text
    )
    assert "(0.500 without the temperature)" in text


def test_a_checkpoint_that_answers_nothing_or_everything_says_so():
    nothing = selective(answered=0, coverage=0.0, error=None, error_ci95=None)
    said = "answers 0 of 4 (0.0 %), abstains on 4; wrong - (target 5.0 %)\n"
    assert said in printed(["a", "b", "c"], width=120, more=nothing)
    everything = selective(answered=4, coverage=1.0, error=0.25, target_error=None)
    assert "1/4 = 25.0 %" in printed(["a", "b", "c"], width=120, more=everything)
    assert ", no target)" in printed(["a", "b", "c"], width=120, more=everything)


def test_pictures_of_no_class_are_one_line():
    unknown = {"n": 100, "abstained": 83, "rate": 0.83, "rate_ci95": [0.745, 0.891]}
    text = printed(["glass", "metal", "paper"], width=120, more={"unknown": unknown})
    assert "drawn pictures of no class: 83/100 = 83.0 % not answered, 95 % interval 74.5 to 89.1 %\n" in text
