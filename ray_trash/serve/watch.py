"""Watches a run and moves the endpoint to its checkpoint whenever there is another good one."""

from __future__ import annotations

import asyncio

from ray_trash.errors import CheckpointError, ClusterError, RayTrashError, StorageError
from ray_trash.model.checkpoint import MARKER, Checkpoint, open_checkpoint
from ray_trash.serve.fleet import Fleet
from ray_trash.storage import Storage

LOOKS = 3
"""How often in a row a checkpoint must be found incomplete before it is reported: it may be on its way."""


async def watch(place: Storage, seen: bytes, fleet: Fleet, *, interval_s: float) -> None:
    """Look at a folder again and again for a checkpoint of another marker than was `seen`; never returns."""
    failed_looks = 0
    while True:
        await asyncio.sleep(interval_s)
        try:
            checkpoint = await asyncio.to_thread(_look, place, seen)
        except (CheckpointError, StorageError) as error:
            failed_looks += 1
            if failed_looks == LOOKS:
                fleet.refuse(place.uri.rsplit("/", 1)[-1], error, place.uri)
            continue
        failed_looks = 0
        if checkpoint is None:
            continue
        seen, card = checkpoint.marker, await fleet.card()
        if card is not None and card.id == checkpoint.document.id:
            continue
        try:
            await fleet.swap(checkpoint)
        except RayTrashError as error:
            if isinstance(error, ClusterError):
                seen = b""  # nothing is wrong with the checkpoint: there may be room for it later


def _look(place: Storage, seen: bytes) -> Checkpoint | None:
    """Return the checkpoint of a folder where it is another one than was seen, and whole."""
    marker = place.read_bytes(MARKER) if place.exists(MARKER) else b""
    return None if marker == seen else open_checkpoint(place)
