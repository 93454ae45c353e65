"""Which entries of a folder are files to read, whatever their class, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ray_trash.dataset.names import is_other_kind, is_system_name, looks_like_photo
from ray_trash.dataset.walk import Entry
from ray_trash.dataset.written import written_files
from ray_trash.errors import ReasonCode

REASON_CODES = frozenset(get_args(ReasonCode))
REPEAT = "link to a folder listed elsewhere"
_REASON_OF_KIND = {
    "directory_link": "directory link",
    "loop": "link to a folder that it is in",
    "repeat": REPEAT,
    "outside": "outside_root",
    "unreadable": "unreadable",
}
HIDDEN = "hidden or system file"
OTHER_KIND = "not named like a photo"
WRITTEN = "written by this program"


@dataclass(frozen=True)
class Finding:
    """A file that is not going to be read; `reason` is a code for a rejected one, a few words for an ignored one."""

    path: str
    reason: str
    message: str = ""


Place = Finding | Literal["file", "folder"]


def judge_places(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Place]]:
    """Say of each entry, of whatever class, why it is not going to be read; else what it is.

    A file may be a `special` one.
    """
    written = written_files(entries)
    for entry in entries:
        yield entry, Finding(entry.path, WRITTEN) if entry.path in written else _place(entry)


def _place(entry: Entry) -> Place:
    *above, name = entry.path.split("/")
    is_folder = entry.kind == "directory"
    if any(map(is_system_name, (*above, name))):
        return "folder" if is_folder else Finding(entry.path, HIDDEN)
    if any(map(looks_like_photo, above)):
        return "folder" if is_folder else Finding(entry.path, "in a folder named like a photo")
    if is_folder:
        if not looks_like_photo(name):
            return "folder"
        return Finding(entry.path, "not_a_regular_file", "a folder named like a photo")
    if entry.kind in ("file", "special") and is_other_kind(name):
        return Finding(entry.path, OTHER_KIND)
    reason = _REASON_OF_KIND.get(entry.kind)
    return Finding(entry.path, reason, entry.message) if reason else "file"
