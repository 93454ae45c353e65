"""`plan` and `doctor` where there is a Ray already: what is measured and looked at is on its machines."""

from __future__ import annotations

import json
from pathlib import Path

import ray

from ray_trash.cluster.inventory import inventory_here, inventory_of_cluster
from tests.runs import Command, settings, write_config


def test_a_plan_on_a_cluster_counts_its_machines_and_one_of_them_measures(
    command: Command, tmp_path: Path, tiny_photos: Path
) -> None:
    config = write_config(tmp_path, tiny_photos)
    done = command("plan", config, *settings(train__workers=1), "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    there_is = document["there_is"]
    assert there_is["cluster"] == ray.get_runtime_context().gcs_address
    assert [machine["cpus"] for machine in there_is["machines"]] == [4.0]
    assert document["photos"]["files"] == 36
    assert document["measured"]["paces"][0]["step_s"] > 0
    assert not any("start Ray" in part["what"] for part in document["estimate"]["parts"])
    refused = command("plan", config, "--set", "train.workers=64")
    assert refused.code == 6
    assert "the cluster has 4 CPUs" in refused.err


def test_this_machine_is_counted_as_ray_counts_it(ray_cluster: None) -> None:
    (here,), (there,) = inventory_here().machines, inventory_of_cluster().machines
    assert (there.cpus, there.object_store_bytes) == (4.0, 500_000_000)  # as it was started
    assert here.gpus == there.gpus
    assert here.cpus >= 1
    assert min(here.memory_bytes, here.object_store_bytes) > 0


def test_the_doctor_looks_at_a_cluster_from_its_machines(command: Command, tmp_path: Path) -> None:
    done = command("doctor", "--storage", tmp_path / "runs", "--json")
    document = json.loads(done.out)
    found = {finding["check"]: finding for finding in document["findings"]}
    for check in ("token", "engines", "Ray", "versions", "workers", "storage"):
        assert found[check]["status"] == "ok", found[check]
    assert "two processes add up" in found["workers"]["found"]
    assert not (tmp_path / "runs").exists()
    assert done.code == (0 if document["able"] else 6)
    assert len(done.err.splitlines()) > len(found)
