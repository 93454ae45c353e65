"""A comparison as one page to look at, with style and pictures in it: it loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.thumbnail import thumbnail_uri
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.comparison_table import comparison_lines
from ray_trash.terminal.page import page_templates
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import printable

MOST_PICTURES = 48
"""Photos of each kind that are drawn; the others are counted."""
MOST_NAMED = 200
"""Photos of one side alone that are named; the others are counted."""


def comparison_page(
    document: Mapping[str, Any], photos: PhotoFolder | None, *, terminal: Terminal | None = None
) -> bytes:
    """Render what `comparison` found, in UTF-8; `photos` is where the paths lead, None for a page without pictures."""
    kinds = (
        ("Only A is right", document.get("only_a_right", ())),
        ("Only B is right", document.get("only_b_right", ())),
    )
    drawn = [found[:MOST_PICTURES] for _, found in kinds]
    with Bar(terminal or Terminal.silent(), total=sum(map(len, drawn)), doing="drawing") as bar:
        pictures = [[(photo, _picture(photo, photos, bar)) for photo in found] for found in drawn]
    templates = page_templates("ray_trash.compare")
    page = templates.get_template("compare.html.j2").render(
        lines=list(comparison_lines(document)),
        per_class=document.get("per_class", {}),
        config=document["config"] or {},
        kinds=[(title, len(found), shown) for (title, found), shown in zip(kinds, pictures, strict=True)],
        only=[(name, list(map(printable, document[key]))) for name, key in (("A", "only_in_a"), ("B", "only_in_b"))],
        most_named=MOST_NAMED,
    )
    return page.encode()


def _picture(photo: Mapping[str, Any], photos: PhotoFolder | None, bar: Bar) -> str:
    picture = thumbnail_uri(photos, photo["path"]) if photos else ""
    bar.advance(1)
    return picture
