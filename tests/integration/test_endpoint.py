"""What the `serve` command refuses to serve, on the shared Ray."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray import serve

from tests.models import spoil_weights, write_model
from tests.runs import Command, error_line


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good model, and one whose weights are not those it was checked with."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "good")
    shutil.copytree(folder / "good", folder / "spoilt")
    spoil_weights(folder / "spoilt", torch.arange(6.0))
    return folder


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize(
    ("model", "arguments", "code", "says"),
    [
        ("nowhere", (), 4, "no checkpoint there"),
        ("good", ("--port", "TAKEN"), 2, "choose another --port"),
        ("good", ("--host", ""), 2, "expected an address"),
        ("good", ("--host", "nowhere.invalid"), 2, "no such name or address"),
        ("good", ("--set", "serve.replica=2"), 2, "did you mean serve.replicas?"),
        ("good", ("--set", "train.epochs=2"), 2, "only keys of serve"),
        ("good", ("--replicas", "4096", "--port", "0", "--host", "0.0.0.0"), 6, "available"),
        ("good", ("--set", "serve.shadow_share=0.5"), 2, "no effect without --shadow"),
        ("good", ("--shadow", "anywhere", "--replicas", "4", "--port", "0"), 6, "and a model on trial ask for 5 CPUs"),
        ("spoilt", ("--port", "0"), 4, "answered differently"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_an_exit_code(
    model: str, arguments: tuple[str, ...], code: int, says: str, command: Command, models: Path, port: int
) -> None:
    result = command("serve", models / model, *(str(port) if part == "TAKEN" else part for part in arguments))
    serve.shutdown()
    assert result.code == code, result.err
    assert says in error_line(result.err)
    # Who listens for others without a key is told so, in a line.
    assert result.err.count("whoever reaches 0.0.0.0 may ask for answers; set ") == ("0.0.0.0" in arguments)
