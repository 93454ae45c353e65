"""A download ends with the whole file or with what is wrong; from a server that misbehaves too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ray_trash.download import Patience, download
from ray_trash.errors import DataError, StorageError
from tests.file_server import HANG_UP, FileServer, file_server

PATIENT = Patience(timeout_s=10.0, attempts=3, first_pause_s=0.0)
IMPATIENT = replace(PATIENT, timeout_s=0.3)
CONTENT = bytes(range(256)) * 8


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    with file_server() as server:
        server.files = {"x": CONTENT}
        yield server


def get(
    server: FileServer,
    target: Path,
    *,
    size_bytes: int | None = len(CONTENT),
    path: str = "x",
    patience: Patience = PATIENT,
) -> bytes:
    download(f"{server.url}/{path}", target, max_bytes=5000, size_bytes=size_bytes, patience=patience)
    return target.read_bytes()


@pytest.mark.parametrize("size_bytes", [len(CONTENT), None])
def test_a_cut_connection_is_resumed(server: FileServer, tmp_path: Path, size_bytes: int | None) -> None:
    server.cut_after = [700, 600]
    assert get(server, tmp_path / "x", size_bytes=size_bytes) == CONTENT
    assert server.ranges == [None, "bytes=700-", "bytes=1300-"]


def test_a_server_without_ranges_starts_anew(server: FileServer, tmp_path: Path) -> None:
    server.cut_after, server.without_ranges = [700], True
    assert get(server, tmp_path / "x") == CONTENT


def test_a_server_that_keeps_cutting_is_given_up_and_what_came_is_kept(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [100, 100, 100]
    with pytest.raises(DataError, match=r"broke off 3 times, .*cut after 300 of 2048 bytes"):
        get(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT[:300]


def test_what_is_whole_is_not_asked_for(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT)
    assert get(server, tmp_path / "x") == CONTENT
    assert server.paths == []


def test_too_much_that_is_there_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(3000))
    assert get(server, tmp_path / "x") == CONTENT


def test_a_passing_fault_of_the_server_is_retried(server: FileServer, tmp_path: Path) -> None:
    server.statuses = {"x": [503, 429]}
    assert get(server, tmp_path / "x") == CONTENT


def test_a_server_that_cannot_be_reached_again_after_a_cut_is_retried(server: FileServer, tmp_path: Path) -> None:
    server.cut_after, server.statuses = [700], {"x": [None, HANG_UP]}
    assert get(server, tmp_path / "x") == CONTENT
    assert server.ranges == [None, "bytes=700-", "bytes=700-"]


def test_a_file_that_moved_is_followed_and_resumed(server: FileServer, tmp_path: Path) -> None:
    server.moved, server.cut_after = {"old": "x"}, [700]
    assert get(server, tmp_path / "x", path="old") == CONTENT
    assert list(zip(server.paths, server.ranges, strict=True)) == [
        ("old", None),
        ("x", None),
        ("old", "bytes=700-"),
        ("x", "bytes=700-"),
    ]


def test_the_proxy_of_the_environment_is_asked(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url)
    server.files = {"http://elsewhere.invalid/x": CONTENT}
    download("http://elsewhere.invalid/x", tmp_path / "x", max_bytes=5000, patience=PATIENT)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(
        DataError, match=r"^http://elsewhere\.invalid/x: cannot be reached through the proxy .* of http_proxy: \S"
    ):
        download("http://elsewhere.invalid/x", tmp_path / "x", max_bytes=5000, patience=PATIENT)


def test_a_missing_file_is_not_retried(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the server answered 404 Not Found"):
        get(server, tmp_path / "x", path="y")
    assert server.paths == ["y"]


@pytest.mark.timeout(10)
def test_a_silent_server_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.silent = True
    with pytest.raises(DataError, match="cannot be reached: timed out"):
        get(server, tmp_path / "x", patience=IMPATIENT)


@pytest.mark.timeout(30)
def test_a_dripping_server_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.dripping = True
    # Long beside the pause between two drops, on a busy machine too: it is not silence that ends this.
    patience = replace(PATIENT, timeout_s=2.0, attempts=1)
    with pytest.raises(DataError, match="less than 1024 bytes a second came"):
        get(server, tmp_path / "x", patience=patience)


def test_a_file_of_unknown_size_starts_anew_and_has_a_limit(server: FileServer, tmp_path: Path) -> None:
    server.files["large"] = bytes(6000)
    (tmp_path / "x").write_bytes(b"old")
    assert get(server, tmp_path / "x", size_bytes=None) == CONTENT
    with pytest.raises(DataError, match="offers 6000 bytes, expected at most 5000"):
        get(server, tmp_path / "large", size_bytes=None, path="large")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x", "http://127.0.0.1:port/x", "http://"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match=f"^{url}: cannot be reached: .*"):
        download(url, tmp_path / "x", max_bytes=10, patience=PATIENT)


def test_a_target_that_cannot_be_written_is_a_storage_error(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone/x: cannot be written: No such file"):
        get(server, tmp_path / "gone" / "x")
