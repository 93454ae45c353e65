"""What a fleet keeps for its replicas, in the memory of the shared Ray."""

from __future__ import annotations

import os
from typing import Any

import pytest
import ray

from ray_trash.serve.shelf import NAMESPACE, PIECE_BYTES, Shelf

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_what_is_kept_comes_back_whole_and_no_object_of_it_is_larger_than_a_piece() -> None:
    shelf = Shelf("fleet")
    value = {"weights": os.urandom(2 * PIECE_BYTES), "classes": ("glass", "paper")}
    origin = shelf.keep("one", value, None)
    assert origin.fetch(timeout_s=30) == value
    actor: Any = ray.get_actor(origin.shelf, namespace=NAMESPACE)
    pieces = ray.get(ray.get(actor.get.remote("one"), timeout=30), timeout=30)
    assert len(pieces) == 3
    assert max(map(len, pieces)) == PIECE_BYTES
    shelf.forget("one")
    assert not shelf.has("one")
