"""Fetching a known data set: whole and checked, or nothing; from a server that misbehaves too."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from ray_trash.download import Patience, download
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.fetch.known import KNOWN_DATASETS, KnownDataset, fetch, fetch_with_progress
from ray_trash.fetch.unpack import UnpackLimits, unpack
from ray_trash.terminal.say import Terminal

PATIENT = Patience(timeout_s=10.0, attempts=3, first_pause_s=0.0)
IMPATIENT = replace(PATIENT, timeout_s=0.3)
PHOTOS = {
    f"photos-resized/{label}/{label}{number}.jpg": random.Random(f"{label}{number}").randbytes(2000)
    for label in ("glass", "paper")
    for number in (1, 2, 3)
}
LISTS = {
    "one-indexed-files-notrash_train.txt": b"glass1.jpg 1\npaper1.jpg 2\n",
    "one-indexed-files-notrash_val.txt": b"glass2.jpg 1\n",
    "one-indexed-files-notrash_test.txt": b"paper2.jpg 2\n",
}


@dataclass
class Server:
    """Files over HTTP, with faults on request."""

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    without_ranges: bool = False
    silent: bool = False
    dripping: bool = False
    ranges: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    stop: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.paths.append(name)
            state.ranges.append(self.headers["Range"])
            if state.silent:
                state.stop.wait()
                return
            statuses = state.statuses.get(name, [])
            if statuses or name not in state.files:
                self.send_error(statuses.pop(0) if statuses else 404)
                return
            content = state.files[name]
            start = 0 if state.without_ranges else int((self.headers["Range"] or "bytes=0-")[6:-1])
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + state.cut_after.pop(0) if state.cut_after else len(content)
            if state.dripping:
                for position in range(start, end):
                    self.wfile.write(content[position : position + 1])
                    if state.stop.wait(0.02):
                        return
            self.wfile.write(content[start:end])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        # A client that hangs up on purpose is no error worth a trace.
        http.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            state.stop.set()
            http.shutdown()
            thread.join()


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


def serve_all(server: Server, archive: bytes = ARCHIVE) -> dict[str, KnownDataset]:
    server.files = {"photos.zip": archive} | {f"lists/{name}": content for name, content in LISTS.items()}
    return {"set": dataset(server.url, archive)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WHOLE = {name.removeprefix("photos-resized/"): content for name, content in PHOTOS.items()} | LISTS


def test_a_set_is_fetched_whole_with_its_lists_and_leaves_nothing_else(server: Server, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    root = tmp_path / "deep" / "set"
    fetched = fetch(
        "set", root, known=serve_all(server), patience=PATIENT, progress=lambda *report: reports.append(report)
    )
    assert (fetched.root, fetched.n_photos, fetched.was_there, fetched.notes) == (root, 6, False, ())
    found = contents(root)
    assert found.pop(".DS_Store") == b"x"
    assert found == WHOLE
    assert [path.name for path in root.parent.iterdir()] == ["set"]
    assert reports[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_a_set_that_is_there_is_left_alone(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    server.paths.clear()
    assert fetch("set", tmp_path / "set", known=known, patience=PATIENT).was_there
    assert server.paths == []


def test_an_empty_destination_is_filled(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    fetch("set", tmp_path / "set", known=serve_all(server), patience=PATIENT)
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()


@pytest.mark.parametrize("there", ["set/glass/mine.jpg", "set"])
def test_a_destination_with_something_else_is_refused_and_kept(server: Server, tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(DataError, match="set: holds something else"):
        fetch("set", tmp_path / "set", known=serve_all(server), patience=PATIENT)
    assert contents(tmp_path) == {there: b"mine"}
    assert server.paths == []


def test_lists_that_went_missing_are_fetched_alone(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    for name in LISTS:
        (tmp_path / "set" / name).unlink()
    server.paths.clear()
    assert not fetch("set", tmp_path / "set", known=known, patience=PATIENT).was_there
    assert "photos.zip" not in server.paths
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_fetch_that_failed_halfway_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    server.cut_after = [1000]

    def lose_the_archive(*_: int) -> None:
        server.files.pop("photos.zip", None)

    with pytest.raises(DataError, match="404"):
        # The connection is cut, and the file is gone when the next attempt asks for the rest.
        fetch("set", tmp_path / "set", known=known, patience=PATIENT, progress=lose_the_archive)
    assert not (tmp_path / "set").exists()
    serve_all(server)
    fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert server.ranges[:3] == [None, "bytes=1000-", "bytes=1000-"]
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()


def test_a_wrong_archive_is_refused_with_both_hashes_and_thrown_away(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    server.files["photos.zip"] = bytes(len(ARCHIVE))
    expected, found = known["set"].archive_sha256, hashlib.sha256(bytes(len(ARCHIVE))).hexdigest()
    with pytest.raises(DataError, match=f"expected SHA-256 {expected}.*found {found}"):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_another_size_is_refused_before_it_is_downloaded(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    server.files["photos.zip"] = ARCHIVE + b"more"
    with pytest.raises(DataError, match=rf"offers {len(ARCHIVE) + 4} bytes, expected {len(ARCHIVE)}"):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)


def test_without_network_the_message_names_the_address_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/photos\.zip: cannot be reached.*--archive FILE"):
        fetch("set", tmp_path / "set", known={"set": dataset()}, patience=PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_another_address_is_used_where_one_is_given(server: Server, tmp_path: Path) -> None:
    known = serve_all(server)
    server.files["mirror/x.zip"] = server.files.pop("photos.zip")
    fetch("set", tmp_path / "set", known=known, url=f"{server.url}/mirror/x.zip", patience=PATIENT)
    assert contents(tmp_path / "set").keys() >= WHOLE.keys()


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


def test_a_tar_file_is_unpacked_as_well(tmp_path: Path) -> None:
    packed = tarred([(tarfile.TarInfo(name), content) for name, content in PHOTOS.items()])
    for name, content in {"photos.tar.gz": packed, **LISTS}.items():
        (tmp_path / name).write_bytes(content)
    fetch("set", tmp_path / "set", archive=tmp_path / "photos.tar.gz", known={"set": dataset(archive=packed)})
    assert contents(tmp_path / "set") == WHOLE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"one-indexed-files-notrash_val.txt": b""}, r"val\.txt: 0 lines, expected 1"),
        ({"one-indexed-files-notrash_val.txt": b"glass9.jpg 1\n"}, r"val\.txt, line 1: there is no glass/glass9\.jpg"),
    ],
)
def test_lists_that_do_not_fit_the_photos_are_refused(
    server: Server, tmp_path: Path, change: dict[str, bytes], message: str
) -> None:
    known = serve_all(server)
    server.files |= {f"lists/{name}": content for name, content in change.items()}
    with pytest.raises(DataError, match=message):
        fetch("set", tmp_path / "set", known=known, patience=PATIENT)
    assert not (tmp_path / "set").exists()


def test_an_archive_with_photos_missing_is_refused(server: Server, tmp_path: Path) -> None:
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
    result = fetch_with_progress(
        "set", tmp_path / "set", archive=tmp_path / "photos.zip", terminal=Terminal(Console(file=text))
    )
    assert result == {"root": str(tmp_path / "set"), "n_photos": 6, "was_there": False, "notes": []}
    assert f"{tmp_path / 'set'}: 6 photos, complete" in text.getvalue()


CONTENT = bytes(range(256)) * 8


def get(
    server: Server,
    target: Path,
    *,
    size_bytes: int | None = len(CONTENT),
    path: str = "x",
    patience: Patience = PATIENT,
) -> bytes:
    download(f"{server.url}/{path}", target, max_bytes=5000, size_bytes=size_bytes, patience=patience)
    return target.read_bytes()


def test_a_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.files, server.cut_after = {"x": CONTENT}, [700, 600]
    assert get(server, tmp_path / "x") == CONTENT
    assert server.ranges == [None, "bytes=700-", "bytes=1300-"]


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.files, server.cut_after, server.without_ranges = {"x": CONTENT}, [700], True
    assert get(server, tmp_path / "x") == CONTENT


def test_a_server_that_keeps_cutting_is_given_up_and_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.files, server.cut_after = {"x": CONTENT}, [100, 100, 100]
    with pytest.raises(DataError, match=r"broke off 3 times, .*cut after 300 of 2048 bytes"):
        get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT[:300]


def test_what_is_whole_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    assert get(server, tmp_path / "x") == CONTENT
    assert server.paths == []


def test_too_much_that_is_there_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.files = {"x": CONTENT}
    (tmp_path / "x").write_bytes(bytes(3000))
    assert get(server, tmp_path / "x") == CONTENT


def test_a_passing_fault_of_the_server_is_retried(server: Server, tmp_path: Path) -> None:
    server.files, server.statuses = {"x": CONTENT}, {"x": [503, 429]}
    assert get(server, tmp_path / "x") == CONTENT


def test_a_missing_file_is_not_retried(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the server answered 404"):
        get(server, tmp_path / "x")
    assert server.paths == ["x"]


@pytest.mark.timeout(10)
def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.silent = True
    with pytest.raises(DataError, match="cannot be reached: timed out"):
        get(server, tmp_path / "x", patience=IMPATIENT)


@pytest.mark.timeout(10)
def test_a_dripping_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files, server.dripping = {"x": CONTENT}, True
    with pytest.raises(DataError, match="less than 1024 bytes a second came"):
        get(server, tmp_path / "x", patience=IMPATIENT)


def test_a_file_of_unknown_size_starts_anew_and_has_a_limit(server: Server, tmp_path: Path) -> None:
    server.files = {"x": CONTENT, "large": bytes(6000)}
    (tmp_path / "x").write_bytes(b"old")
    assert get(server, tmp_path / "x", size_bytes=None) == CONTENT
    with pytest.raises(DataError, match="offers 6000 bytes, expected at most 5000"):
        get(server, tmp_path / "large", size_bytes=None, path="large")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x", "http://127.0.0.1:port/x", "http://"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=url):
        download(url, tmp_path / "x", max_bytes=10, patience=PATIENT)


def tarred(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def link(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped_link(name: str, target: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return file.getvalue()


OUTSIDE = ["../evil", "a/../../evil", "/evil", "C:/evil", "a\\..\\evil"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    packed = zipped({name: b"evil"}) if kind == "zip" else tarred([(tarfile.TarInfo(name), b"evil")])
    (tmp_path / "archive").write_bytes(packed)
    (tmp_path / "target").mkdir()
    with pytest.raises(DataError, match="outside of the target"):
        unpack(tmp_path / "archive", tmp_path / "target")
    assert contents(tmp_path) == {"archive": packed}


@pytest.mark.parametrize(
    "packed",
    [
        zipped_link("link", "/etc"),
        tarred([(link("link", tarfile.SYMTYPE, "/etc"), b"")]),
        tarred([(link("link", tarfile.LNKTYPE, "/etc/passwd"), b"")]),
        tarred([(link("link", tarfile.CHRTYPE), b"")]),
        tarred([(link("link", tarfile.FIFOTYPE), b"")]),
    ],
    ids=["zip link", "tar link", "tar hard link", "tar device", "tar pipe"],
)
def test_links_and_devices_are_refused(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(DataError, match="'link' is a link or a device"):
        unpack(tmp_path / "archive", tmp_path / "target")
    assert contents(tmp_path) == {"archive": packed}


def deflated(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "packed",
    [deflated(bytes(5 << 20)), tarred([(tarfile.TarInfo("bomb"), bytes(5 << 20))])],
    ids=["zip", "tar"],
)
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(DataError, match="far more than a set of photos"):
        unpack(tmp_path / "archive", tmp_path / "target")
    assert not (tmp_path / "target" / "bomb").exists()


def test_a_bomb_in_a_tar_files_headers_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.pax_headers = {"comment": "x" * (4 << 20)}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    (tmp_path / "archive").write_bytes(file.getvalue())
    with pytest.raises(DataError, match="far more than a set of photos"):
        unpack(tmp_path / "archive", tmp_path / "target")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    packed = bytearray(deflated(b"x" * 1000))
    size = (1000).to_bytes(4, "little")
    assert packed.count(size) == 2
    (tmp_path / "archive").write_bytes(packed.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match="archive"):
        unpack(tmp_path / "archive", tmp_path / "target", UnpackLimits(ratio=1000))


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped({f"{number}": b"x" for number in range(5)}))
    with pytest.raises(DataError, match="more than 4 files"):
        unpack(tmp_path / "archive", tmp_path / "target", UnpackLimits(members=4))


@pytest.mark.parametrize(
    "members",
    [[("a", b"1"), ("a", b"2")], [("a", b"1"), ("a/b", b"2")], [("a/b", b"1"), ("a", b"2")]],
)
def test_a_name_that_is_in_it_twice_is_refused(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    (tmp_path / "archive").write_bytes(tarred([(tarfile.TarInfo(name), content) for name, content in members]))
    with pytest.raises(DataError, match="is in it twice"):
        unpack(tmp_path / "archive", tmp_path / "target")


@pytest.mark.parametrize(
    "packed",
    [b"", b"no archive at all", ARCHIVE[: len(ARCHIVE) // 2], tarred([(tarfile.TarInfo("x"), bytes(5000))])[:60]],
    ids=["empty", "text", "half a zip", "half a tar"],
)
def test_a_damaged_archive_is_named(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(DataError, match="archive"):
        unpack(tmp_path / "archive", tmp_path / "target")
