"""Words for people: names that can be printed, lists that end, counts, shares."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

MOST_NAMED = 5
"""Names in a sentence before the rest is counted."""


def printable(text: str) -> str:
    """Replace what a terminal, a page or a font cannot show by question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shortened(text: str, most_characters: int) -> str:
    """Cut a text, with an ellipsis where something is gone."""
    return text if len(text) <= most_characters else text[: most_characters - 1] + "…"


def listed(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Name the first few, and count the rest."""
    all_names = list(names)
    more = len(all_names) - most
    return ", ".join(all_names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(n: int, noun: str, nouns: str | None = None) -> str:
    """Say how many there are: `1 photo`, `2,527 photos`; `nouns` where these do not end in an s alone."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def rejected_by_kind(rejected: Iterable[Mapping[str, Any]]) -> str:
    """Say of {path, reason, message} what they are: `84 rejected: 48 HEIC, 24 JSON`, the commonest first."""
    kinds = Counter(map(_kind, rejected)).most_common()
    return f"{sum(n for _, n in kinds):,} rejected: " + listed(f"{n:,} {kind}" for kind, n in kinds)


def _kind(rejected: Mapping[str, Any]) -> str:
    suffix = PurePosixPath(rejected["path"]).suffix[1:].upper()
    if rejected["reason"] != "unsupported_format":
        return f"{rejected['reason'].replace('_', ' ')} {suffix}".rstrip()
    # What the file was found to be, unless its name says it better; the names of photos say nothing here.
    said = re.match(r"the file is (?:an? )?([^;,(]+)", rejected.get("message") or "")
    what = said[1].strip() if said else ""
    vague = what in ("", "text file", "no picture format that is known here")
    return suffix if suffix and (suffix in what or (vague and suffix not in ("JPG", "JPEG", "PNG"))) else what or suffix


def percent(share: float) -> str:
    """Write a share of 0..1 as `95.1 %`."""
    return f"{100 * share:.1f} %"


def percents(ends: Sequence[float]) -> str:
    """Write an interval of shares as `92.2 to 97.0 %`."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %"


def points(share: float) -> str:
    """Write a difference of shares, -1..1, in percentage points: `+1.5`; a zero has no sign of its own."""
    return f"{100 * share:+z.1f}"


def p_value(p: float) -> str:
    """Write a p-value as `p = 0.031`, or `p < 0.001` where it is."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def last_line(error: BaseException) -> str:
    """Return what happened: Ray puts a remote traceback in front, and the cause in its last line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def gib(n_bytes: float) -> str:
    """Write bytes as `1.5 GiB`, or `12 MiB` where there are few."""
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def minutes(seconds: float) -> str:
    """Write a time as `34 s`, `12 min` or `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
