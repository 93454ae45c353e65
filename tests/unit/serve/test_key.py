"""Keys: where they come from, and who finds that of an operator."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ray_trash.config import ServeConfig
from ray_trash.errors import ConfigError, StorageError
from ray_trash.serve.key import (
    CLIENT_VARIABLE,
    OPERATOR_VARIABLE,
    Keys,
    find_operator_key,
    keys_for,
    operator_key_place,
    read_key,
)


@pytest.fixture(autouse=True)
def no_keys_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for variable in (CLIENT_VARIABLE, OPERATOR_VARIABLE):
        monkeypatch.delenv(variable, raising=False)


def test_a_key_comes_from_its_file_or_else_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str | None) -> str | None:
        return read_key(path, option="--api-key-file", variable=CLIENT_VARIABLE)

    monkeypatch.delenv(CLIENT_VARIABLE, raising=False)
    assert read(None) is None
    monkeypatch.setenv(CLIENT_VARIABLE, "of-the-environment")
    assert read(None) == "of-the-environment"
    (tmp_path / "key").write_text("of-the-file\n")
    assert read(str(tmp_path / "key")) == "of-the-file"
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "spaced").write_text("two words\n")
    for name in ("empty", "absent", "spaced"):
        with pytest.raises(ConfigError, match=rf"--api-key-file .*{name}"):
            read(str(tmp_path / name))


def test_an_endpoint_makes_a_key_that_its_user_finds_on_that_machine_while_it_runs() -> None:
    with keys_for(ServeConfig(), 8123) as keys:
        file = operator_key_place(8123)
        assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
        assert keys.client is None
        assert keys.operator is not None
        assert len(keys.operator) > 32
        for host in ("127.0.0.1", "localhost", "[::1]", "127.0.0.2"):
            assert find_operator_key(f"http://{host}:8123") == keys.operator
        # The same port of another machine is another endpoint, and may be anybody's.
        assert find_operator_key("http://192.0.2.1:8123") is None
        assert find_operator_key("http://127.0.0.1:8124") is None
        assert find_operator_key("http://127.0.0.1") is None
        assert find_operator_key("no address") is None
    assert not file.exists()
    assert find_operator_key("http://127.0.0.1:8123") is None


def test_the_key_of_an_endpoint_that_was_killed_is_replaced_and_one_that_took_its_port_keeps_its_own() -> None:
    operator_key_place(8123).parent.mkdir(mode=0o700)
    operator_key_place(8123).write_text("of one that was killed")
    with keys_for(ServeConfig(), 8123) as first:
        with keys_for(ServeConfig(), 8123) as second:
            assert find_operator_key("http://127.0.0.1:8123") == second.operator != first.operator
        operator_key_place(8123).write_text("of a third")
    assert operator_key_place(8123).read_text() == "of a third"


def test_a_key_that_is_given_is_taken_and_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "operator").write_text("of-the-file")
    monkeypatch.setenv(CLIENT_VARIABLE, "of-clients")
    with keys_for(ServeConfig(operator_key_file=str(tmp_path / "operator")), 8123) as keys:
        assert keys == Keys("of-clients", "of-the-file")
    monkeypatch.setenv(OPERATOR_VARIABLE, "of-the-environment")
    with keys_for(ServeConfig(), 8123) as keys:
        assert keys.operator == "of-the-environment"
    assert not operator_key_place(8123).parent.exists()


def test_no_key_goes_where_others_may_write() -> None:
    operator_key_place(8123).parent.mkdir()
    operator_key_place(8123).parent.chmod(0o777)
    with pytest.raises(StorageError, match=r"others may write there; set serve\.operator_key_file"):
        keys_for(ServeConfig(), 8123).__enter__()
    operator_key_place(8123).write_text("of somebody else")
    assert find_operator_key("http://127.0.0.1:8123") is None
