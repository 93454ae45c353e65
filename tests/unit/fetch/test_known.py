"""Fetching a known data set: whole and checked, or nothing; from a server that misbehaves too."""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ray_trash.commands import photos
from ray_trash.download import Patience
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.fetch.known import KNOWN_DATASETS, KnownDataset, fetch
from ray_trash.terminal.say import Terminal
from tests.file_server import FileServer, file_server

PATIENT = Patience(timeout_s=10.0, attempts=3, first_pause_s=0.0)
PHOTOS = {
    f"photos-resized/{label}/{label}{number}.jpg": random.Random(f"{label}{number}").randbytes(2000)
    for label in ("glass", "paper")
    for number in (1, 2, 3)
}
ONE = "photos-resized/glass/glass1.jpg"
LISTS = {
    "one-indexed-files-notrash_train.txt": b"glass1.jpg 1\npaper1.jpg 2\n",
    "one-indexed-files-notrash_val.txt": b"glass2.jpg 1\n",
    "one-indexed-files-notrash_test.txt": b"paper2.jpg 2\n",
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    with file_server() as server:
        yield server


def zipped(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


ARCHIVE = zipped({**PHOTOS, "__MACOSX/photos-resized/._x": b"x", "photos-resized/.DS_Store": b"x"})


def dataset(server_url: str = "http://127.0.0.1:9", archive: bytes = ARCHIVE) -> KnownDataset:
    return KnownDataset(
        archive_url=f"{server_url}/photos.zip",
        archive_sha256=hashlib.sha256(archive).hexdigest(),
        archive_size_bytes=len(archive),
        archive_folder="photos-resized",
        n_photos=6,
        lists_url=f"{server_url}/lists",
        n_listed={"train": 2, "val": 1, "test": 1},
    )


def serve_all(server: FileServer, archive: bytes = ARCHIVE) -> dict[str, KnownDataset]:
    server.files = {"photos.zip": archive} | {f"lists/{name}": content for name, content in LISTS.items()}
    return {"set": dataset(server.url, archive)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WHOLE = {name.removeprefix("photos-resized/"): content for name, content in PHOTOS.items()} | LISTS


def test_a_set_is_fetched_whole_with_its_lists_and_leaves_nothing_else(server: FileServer, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    root = tmp_path / "deep" / "set"
    fetched = fetch(
        "set", root, known=serve_all(server), patience=PATIENT, on_bytes=lambda *report: reports.append(report)
    )
    assert (fetched.root, fetched.n_photos, fetched.was_there, fetched.notes) == (root, 6, False, ())
    found = contents(root)
    assert found.pop(".DS_Store") == b"x"
    assert found == WHOLE
    assert [path.name for path in root.parent.iterdir()] == ["set"]
    assert reports[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_a_set_that_is_there_is_left_alone(server: FileServer, tmp_path: Path) -> None:
    known = serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    server.paths.clear()
    assert fetch("set", tmp_path / "set", known=known, patience=PATIENT).was_there
    assert server.paths == []


def test_an_empty_destination_is_filled(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    fetch("set", tmp_path / "set", known=serve_all(server), patience=PATIENT)
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()


@pytest.mark.parametrize("there", ["set/glass/mine.jpg", "set"])
def test_a_destination_with_something_else_is_refused_and_kept(server: FileServer, tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(DataError, match="set: holds something else"):
        fetch("set", tmp_path / "set", known=serve_all(server), patience=PATIENT)
    assert contents(tmp_path) == {there: b"mine"}
    assert server.paths == []


def test_lists_that_went_missing_are_fetched_alone(server: FileServer, tmp_path: Path) -> None:
    known = serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    for name in LISTS:
        (tmp_path / "set" / name).unlink()
    server.paths.clear()
    assert not fetch("set", tmp_path / "set", known=known, patience=PATIENT).was_there
    assert "photos.zip" not in server.paths
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_fetch_that_failed_halfway_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    known = serve_all(server)
    server.cut_after = [1000]

    def lose_the_archive(*_: int) -> None:
        server.files.pop("photos.zip", None)

    with pytest.raises(DataError, match="404"):
        # The connection is cut, and the file is gone when the next attempt asks for the rest.
        fetch("set", tmp_path / "set", known=known, patience=PATIENT, on_bytes=lose_the_archive)
    assert not (tmp_path / "set").exists()
    serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert server.ranges[:3] == [None, "bytes=1000-", "bytes=1000-"]
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()


def test_a_wrong_archive_is_refused_with_both_hashes_and_thrown_away(server: FileServer, tmp_path: Path) -> None:
    known = serve_all(server)
    server.files["photos.zip"] = bytes(len(ARCHIVE))
    expected, found = known["set"].archive_sha256, hashlib.sha256(bytes(len(ARCHIVE))).hexdigest()
    with pytest.raises(DataError, match=f"expected SHA-256 {expected}.*found {found}"):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_another_size_is_refused_before_it_is_downloaded(server: FileServer, tmp_path: Path) -> None:
    known = serve_all(server)
    server.files["photos.zip"] = ARCHIVE + b"more"
    with pytest.raises(DataError, match=rf"offers {len(ARCHIVE) + 4} bytes, expected {len(ARCHIVE)}"):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)


def test_without_network_the_message_names_the_address_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/photos\.zip: cannot be reached.*--archive FILE"):
        fetch("set", tmp_path / "set", known={"set": dataset()}, patience=PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_a_local_archive_with_its_lists_needs_no_network(tmp_path: Path) -> None:
    for name, content in {"photos.zip": ARCHIVE, **LISTS}.items():
        (tmp_path / name).write_bytes(content)
    fetched = fetch("set", tmp_path / "set", archive=tmp_path / "photos.zip", known={"set": dataset()})
    assert fetched.notes == ()
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()
    assert (tmp_path / "photos.zip").read_bytes() == ARCHIVE


def test_a_local_archive_alone_gives_the_photos_and_a_note(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(ARCHIVE)
    known = {"set": dataset()}
    (note,) = fetch("set", tmp_path / "set", archive=tmp_path / "photos.zip", known=known, patience=PATIENT).notes
    assert "stratified" in note
    assert contents(tmp_path / "set").keys() >= WHOLE.keys() - LISTS.keys()
    assert not contents(tmp_path / "set").keys() & LISTS.keys()


def test_a_wrong_local_archive_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match=rf"expected SHA-256 .*\({len(ARCHIVE)} bytes\), found .*\(4 bytes\)"):
        fetch("set", tmp_path / "set", archive=tmp_path / "photos.zip", known={"set": dataset()})
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_a_missing_local_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--archive: .*gone\.zip is no file"):
        fetch("set", tmp_path / "set", archive=tmp_path / "gone.zip", known={"set": dataset()})


OUTSIDE = ["../evil", "photos-resized/../../evil", "/evil", "C:/evil", "a\\..\\evil"]


def hostile() -> bytes:
    file = io.BytesIO(ARCHIVE)
    with zipfile.ZipFile(file, "a") as archive:
        for name in OUTSIDE:
            archive.writestr(name, "evil")
        link = zipfile.ZipInfo("photos-resized/link")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc")
    return file.getvalue()


def test_an_archive_with_another_hash_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos.zip").write_bytes(hostile())
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DataError, match="not the archive of"):
        fetch("set", tmp_path / "set", archive=tmp_path / "photos.zip", known={"set": dataset()})
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_nothing_is_unpacked_outside_of_the_target(server: FileServer, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "set"
    fetch("set", root, known=serve_all(server, hostile()), patience=PATIENT)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in root.parent.iterdir()] == ["set"]
    assert not any(path.is_symlink() for path in root.rglob("*"))
    assert contents(root).keys() >= WHOLE.keys()


@pytest.mark.parametrize(
    "packed",
    [b"", b"no archive at all", ARCHIVE[: len(ARCHIVE) // 2], ARCHIVE.replace(PHOTOS[ONE][:9], bytes(9))],
    ids=["empty", "text", "half a zip", "a photo that does not fit its checksum"],
)
def test_a_damaged_archive_is_named(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "photos.zip").write_bytes(packed)
    with pytest.raises(DataError, match=r"photos\.zip: the archive is damaged"):
        fetch("set", tmp_path / "set", archive=tmp_path / "photos.zip", known={"set": dataset(archive=packed)})
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"one-indexed-files-notrash_val.txt": b""}, r"val\.txt: 0 lines, expected 1"),
        ({"one-indexed-files-notrash_val.txt": b"glass9.jpg 1\n"}, r"val\.txt, line 1: there is no glass/glass9\.jpg"),
    ],
)
def test_lists_that_do_not_fit_the_photos_are_refused(
    server: FileServer, tmp_path: Path, change: dict[str, bytes], message: str
) -> None:
    known = serve_all(server)
    server.files |= {f"lists/{name}": content for name, content in change.items()}
    with pytest.raises(DataError, match=message):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert not (tmp_path / "set").exists()


def test_an_archive_with_photos_missing_is_refused(server: FileServer, tmp_path: Path) -> None:
    known = {"set": replace(serve_all(server)["set"], n_photos=7)}
    with pytest.raises(DataError, match="holds 6 photos under photos-resized/, expected 7"):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert not (tmp_path / "set").exists()


def test_an_unknown_name_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fetch cifar: .*trashnet"):
        fetch("cifar", tmp_path / "set")


def test_a_destination_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        fetch("set", tmp_path / "file" / "set", known={"set": dataset()}, patience=PATIENT)


def test_a_person_is_told_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"photos.zip": ARCHIVE, **LISTS}.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setitem(KNOWN_DATASETS, "set", dataset())
    text = io.StringIO()
    options = argparse.Namespace(name="set", to=str(tmp_path / "set"), archive=str(tmp_path / "photos.zip"))
    result = photos.fetch(options, Terminal(Console(file=text)))
    assert result == {"root": str(tmp_path / "set"), "n_photos": 6, "was_there": False, "notes": []}
    assert f"{tmp_path / 'set'}: 6 photos, complete" in text.getvalue()
