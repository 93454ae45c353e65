"""What a deployment says while it has no model: whoever would say it answers nobody until then, so Ray keeps it."""

from __future__ import annotations

import json
from typing import Any, cast

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

_NAMESPACE = b"ray-trash"


def post(application: str, said: dict[str, Any]) -> None:
    """Say something about an application, in place of what was said before."""
    _internal_kv_put(_key(application), json.dumps(said).encode(), namespace=_NAMESPACE)


def read(application: str) -> dict[str, Any]:
    """Return what is said about an application; empty where nothing is."""
    found = _internal_kv_get(_key(application), namespace=_NAMESPACE)
    return {} if found is None else cast(dict[str, Any], json.loads(found))


def take_down(application: str) -> None:
    """Say nothing any more."""
    _internal_kv_del(_key(application), namespace=_NAMESPACE)


def _key(application: str) -> bytes:
    return f"notice-{application}".encode()
