"""The report of a folder: `report.html` into it, and the model card into the checkpoint of a run."""

from __future__ import annotations

import logging
from typing import Any

from ray_trash.errors import DataError, RayTrashError
from ray_trash.model.card import CARD_FILE, model_card
from ray_trash.report.material import Material, read_material
from ray_trash.report.page import report_page
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.run_directory import BEST

REPORT_FILE = "report.html"
_logger = logging.getLogger(__name__)


def write_report(place: Storage, *, data: str | None = None, terminal: Terminal | None = None) -> dict[str, Any]:
    """Write the report of a run, a sweep or an evaluation; a run's checkpoint is described by what is known by now.

    `data` is where the photos are. Default: where they were. `terminal` is told how far this has come.

    Returns:
        `report`, where it is, `kind` of folder, `parts` that it has, and `slices`, which no other file has.

    Raises:
        DataError: It is no such folder, or its files are damaged or of another version.
        StorageError: The folder cannot be read or written.
    """
    try:
        found = read_material(place)
        page, parts = report_page(found, data=data, terminal=terminal)
        card = _card(found)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{place.uri}: its files are not what this ray-trash writes ({type(error).__name__}: {error}); use the one "
            "that wrote them, or evaluate again"
        ) from error
    place.write_bytes(REPORT_FILE, page)
    if card is not None:
        place.child(BEST).write_bytes(CARD_FILE, card)
    slices = [one.to_json() for one in parts["slices"]["slices"]] if "slices" in parts else []
    where = place.child(REPORT_FILE).uri
    return {"report": where, "kind": found.kind, "parts": list(parts), "slices": slices}


def leave_report(place: Storage, terminal: Terminal) -> None:
    """Write the report of what has just ended well, and say where; one that cannot be written is said in one line."""
    try:
        terminal.say(f"report {write_report(place, terminal=terminal)['report']}")
    except RayTrashError as error:
        terminal.say(f"no report: {error}")
    except Exception as error:
        _logger.debug("no report", exc_info=error)
        terminal.say(f"no report: {type(error).__name__}: {error}; ray-trash report {place.uri} tries again")


def _card(found: Material) -> bytes | None:
    """Describe the checkpoint that lies in the run's own folder, and no other: others are not this command's."""
    checkpoint = found.checkpoint
    if found.kind == "evaluation" or checkpoint is None or checkpoint.uri != found.place.child(BEST).uri:
        return None
    quantized = checkpoint.quantized.report if checkpoint.quantized else None
    card = model_card(checkpoint.document, quantized=quantized, evaluation=found.evaluation, audit=found.audit)
    return card.encode()
