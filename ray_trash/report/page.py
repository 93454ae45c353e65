"""A run, a sweep or an evaluation as one page to look at, with style, pictures and charts in it.

It loads nothing and runs nothing.
"""

from __future__ import annotations

import math
import posixpath
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError, StorageError
from ray_trash.model.limits import limits_of
from ray_trash.report import sections
from ray_trash.report.material import Material
from ray_trash.report.opening import opening_sentence
from ray_trash.report.record import record_part
from ray_trash.report.sections import Part, Photos
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.page import page_templates
from ray_trash.terminal.say import Terminal
from ray_trash.tune.charts import shown, shown_score

PARTS = (
    ("audit", "What is wrong with the photos"),
    ("split", "Split and balance"),
    ("training", "What training saw"),
    ("curves", "Epoch by epoch"),
    ("sweep", "The sweep"),
    ("result", "Answers on photos that were kept back"),
    ("calibration", "Does its confidence mean what it says"),
    ("answers", "Where it is most wrong"),
    ("slices", "Which photos it is good at"),
    ("shortcuts", "Shortcuts, and what answers rest on"),
    ("record", "Time, versions, and how to do it again"),
)
"""The parts of a report in their order: name and heading."""


def report_page(
    found: Material, *, data: str | None = None, terminal: Terminal | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Render a report, in UTF-8; and return its parts by name, those with nothing to show left out.

    `data` is where the photos are now. Default: where they were.
    """
    photos = _photos(found, data)
    make: dict[str, Callable[[], Part | None]] = {
        "audit": lambda: sections.audit_part(found, photos),
        "split": lambda: sections.split_part(found),
        "training": lambda: sections.training_part(found),
        "curves": lambda: sections.curves_part(found),
        "sweep": lambda: sections.sweep_part(found),
        "result": lambda: sections.result_part(found),
        "calibration": lambda: sections.calibration_part(found),
        "answers": lambda: sections.answers_part(found, photos),
        "slices": lambda: sections.slices_part(found, photos),
        "shortcuts": lambda: sections.shortcuts_part(found),
        "record": lambda: record_part(found),
    }
    made: dict[str, Part | None] = {}
    # Photos are looked at once more, which takes seconds.
    with Bar(terminal or Terminal.silent(), total=len(make), noun="parts", doing="report:", alike=False) as bar:
        for name, part_of in make.items():
            made[name] = part_of()
            bar.advance(1)
    parts = {name: part for name, part in made.items() if part is not None}
    templates = page_templates("ray_trash.report")
    templates.filters.update(shown=shown, score=shown_score)
    templates.tests["finite"] = math.isfinite
    headings = dict(PARTS)
    if found.evaluation is not None and found.evaluation["split"] != "test":
        headings["result"] = f"Answers on photos, side: {found.evaluation['split']}"
    page = templates.get_template("report.html.j2").render(
        title=title_of(found),
        kind=found.kind,
        opening=opening_sentence(found),
        limits=limits_of(found.evaluation, found.audit),
        missing=list(_missing(found, photos, data)),
        headings=headings,
        parts=parts,
    )
    return page.encode(), parts


def title_of(found: Material) -> str:
    """Name what the report is of."""
    name = found.config.get("name") or (found.evaluation or {}).get("checkpoint") or ""
    folder = posixpath.basename(found.place.path.rstrip("/"))
    if found.kind != "evaluation":
        return f"{found.kind.capitalize()} {name or folder}"
    return f"Evaluation {folder} of {name}"


def _photos(found: Material, data: str | None) -> Photos:
    rows = [] if found.predictions is None else found.predictions.to_pylist()
    root = data or found.root
    if root is None:
        return Photos(None, rows)
    try:
        return Photos(_there(PhotoFolder.at(root), found, rows), rows)
    except StorageError:
        return Photos(None, rows)


def _there(folder: PhotoFolder, found: Material, rows: list[dict[str, Any]]) -> PhotoFolder | None:
    """Return the folder if some photo that a report may show is in it."""
    named = [row["path"] for row in rows]
    if not named and found.audit is not None:
        audit = found.audit
        named = [path for conflict in audit["conflicts"] for path in conflict["paths"]]
        named += [path for pair in audit["near_pairs"] for path in pair["paths"]]
        named += [one["path"] for one in (*audit["suspects"], *audit["outliers"])]
        if not named:
            return folder  # nothing of it is shown
    for path in named[:: max(1, len(named) // 5)]:
        try:
            folder.read(path)
        except ImageError:
            continue
        return folder
    return None


def _missing(found: Material, photos: Photos, data: str | None) -> Iterator[str]:
    place = shlex.quote(found.place.uri)
    if photos.folder is None:
        where = data or found.root
        lies = "are not known to be anywhere" if where is None else f"are not at {where}"
        yield f"The photos {lies}, so none is shown: ray-trash report {place} --data DIR says where they are."
    if found.kind == "evaluation" and found.origin is None:
        yield "The run that trained this checkpoint is not beside it: its audit, curves and config are left out."
    if found.kind == "evaluation" and found.origin is not None and found.audit is None:
        yield "These are not the photos of the run that trained this checkpoint, so that run's audit is left out."
    if found.checkpoint is None:
        yield "The checkpoint is not there, or is another one by now: no maps of what it looked at."
    elif found.evaluation is None:
        root = shlex.quote(found.root or "DIR")
        yield (
            "It has not been evaluated: ray-trash evaluate "
            f"{shlex.quote(found.checkpoint.uri)} --data {root} --out DIR says how good it is, and reports it."
        )
    if found.evaluation is not None and "masked" not in found.evaluation:
        yield "What answers rest on was not measured: evaluate --masks does it."
    if found.evaluation is not None and found.predictions is None:
        yield "predictions.parquet is gone: no photos, no slices, no reliability."
