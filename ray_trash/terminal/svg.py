"""Figures of matplotlib as SVG that is part of a page.

Text and lines take the colour of the text around them, so that a chart follows its page's light or dark theme. Draws
through matplotlib's objects, so that no backend is chosen and no figure stays behind in the process.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ray_trash.terminal.text import printable

INK = "#010203"
"""Drawn in place of the page's own text colour, which matplotlib cannot name."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searched, copied, and in the page's font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
"""For `matplotlib.rc_context`, around whatever draws."""


def svg_of(figure: Figure, name: str, *, label: str) -> str:
    """Render a figure as an element; `name` is another one for every chart of a page, `label` says what it shows."""
    svg = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # Names of shapes are digests: with a salt of the chart's own, two renderings are equal and two charts differ.
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page's font may have it
        figure.savefig(svg, format="svg", transparent=True, bbox_inches="tight", metadata=no_metadata)
    text = svg.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2)  # HTML knows them
    # What matplotlib numbers from 1 in every figure would be there twice in a page of several.
    text = re.sub(r'id="(\w[\w.]*_\d+)"', rf'id="{name}-\1"', text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(printable(label))}" ', 1)
