"""What the environment lacks is made up for, and what it names is left as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_trash.cluster.environment import own_folder, prepare_environment
from ray_trash.errors import StorageError


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process a folder for temporary files, no name, and no folder for caches."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOGNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("home", ["", "absent", "file"])
def test_without_a_home_libraries_keep_their_things_in_a_folder_of_this_user_s(
    home: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary / "file").touch()
    monkeypatch.setenv("HOME", str(temporary / home) if home else "~")
    prepare_environment()
    own = Path(own_folder(str(temporary)))
    assert {os.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")} == {str(own)}
    assert own.stat().st_mode & 0o777 == 0o700
    assert os.environ["LOGNAME"] == str(os.getuid())


def test_a_folder_that_another_user_has_put_there_is_not_taken(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/absent")
    (temporary / "theirs").mkdir()
    Path(own_folder(str(temporary))).symlink_to(temporary / "theirs")
    prepare_environment()
    assert Path(os.environ["HOME"]).parent == temporary
    assert not Path(os.environ["HOME"]).is_symlink()


def test_a_home_that_can_be_written_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    prepare_environment()
    assert os.environ["HOME"] == str(temporary)
    assert "XDG_CACHE_HOME" not in os.environ


def test_where_nothing_can_be_written_that_is_said(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/absent")
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "absent" / "\0"))
    monkeypatch.setattr(os, "makedirs", _refuse)
    with pytest.raises(StorageError, match=r"neither a home \(/absent\) nor .* set HOME or TMPDIR"):
        prepare_environment()


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1"),
        ("corp.example, localhost", "corp.example,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_this_machine_is_excepted_from_proxies(before: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", before)
    prepare_environment()
    assert os.environ["no_proxy"] == after
