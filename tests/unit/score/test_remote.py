from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.errors import CheckpointError, ClusterError, ConfigError
from ray_trash.score import remote
from ray_trash.score.run import score_there
from ray_trash.serve import client as client_module
from ray_trash.terminal.say import Terminal
from tests.photos import make_photos
from tests.standin import StandIn, stand_in


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.001)
    with stand_in() as running:
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = make_photos(tmp_path / "photos", 20)
    (folder / "glass" / "empty.jpg").touch()
    return folder


def score(endpoint: StandIn, given: Path, out: Path, **options: Any) -> dict[str, Any]:
    return score_there(endpoint.url, [str(given)], str(out), terminal=Terminal.silent(), **options)


def test_every_photo_is_a_row_and_no_name_leaves_the_machine(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    card = {"id": "abc123", "classes": ["glass", "metal"], "engine": "stand-in", "views": 8}
    endpoint.script = [(200, {}, card), (503, {}, {})]
    summary = score(endpoint, photos, tmp_path / "out.parquet", api_key="secret")
    assert (summary["n"], summary["scored"], summary["errors"]) == (61, 60, {"empty_file": 1})
    assert (summary["model_id"], summary["engine"]) == ("abc123", "stand-in")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["path"].to_pylist() == sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    assert json.loads(table.schema.metadata[b"classes"]) == ["glass", "metal"]
    assert (summary["views"], table.schema.metadata[b"views"]) == (8, b"8")
    assert table["probabilities"].drop_null().to_pylist() == [[0.75, 0.25]] * 60
    assert set(table["model_id"].to_pylist()) == {"abc123"}
    assert all(name.isdigit() for batch in endpoint.batches for name in batch)
    assert max(map(len, endpoint.batches)) <= remote.REQUEST_PHOTOS
    assert set(endpoint.keys) == {"Bearer secret"}


def test_requests_shrink_to_what_the_endpoint_takes(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    endpoint.max_photos = 3
    assert score(endpoint, photos, tmp_path / "out.parquet")["scored"] == 60


def test_a_photo_too_large_for_the_endpoint_is_a_row(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    endpoint.max_photos = 0
    assert score(endpoint, photos, tmp_path / "out.parquet")["errors"] == {"empty_file": 1, "too_large": 60}


def test_requests_shrink_to_what_a_slow_line_brings_in_time(
    endpoint: StandIn, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, most = endpoint.answer, 3

    def slow(path: str, key: str | None, body: bytes):
        too_slow = body.count(b"filename=") > most
        return (408, {}, {}) if too_slow else answer(path, key, body)

    monkeypatch.setattr(endpoint, "answer", slow)
    assert score(endpoint, photos, tmp_path / "out.parquet")["scored"] == 60
    most = 0
    with pytest.raises(ClusterError, match="took too long to arrive"):
        score(endpoint, photos, tmp_path / "other.parquet")


def test_large_photos_are_sent_alone(
    endpoint: StandIn, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "REQUEST_BYTES", 1)
    assert score(endpoint, photos, tmp_path / "out.parquet")["scored"] == 60
    assert {len(batch) for batch in endpoint.batches} == {1}


def test_an_endpoint_that_moves_to_another_model_ends_the_scoring(
    endpoint: StandIn, photos: Path, tmp_path: Path
) -> None:
    card = {"id": "before", "classes": ["glass", "metal"], "engine": "stand-in"}
    endpoint.script = [(200, {}, card)]
    with pytest.raises(CheckpointError, match="abc123 answers there now, before did"):
        score(endpoint, photos, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_an_endpoint_that_stays_full_ends_the_scoring_and_a_second_run_goes_on(
    endpoint: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "photos", 200)
    monkeypatch.setattr(remote, "REQUESTS", 1)
    answer, good = endpoint.answer, 20

    def full_after_a_while(path: str, key: str | None, body: bytes):
        status, headers, tree = answer(path, key, body)
        return (503, {}, {}) if len(endpoint.batches) > good else (status, headers, tree)

    monkeypatch.setattr(endpoint, "answer", full_after_a_while)
    with pytest.raises(ClusterError, match="503"):
        score(endpoint, photos, tmp_path / "out.parquet")
    monkeypatch.setattr(endpoint, "answer", answer)
    endpoint.batches.clear()
    summary = score(endpoint, photos, tmp_path / "out.parquet")
    assert (summary["n"], summary["scored"]) == (600, 600)
    sent = [int(name) for batch in endpoint.batches for name in batch]
    assert sorted(sent) == [*range(256, 600)], "the first chunk was there"
    assert pq.read_table(tmp_path / "out.parquet")["path"].to_pylist() == sorted(
        str(path.relative_to(photos)) for path in photos.rglob("*.jpg")
    )


def test_tables_are_sent_too(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    encoded = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))]
    pq.write_table(pa.table({"photo": encoded}), tmp_path / "t.parquet", row_group_size=7)
    summary = score(endpoint, tmp_path / "t.parquet", tmp_path / "out.parquet")
    assert (summary["scored"], summary["errors"]) == (60, {"empty_file": 1})


def test_a_refusal_by_the_endpoint_is_a_row(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    error = {"status": "error", "error": {"code": "truncated", "message": "cut off"}}
    results = {"model": {"id": "abc123"}, "results": [{"name": "0", **error}]}
    endpoint.script = [(200, {}, {"id": "abc123", "classes": ["glass", "metal"]}), (200, {}, results)]
    summary = score(endpoint, photos / "glass" / "000.jpg", tmp_path / "out.parquet")
    assert (summary["scored"], summary["errors"]) == (0, {"truncated": 1})


def test_an_endpoint_of_another_version_is_told_apart(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    results = {"model": {"id": "abc123"}, "results": [{"name": "0", "status": "ok", "label": "glass"}]}
    endpoint.script = [(200, {}, {"id": "abc123", "classes": ["glass", "metal"]}), (200, {}, results)]
    with pytest.raises(ClusterError, match="another version"):
        score(endpoint, photos / "glass" / "000.jpg", tmp_path / "out.parquet")


def test_a_wrong_key_ends_the_scoring(endpoint: StandIn, photos: Path, tmp_path: Path) -> None:
    endpoint.script = [(401, {}, {"error": {"code": "unauthorized", "message": "no key"}})]
    with pytest.raises(ConfigError, match="--api-key-file"):
        score(endpoint, photos, tmp_path / "out.parquet")
