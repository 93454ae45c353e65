"""The table of recipes judged on folds: who is compared with whom, over which photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recipe_folds
from benchmarks.recipe_folds import parse_candidate, read_folds, table


def answers(candidate: str, fold: int, n: int, *wrong: str) -> dict[str, Any]:
    return {"candidate": candidate, "fold": fold, "how": "1 view", "n": n, "wrong": list(wrong)}


def test_a_candidate_is_a_name_and_the_keys_it_changes() -> None:
    assert parse_candidate("late: augment.size_px=224 train.epochs=16") == (
        "late",
        {"augment.size_px": "224", "train.epochs": "16"},
    )
    assert parse_candidate("plain") == ("plain", {})


def test_sides_are_compared_photo_by_photo_over_the_folds_that_both_have() -> None:
    rows = [
        answers("plain", 1, 10, "a", "b"),
        answers("plain", 2, 10, "c"),
        answers("other", 1, 10, "b"),
        answers("other", 3, 10),
    ]
    head, _, plain, other = table(rows, None)
    assert "less plain: 1 view" in head
    assert "| 1, 2 | 17/20 = 85.0 % |" in plain
    # Of fold 1 alone: photo a is won, none is lost.
    assert "| 1, 3 | 19/20 = 95.0 % |" in other
    assert "| +10.0 |" in other
    assert other.endswith("| 1.00 |")


def test_a_look_at_a_part_of_a_fold_is_not_compared_with_one_at_all_of_it() -> None:
    *_, part = table([answers("plain", 1, 10, "a"), answers("part", 1, 5)], None)
    assert part == "| part: 1 view | 1 | 5/5 = 100.0 % | 56.6 to 100.0 % | | | |"


def test_what_others_are_compared_with_must_have_been_judged() -> None:
    assert list(table([], None)) == []
    with pytest.raises(SystemExit, match="'late: 1 view' is none of 'plain: 1 view'"):
        list(table([answers("plain", 1, 10)], "late: 1 view"))


def test_a_photo_is_of_the_fold_that_validates_it(tmp_path: Path) -> None:
    (tmp_path / "fold-1.csv").write_text("path,split\nglass/a.jpg,val\nglass/b.jpg,train\n")
    (tmp_path / "fold-2.csv").write_text("path,split\nglass/a.jpg,train\nglass/b.jpg,val\n")
    assert read_folds("unused", tmp_path, 2) == {"glass/a.jpg": 1, "glass/b.jpg": 2}


def test_folds_that_are_done_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = tmp_path / "folds"
    folds.mkdir()
    for fold in (1, 2):
        (folds / f"fold-{fold}.csv").write_text(f"path,split\nglass/{fold}.jpg,val\n")
    (tmp_path / "answers.jsonl").write_text(json.dumps(answers("late", 1, 1)) + "\n")
    trained: list[tuple[str, ...]] = []

    def stopped(*arguments: str) -> None:
        trained.append(arguments)
        raise SystemExit("stopped")

    monkeypatch.setattr(recipe_folds, "_ray_trash", stopped)
    arguments = ["recipe_folds", "photos", "--out", str(tmp_path), "--folds", "2", "--judge", "2"]
    monkeypatch.setattr("sys.argv", [*arguments, "--candidate", "late: train.epochs=16"])
    with pytest.raises(SystemExit, match="stopped"):
        recipe_folds.main()
    (tmp_path / "runs" / "late-fold-2").mkdir(parents=True)
    with pytest.raises(SystemExit, match="stopped"):
        recipe_folds.main()
    begun, gone_on = trained
    assert begun[:2] == ("train", "configs/trashnet-cpu.yaml")
    assert {"train.epochs=16", f"data.split={folds / 'fold-2.csv'}", "name=late-fold-2"} <= set(begun)
    assert gone_on == (*begun, "--resume")
