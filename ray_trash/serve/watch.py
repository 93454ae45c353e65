"""Watches a run and moves the endpoint to its checkpoint whenever there is another good one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ray_trash.errors import CheckpointError, ClusterError, RayTrashError, StorageError
from ray_trash.model.checkpoint import MARKER, Checkpoint, open_checkpoint
from ray_trash.serve.fleet import Fleet
from ray_trash.storage import Storage

LOOKS = 3
"""How often in a row a checkpoint must be found incomplete before it is reported: it may be on its way."""


async def watch(
    place: Storage, served: Checkpoint, fleet: Fleet, *, interval_s: float, say: Callable[[str], None]
) -> None:
    """Look at a checkpoint's folder again and again; never returns.

    Args:
        place: The folder.
        served: What was there when it was loaded.
        fleet: Who serves.
        interval_s: Between two looks.
        say: Told of every swap and every refusal, in a line.
    """
    watcher = _Watcher(place, served.marker, say, fleet)
    while True:
        await asyncio.sleep(interval_s)
        checkpoint = await asyncio.to_thread(watcher.look)
        card = await fleet.card()
        if checkpoint is None or (card is not None and card.id == checkpoint.document.id):
            continue
        try:
            card = await fleet.swap(checkpoint)
            say(f"now answered by {card.id}")
        except RayTrashError as error:
            say(f"not served: {error}")
            if isinstance(error, ClusterError):
                watcher.forget()  # nothing is wrong with the checkpoint: there may be room for it later


class _Watcher:
    """What was seen of a checkpoint's folder so far."""

    def __init__(self, place: Storage, seen: bytes, say: Callable[[str], None], fleet: Fleet) -> None:
        self._place, self._seen, self._say, self._fleet = place, seen, say, fleet
        self._failed_looks = 0

    def forget(self) -> None:
        """Take what was seen last for another one."""
        self._seen = b""

    def look(self) -> Checkpoint | None:
        """Return the checkpoint where it is another one than before, and whole."""
        try:
            marker = self._place.read_bytes(MARKER) if self._place.exists(MARKER) else b""
            if marker == self._seen:
                self._failed_looks = 0
                return None
            checkpoint = open_checkpoint(self._place)
        except (CheckpointError, StorageError) as error:
            self._failed_looks += 1
            if self._failed_looks == LOOKS:
                self._say(f"not served: {error}")
                self._fleet.refuse(self._place.uri.rsplit("/", 1)[-1], error, self._place.uri)
            return None
        self._failed_looks = 0
        self._seen = checkpoint.marker
        return checkpoint
