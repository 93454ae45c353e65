"""The confusion matrix as a picture.

Drawn through matplotlib's objects, so that no backend is chosen and no figure stays behind in the process.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ray_trash.terminal.text import printable, shortened

_MAX_LABEL_CHARACTERS = 24
_MAX_CLASSES_WITH_PERCENTAGES = 20
_DPI = 110


def draw_confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str], *, title: str) -> bytes:
    """Draw (C, C) counts, rows true, as a PNG file: each cell has its share of its true class as text and colour.

    Made for C of 2 to 40; above 20 the percentages are left to the colours, for lack of room.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    n_classes = len(classes)
    row_n = confusion.sum(axis=1, keepdims=True)  # (C, 1)
    shares = np.divide(confusion, row_n, out=np.zeros(confusion.shape), where=row_n > 0)  # (C, C), 0..1
    with_percentages = n_classes <= _MAX_CLASSES_WITH_PERCENTAGES

    cell_inches = float(np.clip(9 / n_classes, 0.4, 0.9))
    names = [
        shortened(printable(name), _MAX_LABEL_CHARACTERS) if _can_draw(name) else f"class {number}"
        for number, name in enumerate(classes, start=1)
    ]
    margin_inches = 1.2 + 0.09 * max(len(name) for name in names)
    side_inches = max(cell_inches * n_classes, 3.0) + margin_inches
    figure = Figure(figsize=(side_inches + 0.6, side_inches), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # The square root spreads the small shares: the mistakes, which are what a reader looks for.
    colours = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0, vmax=1.0))

    true_names = [f"{name} ({n})" for name, n in zip(names, row_n[:, 0], strict=True)]
    # A `$` in a class name would start a formula.
    axes.set_xticks(range(n_classes), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(n_classes), true_names, parse_math=False)
    axes.tick_params(length=0, labelsize=9)
    legend = (
        "" if all(map(_can_draw, classes)) else "\nnumbers for names that the font lacks, in the order of `classes`"
    )
    axes.set_xlabel(f"predicted{legend}")
    axes.set_ylabel("true (photos)")
    axes.set_title(title, fontsize=10, parse_math=False)
    axes.set_xticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.6)
    axes.tick_params(which="minor", length=0)

    font_size_pt = float(np.clip(cell_inches * 15, 7, 10))
    for row, column in np.argwhere(confusion > 0):
        share = shares[row, column]
        percentage = f"\n{_percentage(share)}" if with_percentages else ""
        axes.text(
            column,
            row,
            f"{confusion[row, column]}{percentage}",
            ha="center",
            va="center",
            fontsize=font_size_pt,
            color="white" if share > 0.35 else "black",
        )
    bar = figure.colorbar(colours, ax=axes, shrink=0.8, fraction=0.04, pad=0.02, ticks=[0, 0.05, 0.25, 0.5, 1])
    bar.ax.set_yticklabels(["0 %", "5 %", "25 %", "50 %", "100 %"])
    bar.set_label("share of the true class")

    png = io.BytesIO()
    figure.savefig(png, format="png", bbox_inches="tight")
    return png.getvalue()


def _can_draw(name: str) -> bool:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    return all(ord(character) in known for character in printable(name))


def _percentage(share: float) -> str:
    rounded = f"{100 * share:.0f}%"
    # No cell that holds a photo says 0 %, and no class with a mistake says 100 %.
    if rounded == "0%":
        return "<1%"
    return ">99%" if rounded == "100%" and share < 1 else rounded
