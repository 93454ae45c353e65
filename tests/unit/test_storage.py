"""A folder below another is found again by its address, whatever the address looks like."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.storage import Storage


@pytest.mark.parametrize("name", ["plain", "with space", "what?", "a#b", "100%"])
def test_a_child_of_a_local_folder_is_opened_by_its_uri(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    child = Storage.open(str(folder)).child("below")
    child.write_bytes("file", b"content")
    assert Storage.open(child.uri).read_bytes("file") == b"content"
    assert (folder / "below" / "file").read_bytes() == b"content"


def test_the_query_of_a_uri_stays_at_its_end() -> None:
    parent = Storage.open("s3://bucket/runs?region=us-east-1&endpoint_override=127.0.0.1:9")
    child = parent.child("tiny", "checkpoint")
    assert child.uri == "s3://bucket/runs/tiny/checkpoint?region=us-east-1&endpoint_override=127.0.0.1:9"
    assert child.path == "bucket/runs/tiny/checkpoint"
