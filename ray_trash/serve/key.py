"""The keys of an endpoint: one that clients send, one of whoever operates it. Plain Python, quick to import."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ray_trash.cluster.environment import own_folder
from ray_trash.errors import ConfigError, StorageError
from ray_trash.serve.log import tell

if TYPE_CHECKING:
    from ray_trash.config import ServeConfig

CLIENT_VARIABLE = "RAY_TRASH_API_KEY"
OPERATOR_VARIABLE = "RAY_TRASH_OPERATOR_KEY"
"""Environment variables with the keys, where no file is named."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Keys:
    """What must be sent: by clients, or None where anybody may ask; to operate, or None where nobody may."""

    client: str | None = None
    operator: str | None = None


def read_key(path: str | None, *, option: str, variable: str) -> str | None:
    """Return the key from a file, which the user names by `option`; else from the variable; None without either.

    Raises:
        ConfigError: The file cannot be read, or a key is empty or not plain ASCII.
    """
    if path is not None:
        where = f"{option} {path}"
        try:
            key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read: {error}") from error
    elif variable in os.environ:
        where, key = variable, os.environ[variable].strip()
    else:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{where}: the key must be printable ASCII without spaces, and not empty")
    return key


def keys_of(settings: ServeConfig) -> Keys:
    """Read the keys of an endpoint, as `read_key` does."""
    return Keys(
        read_key(settings.api_key_file, option="serve.api_key_file", variable=CLIENT_VARIABLE),
        read_key(settings.operator_key_file, option="serve.operator_key_file", variable=OPERATOR_VARIABLE),
    )


@contextmanager
def keys_for(settings: ServeConfig, port: int) -> Iterator[Keys]:
    """Yield the keys of the endpoint on a port; where it is given none to operate it, a new one.

    For as long as the block runs, that one is in a file that only this user can read; `find_operator_key` finds it.

    Raises:
        ConfigError: A key that is given cannot be read.
        StorageError: The file cannot be written.
    """
    keys = keys_of(settings)
    if keys.operator is not None:
        yield keys
        return
    key, file = secrets.token_urlsafe(32), operator_key_place(port)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(file.parent):
            raise PermissionError("others may write there")
        file.unlink(missing_ok=True)  # of an endpoint that was killed
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(key)
    except OSError as error:
        raise StorageError(
            f"{file}: the operator's key cannot be written: {error.strerror or error}; set serve.operator_key_file to "
            f"a file with a key, or {OPERATOR_VARIABLE} to one"
        ) from error
    tell("operator_key", f"the operator's key, for a rollback or a promotion, is in {file}", file=str(file))
    try:
        yield Keys(keys.client, key)
    finally:
        # Another endpoint may have taken the port, and written its own.
        if file.exists() and file.read_text() == key:
            file.unlink()


def operator_key_place(port: int) -> Path:
    """Name the file of the key that `keys_for` makes for an endpoint on a port."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime, "ray-trash") if runtime else Path(own_folder(tempfile.gettempdir()))
    return folder / f"operator-{port}.key"


def find_operator_key(url: str) -> str | None:
    """Return the key of the endpoint at a URL where `ray-trash serve` runs it as this user, on this machine."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
        file = operator_key_place(port)
        # A key is not for the endpoint of another machine, which may be anybody's.
        if _is_this_machine(parts.hostname or "") and _is_private(file.parent):
            return file.read_text()
    except (OSError, KeyError, ValueError):
        return None
    return None


def _is_private(folder: Path) -> bool:
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022


def _is_this_machine(host: str) -> bool:
    for family, kind, protocol, _, address in socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)  # an OSError for an address of another machine
    return True
