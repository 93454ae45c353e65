"""The folder that a packed set is written to: what may be in it before, and what is removed."""

from __future__ import annotations

import os
import re

from ray_trash.dataset.official import OFFICIAL_LISTS
from ray_trash.dataset.packed.form import INDEX, LEFT_OUT, MANIFEST
from ray_trash.errors import ConfigError
from ray_trash.storage import Storage
from ray_trash.terminal.text import listed

_SHARD = re.compile(r"photos-\d{5,}\.parquet")


class Target:
    """A folder that holds nothing, or a packed set that is complete or half written."""

    def __init__(self, uri: str) -> None:
        """Resolve it; nothing is written. It is a `StorageError` if there can be no such place."""
        self.storage = Storage.at(uri)

    def require_free(self, root: str, *, overwrite: bool) -> None:
        """Refuse a place in the photos' own folder or around it, one with other files, and a set that is complete.

        Raises:
            ConfigError: It is one of these.
            StorageError: It cannot be looked at.
        """
        photos = Storage.at(root)
        own, others = (
            os.path.realpath(place.path) if place.is_local else place.path for place in (self.storage, photos)
        )
        if self.storage.filesystem.equals(photos.filesystem):
            if f"{own}/".startswith(f"{others}/"):
                raise ConfigError(f"--to {self.storage.uri}: is in {photos.uri}, the photos' own folder; name another")
            if f"{others}/".startswith(f"{own}/"):
                raise ConfigError(f"--to {self.storage.uri}: holds the photos, {photos.uri}; name another folder")
        names = self.storage.list_names()
        foreign = [name for name in names if not _is_ours(name)]
        if foreign:
            raise ConfigError(
                f"--to {self.storage.uri}: holds other things already, {listed(map(repr, foreign))}; name an empty "
                "folder, or a new one"
            )
        if MANIFEST in names and not overwrite:
            raise ConfigError(
                f"--to {self.storage.uri}: is a packed set already, complete; add --overwrite or name another folder"
            )

    def begin(self) -> None:
        """Remove a set that is complete; of one that is half written the shards stay."""
        names = self.storage.list_names()
        # First what makes it one: a set that is half removed must not look complete.
        if MANIFEST in names:
            for name in (MANIFEST, *(name for name in names if name != MANIFEST)):
                self.storage.remove(name)

    def finish(self, manifest: bytes, keep: set[str]) -> None:
        """Remove what is left of earlier starts, all but these names, and write what makes the set complete."""
        for name in self.storage.list_names():
            if name not in keep:
                self.storage.remove(name)
        self.storage.write_bytes(MANIFEST, manifest)


def _is_ours(name: str) -> bool:
    if name in (MANIFEST, INDEX, LEFT_OUT, *OFFICIAL_LISTS.values()) or _SHARD.fullmatch(name):
        return True
    return name.startswith(".") and name.endswith(".unfinished") and _is_ours(name[1 : -len(".unfinished")])
