"""Few photos are scored by this process, as a worker of a cluster would score them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_trash.cluster import connect
from ray_trash.score.run import score_here
from ray_trash.terminal.say import Terminal
from tests.models import write_model
from tests.photos import make_photos


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("a cluster was started for few photos")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(connect, "ray_session", refuse)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return directory


def test_few_photos_and_a_table_of_some_are_scored_without_a_cluster(checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    (photos / "glass" / "000.jpg").write_bytes(b"no photo")
    encoded = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    pq.write_table(pa.table({"photo": encoded}), tmp_path / "in.parquet")
    threads = torch.get_num_threads()
    given, out = [str(photos), str(tmp_path / "in.parquet")], tmp_path / "out.parquet"
    summary = score_here(str(checkpoint), given, str(out), terminal=Terminal.silent())
    assert (summary["n"], summary["scored"], summary["errors"]) == (12, 10, {"unsupported_format": 2})
    rows = pq.read_table(out)
    assert rows["label"].to_pylist()[:6] == rows["label"].to_pylist()[6:]
    assert torch.get_num_threads() == threads
