"""What the commands that look at a trained checkpoint do."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ray_trash.errors import ConfigError

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal


def evaluate(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Evaluate a checkpoint."""
    from ray_trash.cluster.here import is_little, session_if
    from ray_trash.evaluate.run import evaluate_checkpoint, most_work
    from ray_trash.evaluate.sides import list_of_classes
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.report.run import leave_report
    from ray_trash.storage import Storage
    from ray_trash.terminal.evaluation_table import print_evaluation

    checkpoint = open_checkpoint(options.checkpoint)  # a wrong path should not cost a cluster's start
    out = Storage.at(options.out)
    listed = list_of_classes(checkpoint.document, options.data, labels_uri=options.labels, terminal=terminal)
    work = most_work(checkpoint.document, listed, views=options.views, with_masks=options.masks)
    with session_if(not is_little(work, workers=options.workers), terminal=terminal):
        document = evaluate_checkpoint(
            checkpoint,
            options.data,
            split=options.split,
            workers=options.workers,
            out=out,
            views=options.views,
            with_masks=options.masks,
            wait=options.wait_for_workers_s,
            listed=listed,
            terminal=terminal,
        )
    print_evaluation(document, terminal)
    leave_report(out, terminal)
    terminal.say(f"written to {out.uri}")
    return document


def report(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write the report of what is there already."""
    from ray_trash.report.run import write_report
    from ray_trash.storage import Storage

    written = write_report(Storage.at(options.run), data=options.data, terminal=terminal)
    terminal.say(f"written to {written['report']}")
    return written


def compare(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Compare what two models say of the same photos."""
    from ray_trash.compare.answers import read_answers
    from ray_trash.compare.matching import match
    from ray_trash.compare.run import comparison
    from ray_trash.terminal.comparison_table import print_comparison

    if options.data and not options.out:
        raise ConfigError("--data: has no effect without --out FILE.html")
    first, second = read_answers(options.first), read_answers(options.second)
    document = comparison(first, second, match(first, second))
    print_comparison(document, terminal)
    if options.out:
        from ray_trash.compare.page import comparison_page
        from ray_trash.dataset.read import PhotoFolder
        from ray_trash.storage import Storage

        root = options.data or (first.config or {}).get("data", {}).get("root")
        folder, name = Storage.of_file(options.out)
        photos = PhotoFolder.at(root) if root else None
        folder.write_bytes(name, comparison_page(document, photos, terminal=terminal))
        terminal.say(
            f"written to {options.out}" + ("" if root else ", without pictures: name their folder with --data")
        )
    return document


def explain(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Draw what a checkpoint looked at."""
    from ray_trash.explain.run import EXPLANATIONS_FILE, explain_photos
    from ray_trash.storage import Storage
    from ray_trash.terminal.text import percent

    out = Storage.at(options.out)
    explained = explain_photos(options.checkpoint, options.photos, out, terminal=terminal)
    for entry in explained["explanations"]:
        said = entry.get("error_message") or f"{entry['label']}, {percent(entry['confidence'])}, {entry['picture']}"
        terminal.say(f"{entry['path']}: {said}")
    terminal.say(f"written to {out.child(EXPLANATIONS_FILE).uri}")
    return explained


def quantize(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Make a checkpoint that answers by an int8 network."""
    from ray_trash.cluster.connect import ray_session
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.quantize.photos import find_photos
    from ray_trash.quantize.run import quantize_checkpoint, require_quantizable
    from ray_trash.storage import Storage

    checkpoint, out = open_checkpoint(options.checkpoint), Storage.at(options.out)
    require_quantizable(checkpoint, out, overwrite=options.overwrite)
    with ray_session(dashboard=False, terminal=terminal):
        photos = find_photos(checkpoint, options.data, labels_uri=options.labels, terminal=terminal)
    quantized = quantize_checkpoint(checkpoint, photos, out, max_loss_points=options.max_loss, terminal=terminal)
    terminal.say(f"written to {out.uri}, model {quantized['id']}")
    return quantized


def export(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write a checkpoint for other runtimes."""
    from ray_trash.model.export import export_checkpoint

    given = {"precision": options.precision, "out": options.out, "overwrite": options.overwrite}
    exported = export_checkpoint(options.checkpoint, options.format, **given, terminal=terminal)
    difference = f"within {exported['max_difference']:.1g}"
    terminal.say(f"written to {exported['file']}; probabilities as the checkpoint's, {difference}")
    return exported
