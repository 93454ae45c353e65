"""Whether a storage place does what runs rely on, from every machine: whole writes, renames, listing, removal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial

from ray_trash.cluster.carry import Carried, carry
from ray_trash.doctor.finding import Finding
from ray_trash.errors import RayTrashError, StorageError
from ray_trash.storage import Storage

_DATA = b"ray-trash doctor\n" * 4096
_FIRST = "first"
OnMachines = Callable[[Sequence[Callable[[], Carried[str]]]], Sequence[tuple[str, Carried[str]]]]
"""Does one piece of work on each machine, and returns what became of it by the machine's name."""


def check_storage(uri: str, n_machines: int, on_machines: OnMachines) -> Finding:
    """Write, rename, read, list and remove below a place, from here and from so many machines; leave nothing behind."""
    advice = "set storage to a place that every machine can write, such as a shared folder, s3:// or gs://"
    try:
        place = Storage.at(uri)
        was_there = place.exists()
    except StorageError as error:
        return Finding("storage", "problem", str(error), advice)
    own = f".doctor-{secrets.token_hex(4)}"
    folder = place.child(own)
    try:
        try_place(folder, _FIRST, None)
        works = [
            partial(carry, partial(try_place, folder, f"machine-{number}", _FIRST)) for number in range(n_machines)
        ]
        for number, (machine, outcome) in enumerate(on_machines(works)):
            if outcome.error is not None:
                return Finding("storage", "problem", f"from {machine}: {outcome.error}", advice)
            if not folder.exists(f"machine-{number}"):
                what = f"{place.uri}: this machine does not see what {machine} wrote: it is another place there"
                return Finding("storage", "problem", what, advice)
    except RayTrashError as error:
        return Finding("storage", "problem", str(error), advice)
    finally:
        _remove(place, own, was_there=was_there)
    machines = f" from {n_machines} machines" if n_machines > 1 else ""
    return Finding("storage", "ok", f"{place.uri}: written, renamed, read and removed{machines}")


def try_place(folder: Storage, name: str, other: str | None) -> str:
    """Write a file and rename one, read them back, and read another one that somebody else wrote; return its name.

    Raises:
        StorageError: Something of that does not work.
    """
    if other is not None and not folder.exists(other):
        raise StorageError(f"{folder.uri}: does not see what another machine wrote: it is another place here")
    folder.write_bytes(name, _DATA)
    with folder.writing(f"{name}-renamed") as file:
        file.write(_DATA)
    for written in filter(None, (name, f"{name}-renamed", other)):
        if folder.read_bytes(written) != _DATA:
            raise StorageError(f"{folder.uri}/{written}: something else is read than was written")
    if name not in folder.list_names():
        raise StorageError(f"{folder.uri}: does not list what was written")
    return name


def _remove(place: Storage, own: str, *, was_there: bool) -> None:
    try:
        place.remove(own)
        if not was_there and place.exists() and not place.list_names():
            place.remove("")
    except StorageError:
        return  # what keeps it from being removed has been found already
