"""What becomes of a run whose machines go and come: decided by the driver, shown on a cluster made of numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.train import ControllerError, WorkerGroupError

from ray_trash.cluster import growing
from ray_trash.cluster.capacity import WorkerPlan, plan_workers
from ray_trash.cluster.carry import Carried
from ray_trash.cluster.machines import Machine
from ray_trash.config import Config
from ray_trash.errors import ClusterError, DataError, RayTrashError
from ray_trash.storage import Storage
from ray_trash.train import supervise as module
from ray_trash.train.board import Begun, Board, Step
from ray_trash.train.job import TrainJob
from ray_trash.train.run_directory import read_run, update_run
from ray_trash.train.stretches import Stretches
from ray_trash.train.supervise import Watch, supervise


class Fake:
    """A cluster, and workers on it, one on each machine."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, workers: Any, machines: str = "AB") -> None:
        self.run = Storage.at(folder)
        update_run(self.run, {"attempt": "a"})
        config = {"name": "a", "data": {"root": "photos"}, "train": {"workers": workers, "wait_for_workers_s": 0.05}}
        self.config, self.board, self.lines = Config.model_validate(config), Board(), list[str]()
        self.alive, self.leaving, self.begun_with = set(machines), set[str](), list[int]()
        self.elastic = isinstance(workers, list)
        patch.setattr(module, "usable_machines", lambda answers=None: self.machines())
        patch.setattr(module, "draining_machines", lambda: self.leaving)
        patch.setattr(growing, "can_grow", lambda: False)
        patch.setattr(growing, "_size", lambda: (len(self.alive), 2.0 * len(self.alive)))
        patch.setattr(module, "GROW_AFTER_S", 0.0)
        patch.setattr(module, "LOOK_EVERY_S", 0.0)

    def machines(self) -> list[Machine]:
        return [Machine("127.0.0.1", 2.0, 0.0, node_id=name, port=1) for name in sorted(self.alive - self.leaving)]

    def train(self, *stretches: Callable[[Fake], None]) -> None:
        """Let each start of the workers do what is told, the last one train to the end."""
        job = TrainJob(
            config=self.config,
            train=None,  # type: ignore[arg-type]
            val=None,  # type: ignore[arg-type]
            classes=("a", "b"),
            root="photos",
            data={},
            run_uri=self.run.uri,
            attempt="a",
            in_memory=True,
            device="cpu",
            board=self.board,
        )
        follower = Stretches(self.run, self.lines.append)
        script = list(stretches)

        def fit(plan: WorkerPlan, number: int, look: Callable[[], None]) -> None:
            self.begun_with.append(plan.workers)
            for rank, machine in enumerate(self.machines()[: plan.workers]):
                self.board.join(rank, machine.node_id)
            follower.listen(Begun(plan.workers, 1, number, 100))
            follower.listen(Step(1, number + 1, 100, 0.5, 10.0))
            if script:
                script.pop(0)(self)
            look()
            if self.board.asked_to_stop():
                self.board.stopped()

        plan = WorkerPlan(plan_workers(self.config.train, {"CPU": 4}, machines=len(self.alive)).workers, "cpu", 1)
        supervise(job, plan, fit, follower, self.lines.append, elastic=self.elastic)

    def whys(self) -> list[str]:
        return [record["why"] for record in read_run(self.run)["stretches"]]


def died(fake: Fake) -> None:
    raise WorkerGroupError("", {0: RuntimeError("Segmentation fault")})


def lose_b(fake: Fake) -> None:
    fake.alive.discard("B")
    died(fake)


def drain_b(fake: Fake) -> None:
    fake.leaving.add("B")


def gain_c(fake: Fake) -> None:
    fake.alive.add("C")


def test_elastic_workers_go_on_with_fewer_when_a_machine_goes_and_with_more_when_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, monkeypatch, [1, 2])
    fake.train(lose_b, gain_c)
    assert fake.begun_with == [2, 1, 2]
    assert fake.whys() == ["the run was started", "1 machine gone", "room for 2 workers"]


def test_workers_on_a_machine_that_is_taken_away_are_stopped_and_start_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, monkeypatch, 2, machines="ABC")
    fake.train(drain_b)
    assert fake.begun_with == [2, 2]
    assert fake.whys() == ["the run was started", "1 machine being taken away"]


def test_machines_that_do_not_come_back_are_waited_for_and_the_run_ends_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, monkeypatch, 6, machines="ABCD")
    monkeypatch.setattr(module, "plan_workers", lambda *a, **k: _at_least(4, fake))
    with pytest.raises(ClusterError, match=r"4 machines .waited 0 s for machines.*--resume when there are enough"):
        fake.train(lose_b)
    assert [line for line in fake.lines if line.startswith("waiting for machines to join, 0 s of at most 0 s")]


def _at_least(n: int, fake: Fake) -> WorkerPlan:
    if len(fake.machines()) < n:
        raise ClusterError(f"asks for {n} machines")
    return WorkerPlan(n, "cpu", 1)


def test_a_worker_that_dies_again_and_again_ends_the_run_in_its_words_and_machines_that_go_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, monkeypatch, 1)
    with pytest.raises(RayTrashError, match=r"gave up after 3 restarts.*worker 0: .*Segmentation fault.*--resume"):
        fake.train(*[died] * 9)
    assert len(fake.begun_with) == 4

    def lose(fake: Fake) -> None:
        fake.alive = {f"{len(fake.begun_with)}", "B"}
        died(fake)

    (tmp_path / "other").mkdir()
    other = Fake(tmp_path / "other", monkeypatch, 2)
    other.train(*[lose] * 9)
    assert len(other.begun_with) == 10


def test_workers_that_do_not_start_are_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fake: Fake) -> None:
        raise ControllerError(RuntimeError("no room"))

    fake = Fake(tmp_path, monkeypatch, 1)
    monkeypatch.setattr(Stretches, "listen", lambda *_: None)
    with pytest.raises(ClusterError, match=r"the workers did not start: .*no room"):
        fake.train(*[fail] * 9)
    assert len(fake.begun_with) == module.WORKER_START_ATTEMPTS


def test_an_error_of_ours_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(tmp_path, monkeypatch, 1)

    def fail(fake: Fake) -> None:
        fake.board.end(Carried(None, DataError("a photo has gone")))
        died(fake)

    with pytest.raises(DataError, match="a photo has gone"):
        fake.train(*[fail] * 9)
    assert fake.begun_with == [1]


def test_the_driver_asks_once_and_not_before_the_workers_have_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(tmp_path, monkeypatch, [1, 2])
    watch = Watch(fake.board, fake.config.train, WorkerPlan(1, "cpu", 1), elastic=True)
    watch.look()
    assert not fake.board.asked_to_stop()
    fake.board.join(0, "A")
    watch.look()
    assert fake.board.asked_to_stop()
    assert watch.why == "room for 2 workers"
