"""What `run.json` says of a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.errors import DivergedError, StorageError
from ray_trash.storage import Storage
from ray_trash.train.run_directory import read_run, update_run
from ray_trash.train.run_record import recorded


def test_how_a_start_ended_is_recorded(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)
    with recorded(run, "run", overwrite=False, say=lambda _: None) as attempt:
        assert (read_run(run)["status"], read_run(run)["attempt"]) == ("running", attempt)
    assert (read_run(run)["status"], read_run(run)["error_kind"]) == ("done", None)


def test_a_failure_is_recorded_in_words_and_by_its_kind(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)

    def diverge() -> None:
        with recorded(run, "run", overwrite=False, say=lambda _: None):
            raise DivergedError("the gradient is nan")

    with pytest.raises(DivergedError):
        diverge()
    ended = read_run(run)
    assert (ended["status"], ended["reason"], ended["error_kind"]) == ("failed", "the gradient is nan", "DivergedError")


def test_a_start_that_was_taken_over_leaves_the_record_to_the_one_that_did(tmp_path: Path) -> None:
    run = Storage.at(tmp_path)

    def be_taken_over() -> None:
        with recorded(run, "run", overwrite=False, say=lambda _: None):
            update_run(run, {"attempt": "of another start"})
            raise StorageError("another start of this run has taken over")

    with pytest.raises(StorageError):
        be_taken_over()
    assert (read_run(run)["status"], read_run(run)["attempt"]) == ("running", "of another start")
