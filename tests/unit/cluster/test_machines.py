"""Which machines can be counted on."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ray_trash.cluster import machines
from ray_trash.cluster.machines import is_listening, resources_of, usable_machines


def node(name: str, port: int, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    address = {"NodeID": name, "NodeManagerHostname": "h", "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
    return {**address, "Alive": alive, "Resources": resources}


def test_machines_count_that_live_answer_have_cpus_and_are_not_being_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen, as the port of a process that has gone
        here, gone = server.getsockname()[1], nobody.getsockname()[1]
        nodes = [
            node("head", here),
            node("good", here, CPU=2.0, GPU=1.0),
            node("dead", here, alive=False, CPU=2.0),
            node("leaving", here, CPU=2.0),
            node("unnoticed", gone, CPU=4.0),
        ]
        monkeypatch.setattr(machines, "draining_machines", lambda: {"leaving"})
        monkeypatch.setattr("ray.nodes", lambda: nodes)
        assert [machine.node_id for machine in usable_machines()] == ["good", "unnoticed"]
        there = usable_machines(answers=is_listening)
        assert [machine.node_id for machine in there] == ["good"]
        assert resources_of(there) == {"CPU": 2.0, "GPU": 1.0, "memory": 0.0, "object_store_memory": 0.0}
