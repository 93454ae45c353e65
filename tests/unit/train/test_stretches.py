"""What `run.json` says of the workers' starts: how many, why, and what they train again."""

from __future__ import annotations

from pathlib import Path

from ray_trash.storage import Storage
from ray_trash.train.board import Begun, Step
from ray_trash.train.run_directory import read_run, update_run
from ray_trash.train.stretches import Stretches


def test_steps_that_were_not_saved_are_counted_and_said_over_restarts_of_workers_and_driver(tmp_path: Path) -> None:
    run, lines = Storage.at(tmp_path), list[str]()
    update_run(run, {"attempt": "a"})
    stretches = Stretches(run, lines.append)
    stretches.listen(Begun(workers=2, epoch=1, step=0, steps=10))
    stretches.listen(Step(epoch=2, step=4, steps=10, loss=0.5, images_per_s=20.04))
    stretches.why = "1 machine gone"
    stretches.listen(Begun(workers=1, epoch=1, step=8, steps=10))
    stretches.listen(Step(epoch=2, step=5, steps=10, loss=0.5, images_per_s=11.0))
    stretches.close()
    again = Stretches(run, lines.append)
    again.listen(Begun(workers=1, epoch=2, step=5, steps=10))
    document = read_run(run)
    records = document["stretches"]
    assert [record["workers"] for record in records] == [2, 1, 1]
    assert [record["why"] for record in records] == [
        "the run was started",
        "1 machine gone",
        "the run was started again",
    ]
    assert [record["steps_repeated"] for record in records] == [0, 6, 0]
    assert [record["images_per_s"] for record in records] == [20.0, 11.0, None]
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 0), (1, 8), (2, 5)]
    assert document["steps_repeated"] == 6
    assert document["attempt"] == "a"
    assert lines == [
        "1 worker instead of 2: 1 machine gone; from step 9 of epoch 1, 6 steps trained again",
        "1 worker: the run was started again; from step 6 of epoch 2, no step is trained again",
    ]
