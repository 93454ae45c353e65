"""A folder below another is found again by its address, whatever the address looks like."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_trash.errors import StorageError
from ray_trash.storage import Storage


@pytest.mark.parametrize("name", ["plain", "with space", "what?", "a#b", "100%"])
def test_a_child_of_a_local_folder_is_opened_by_its_uri(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    child = Storage.at(str(folder)).child("below")
    child.write_bytes("file", b"content")
    assert Storage.at(child.uri).read_bytes("file") == b"content"
    assert (folder / "below" / "file").read_bytes() == b"content"


def test_the_query_of_a_uri_stays_at_its_end() -> None:
    parent = Storage.at("s3://bucket/runs?region=us-east-1&endpoint_override=127.0.0.1:9")
    child = parent.child("tiny", "checkpoint")
    assert child.uri == "s3://bucket/runs/tiny/checkpoint?region=us-east-1&endpoint_override=127.0.0.1:9"
    assert child.path == "bucket/runs/tiny/checkpoint"


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/data/out.parquet", "/data", "out.parquet"),
        ("/out.parquet", "/", "out.parquet"),
        ("s3://bucket/out.parquet?region=us-east-1", "s3://bucket?region=us-east-1", "out.parquet"),
        ("s3://bucket/a/out.parquet?region=us-east-1", "s3://bucket/a?region=us-east-1", "out.parquet"),
    ],
)
def test_a_file_is_found_in_its_folder(uri: str, folder: str, name: str) -> None:
    storage, found = Storage.of_file(uri)
    assert (storage.uri, found) == (folder, name)
    assert Storage.at(storage.uri).path.rstrip("/") == storage.path


def test_a_place_whose_name_is_not_utf8_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(StorageError, match=r"/\\xff: its name is not UTF-8"):
        Storage.at(odd)
    os.mkdir(odd)
    monkeypatch.chdir(odd)
    with pytest.raises(StorageError, match=r"/\\xff/runs: its name is not UTF-8"):
        Storage.at("runs")


@pytest.mark.parametrize("uri", ["s3://bucket?region=us-east-1", "s3://bucket/?region=us-east-1", "/"])
def test_what_names_no_file_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="not the name of a file"):
        Storage.of_file(uri)


def test_a_file_written_piece_by_piece_is_there_once_it_is_whole(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path / "new")
    with storage.writing("file") as file:
        file.write(b"one ")
        assert not storage.exists("file")
        file.write(b"two")
    assert storage.read_bytes("file") == b"one two"
    assert storage.list_names() == ["file"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    storage.write_bytes("file", b"before")
    with pytest.raises(ZeroDivisionError), storage.writing("file") as file:
        file.write(b"half" * (1 // 0))
    assert storage.read_bytes("file") == b"before"
    assert storage.list_names() == ["file"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="below"), Storage.at(tmp_path / "file").writing("below"):
        pass


def _refusing(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EPERM])
@pytest.mark.parametrize("missing", ["fsync", "chmod", "link", "symlink"])
def test_a_file_system_that_lacks_something_takes_files_all_the_same(
    missing: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage.at(tmp_path)
    monkeypatch.setattr(os, missing, _refusing(number))
    for content in (b"old", b"new"):
        storage.write_bytes("whole", content)
        with storage.writing("pieces") as file:
            file.write(content)
    assert (storage.read_bytes("whole"), storage.read_bytes("pieces")) == (b"new", b"new")
    assert storage.list_names() == ["pieces", "whole"]


def test_a_file_is_replaced_where_names_must_be_free_for_a_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(source: Path, target: Path) -> None:
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, "File exists")
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", rename)
    storage = Storage.at(tmp_path)
    for content in (b"old", b"new"):
        storage.write_bytes("file", content)
    assert storage.read_bytes("file") == b"new"
    assert storage.list_names() == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_is_said_whoever_notices_it(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(tmp_path)
    storage.write_bytes("file", b"old")
    monkeypatch.setattr(os, failing, _refusing(errno.ENOSPC))
    with pytest.raises(StorageError, match="file: cannot write: No space left on device"):
        storage.write_bytes("file", b"new")
    assert storage.read_bytes("file") == b"old"
    assert storage.list_names() == ["file"]


def test_who_may_read_a_file_is_for_the_user_s_umask_to_say(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Storage.at(tmp_path).write_bytes("file", b"mine")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
