"""What the endpoint and its client agree on: the key, and the header of a rollback. Plain Python, quick to import."""

from __future__ import annotations

import os
from pathlib import Path

from ray_trash.errors import ConfigError

KEY_VARIABLE = "RAY_TRASH_API_KEY"
"""Environment variable with the key, where no file is named."""
ROLL_BACK_HEADER = "x-ray-trash"
"""Must be sent to roll back, which is for operators: no page of another origin can make a browser send it."""


def read_key(path: str | None, *, option: str) -> str | None:
    """Return the key from a file, which the user names by `option`; else from the environment; None without either.

    Raises:
        ConfigError: The file cannot be read, or a key is empty or not plain ASCII.
    """
    if path is not None:
        where = f"{option} {path}"
        try:
            key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where}: cannot be read: {error}") from error
    elif KEY_VARIABLE in os.environ:
        where, key = KEY_VARIABLE, os.environ[KEY_VARIABLE].strip()
    else:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{where}: the key must be printable ASCII without spaces, and not empty")
    return key
