"""Which entries of a folder are files to read, whatever their class, and why the others are not."""

from __future__ import annotations

from itertools import starmap
from typing import get_args

import pyarrow as pa

from ray_trash.dataset.columns import rows_in, table_of_rows
from ray_trash.dataset.names import is_other_kind, is_system_name, looks_like_photo
from ray_trash.dataset.walk import ENTRY_SCHEMA, Entry
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
NO_ROW = "not in data.labels"
WRITTEN = "written by this program"


PLACE_SCHEMA = pa.schema([*ENTRY_SCHEMA, pa.field("place", pa.string()), pa.field("reason", pa.string())])
"""What was found below a folder, and what it is: `place` is `file` (perhaps a `special` one) or `folder`, or null for
what is not going to be read. Then `reason` is a code where it is rejected, a few words where it is ignored."""


def judge_places(entries: pa.Table) -> pa.Table:
    """Say of each entry (`ENTRY_SCHEMA`), of whatever class, what it is or why it is not read (`PLACE_SCHEMA`)."""
    written = written_files(entries)
    rows = starmap(Entry, rows_in(entries, *ENTRY_SCHEMA.names))
    return table_of_rows(
        ((*entry[:-1], *((None, None, WRITTEN) if entry.path in written else _judge(entry))) for entry in rows),
        PLACE_SCHEMA,
    )


def _judge(entry: Entry) -> tuple[str | None, str | None, str | None]:
    """Return its message, place and reason."""
    *above, name = entry.path.split("/")
    is_folder = entry.kind == "directory"
    if is_system_name(name) or any(map(is_system_name, above)):
        return _folder_or(is_folder, HIDDEN)
    if any(map(looks_like_photo, above)):
        return _folder_or(is_folder, "in a folder named like a photo")
    if is_folder:
        if not looks_like_photo(name):
            return None, "folder", None
        return "a folder named like a photo", None, "not_a_regular_file"
    if entry.kind in ("file", "special") and is_other_kind(name):
        return None, None, OTHER_KIND
    reason = _REASON_OF_KIND.get(entry.kind)
    return (entry.message, None, reason) if reason else (entry.message, "file", None)


def _folder_or(is_folder: bool, reason: str) -> tuple[str | None, str | None, str | None]:
    return (None, "folder", None) if is_folder else (None, None, reason)
