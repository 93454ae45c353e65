"""Commands on three hosts that share nothing but their storage: a head without CPUs, and two with one each."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.command import wait_until
from tests.e2e.hosts import Host, cluster_of, hosts, join, missing
from tests.photos import make_photos
from tests.runs import FOUR_TRIALS, epochs, error_line, settings, write_config

TWO_WORKERS = settings(train__workers=2)
TRIED = """
import ray
from ray_trash.cluster.connect import ray_session
from ray_trash.cluster.reach import gaps_between_machines
with ray_session(dashboard=False):
    for gap in gaps_between_machines():
        print(gap.line())
"""
# The second, once the kernel has forgotten how a host that does not answer is found.
_REASON = "(no answer within 10 s|No route to host)"
BLOCKED = rf"machine-{{}} does not reach machine-{{}} at 10\.99\.0\.{{}}, port \d+: {_REASON}; let machines of .*"


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Host]]:
    if lack := missing():
        pytest.skip(lack)
    with hosts(3) as switched_on, cluster_of(switched_on):
        yield switched_on


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def checkpoint(machines: list[Host], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained = machines[0].ray_trash("train", write_config(folder, photos), *TWO_WORKERS)
    assert trained.returncode == 0, trained.stderr
    assert epochs(folder / "runs" / "tiny") == [1, 2, 3]
    return folder / "runs" / "tiny" / "checkpoint"


def test_what_two_hosts_trained_together_gives_one_matrix_on_all_of_them_and_on_one(
    checkpoint: Path, machines: list[Host], photos: Path, tmp_path: Path
) -> None:
    def evaluation(address: str) -> Any:
        out = tmp_path / address.replace(":", "-")
        command = ["evaluate", checkpoint, "--data", photos, "--split", "all", "--out", out]
        evaluated = machines[0].ray_trash(*command, RAY_ADDRESS=address)
        assert evaluated.returncode == 0, evaluated.stderr
        return json.loads((out / "evaluation.json").read_text())

    together, alone = evaluation(machines[0].environment["RAY_ADDRESS"]), evaluation("local")
    assert together["confusion_matrix"] == alone["confusion_matrix"]
    assert together["n"] == 36
    scored = machines[0].ray_trash("score", checkpoint, photos, "--workers", "2", "--out", tmp_path / "scores.parquet")
    assert scored.returncode == 0, scored.stderr
    assert pq.read_table(tmp_path / "scores.parquet")["error_code"].null_count == 36


def test_trials_run_on_all_hosts(machines: list[Host], photos: Path, tmp_path: Path) -> None:
    tuned = machines[0].ray_trash("tune", write_config(tmp_path, photos, FOUR_TRIALS), *settings(train__epochs=1))
    assert tuned.returncode == 0, tuned.stderr
    rows = json.loads((tmp_path / "runs" / "tiny" / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["done"] * 4


def test_a_firewall_between_two_hosts_is_one_line_with_machine_address_and_port(
    machines: list[Host], photos: Path, tmp_path: Path
) -> None:
    head, *others = machines
    for host in others:
        host.isolate()
    try:
        trained = head.ray_trash("train", write_config(tmp_path, photos), *TWO_WORKERS)
        tried = head.run(sys.executable, "-c", TRIED)
    finally:
        for host in others:
            host.isolate(False)
    assert trained.returncode == 6, trained.stderr
    assert re.fullmatch(f"error: ({BLOCKED.format(2, 3, 3)}|{BLOCKED.format(3, 2, 2)})", error_line(trained.stderr))
    lines = sorted(tried.stdout.splitlines())
    assert re.fullmatch(f"{BLOCKED.format(2, 3, 3)}\n{BLOCKED.format(3, 2, 2)}", "\n".join(lines)), tried.stderr


def test_a_run_whose_cable_is_cut_ends_with_one_line_and_goes_on_once_the_host_is_back(
    machines: list[Host], photos: Path, tmp_path: Path
) -> None:
    head, _, cut = machines
    run = tmp_path / "runs" / "tiny"
    changes = {"train__workers": 2, "train__epochs": 20, "train__wait_for_workers_s": 20}
    train = ["train", write_config(tmp_path, photos), *settings(**changes)]
    child = head.start(sys.executable, "-m", "ray_trash", *train)
    wait_until(lambda: bool(epochs(run)) or child.poll() is not None, timeout_s=240, what="an epoch")
    cut.cut()
    _, err = child.communicate(timeout=540)
    assert child.returncode == 6, err
    assert "--resume" in error_line(err)
    done = epochs(run)
    cut.mend()
    join(head, [cut])
    resumed = head.ray_trash(*train, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert len(done) < 20
    assert epochs(run) == list(range(1, 21))
