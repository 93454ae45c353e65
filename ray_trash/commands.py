"""What each command does: its arguments to the stages. Returns what `--json` prints, or text that is printed as it is.

Imports a stage only when its command runs, so that `ray-trash --help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ray_trash.config import Config
    from ray_trash.terminal.say import Terminal

STDOUT = "-"
"""As `--json FILE`: not a file."""
AUDIT_FRACTION = 0.15
"""Share of photos that `audit` puts into validation and into test, as the defaults of `data` do."""


def _load(options: argparse.Namespace) -> Config:
    from ray_trash.config import load_config, parse_override

    return load_config(options.config, dict(parse_override(text) for text in options.set))


def _start_of(options: argparse.Namespace) -> dict[str, bool]:
    return {"resume": options.resume, "overwrite": options.overwrite, "allow_changed_data": options.allow_changed_data}


def fetch(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Download a known data set."""
    from ray_trash.fetch.known import fetch as fetch_known
    from ray_trash.terminal.bar import byte_bar

    with byte_bar(terminal, options.name) as on_bytes:
        fetched = fetch_known(options.name, Path(options.to), archive=options.archive, on_bytes=on_bytes)
    what = "was complete, nothing to do" if fetched.was_there else "complete"
    for line in (f"{fetched.root}: {fetched.n_photos} photos, {what}", *fetched.notes):
        terminal.say(line)
    return {**vars(fetched), "root": str(fetched.root), "notes": list(fetched.notes)}


def sample(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Render a sample set."""
    from ray_trash.fetch.sample import render_sample

    counts = render_sample(Path(options.to), per_class=options.per_class, seed=options.seed)
    terminal.say(f"{sum(counts.values())} photos in {options.to}")
    return {"root": options.to, "per_class": counts}


def audit(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Check every file of a folder."""
    from ray_trash.audit.folds import fold_files
    from ray_trash.audit.run import PREPROCESSING, audit_json, audit_photos, write_audit
    from ray_trash.cluster.connect import ray_session
    from ray_trash.dataset.catalog import require_usable_photos
    from ray_trash.dataset.listing import list_photos
    from ray_trash.dataset.photo_set import read_photo_set
    from ray_trash.dataset.split import make_rule
    from ray_trash.storage import Storage
    from ray_trash.terminal.audit_table import print_audit

    if options.folds and not options.out:
        raise ConfigError(f"--folds {options.folds}: say with --out DIR where the files go")
    listing = list_photos(options.root, labels_uri=options.labels)
    rule = make_rule(options.split, AUDIT_FRACTION, AUDIT_FRACTION, listing)
    features = None
    if options.features:
        # Without them no network is needed, and torch takes seconds to load.
        from ray_trash.audit.features import pretrained_features

        features = pretrained_features(options.features, listing.root)
    with ray_session(dashboard=False):
        photo_set = read_photo_set(listing, PREPROCESSING, rule)
        document = audit_photos(photo_set, balance="train.class_balance says what to do", features=features)
    if options.out:
        out = Storage.at(options.out)
        write_audit(document, listing.root, out)
        if options.folds:
            for name, content in fold_files(photo_set.catalog, photo_set.relations, options.folds).items():
                out.write_bytes(name, content)
    if options.json not in (None, STDOUT):
        target = Path(options.json).absolute()
        Storage.at(str(target.parent)).write_bytes(target.name, audit_json(document))
    print_audit(document, terminal)
    require_usable_photos(photo_set.catalog)
    return dict(document)


def train(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Train once."""
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.report.run import leave_report
    from ray_trash.train.run import prepare_run, run_training

    prepared = prepare_run(config, **_start_of(options), terminal=terminal)
    with ray_session(dashboard=False):
        result = run_training(prepared, terminal=terminal)
    leave_report(result.run, terminal)
    terminal.say(f"best checkpoint {result.checkpoint.uri}")
    return {"run": result.run.uri, "checkpoint": result.checkpoint.uri, "best": dict(result.record)}


def tune(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Sweep."""
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.report.run import leave_report
    from ray_trash.tune.sweep import prepare_sweep, run_sweep

    prepared = prepare_sweep(config, **_start_of(options), terminal=terminal)
    with ray_session(dashboard=_trials_have_workers(config)):
        result = run_sweep(prepared, _source_of(options), terminal=terminal)
    leave_report(result.run, terminal)
    terminal.say(f"best checkpoint {result.checkpoint.uri}")
    return {
        "run": result.run.uri,
        "checkpoint": result.checkpoint.uri,
        "winner": {"trial": result.winner.trial, "params": dict(result.winner.params)},
        "verdict": dict(result.verdict),
        "trials": len(result.records),
    }


def run(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Catalogue, train or sweep, evaluate, and report."""
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.run import run_all
    from ray_trash.train.run import prepare_run
    from ray_trash.tune.sweep import prepare_sweep

    sweeps = config.tune.space is not None
    prepare = prepare_sweep if sweeps else prepare_run
    prepared = prepare(config, **_start_of(options), terminal=terminal)
    with ray_session(dashboard=sweeps and _trials_have_workers(config)):
        return run_all(prepared, _source_of(options), terminal=terminal)


def _trials_have_workers(config: Config) -> bool:
    # Ray Train then frees what an ended trial held by asking the dashboard.
    return config.train.workers not in ("auto", 0, 1)


def _source_of(options: argparse.Namespace) -> str:
    from ray_trash.config import config_with, parse_override, read_config_text

    text = read_config_text(options.config)
    return config_with(text, dict(parse_override(change) for change in options.set))


def evaluate(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Evaluate a checkpoint."""
    from ray_trash.cluster.connect import ray_session
    from ray_trash.evaluate.run import evaluate_checkpoint
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.report.run import leave_report
    from ray_trash.storage import Storage
    from ray_trash.terminal.evaluation_table import print_evaluation

    checkpoint = open_checkpoint(options.checkpoint)  # a wrong path should not cost a cluster's start
    out = Storage.at(options.out)
    with ray_session(dashboard=False):
        document = evaluate_checkpoint(
            checkpoint,
            options.data,
            labels_uri=options.labels,
            split=options.split,
            workers=options.workers,
            out=out,
            with_masks=options.masks,
        )
    print_evaluation(document, terminal)
    leave_report(out, terminal)
    terminal.say(f"written to {out.uri}")
    return document


def report(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write the report of what is there already."""
    from ray_trash.report.run import write_report
    from ray_trash.storage import Storage

    written = write_report(Storage.at(options.run), data=options.data)
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
        folder.write_bytes(name, comparison_page(document, PhotoFolder.at(root) if root else None))
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


def serve(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Serve a checkpoint until a signal ends it."""
    from ray_trash.config import parse_override, serve_config
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.storage import Storage

    if options.checkpoint is None and options.watch is None:
        raise ConfigError("serve: name a checkpoint, or a run with --watch RUN")
    watched = None if options.watch is None else Storage.at(options.watch).child("checkpoint")
    # A wrong path or a taken port should not cost a cluster's start.
    checkpoint = open_checkpoint(options.checkpoint if watched is None or options.checkpoint else watched)
    changes = dict(parse_override(text) for text in options.set)
    if options.replicas is not None:
        changes["serve.replicas"] = options.replicas
    settings = serve_config(checkpoint.document.config, changes)

    import asyncio

    from ray_trash.cluster.connect import ray_session
    from ray_trash.serve.endpoint import run_endpoint
    from ray_trash.serve.key import read_key
    from ray_trash.serve.server import bind, is_open_to_others

    api_key = read_key(settings.api_key_file, option="serve.api_key_file")
    taken = bind(options.host, options.port)
    if api_key is None and is_open_to_others(taken):
        reach = f"whoever reaches {options.host} may ask for answers"
        terminal.say(f"warning: {reach}; set RAY_TRASH_API_KEY or serve.api_key_file to a key that clients must send")
    # Whoever waits for an answer waits for the replica: it is 2 % faster where it need not step aside.
    with ray_session(dashboard=False, worker_niceness=0):
        asyncio.run(run_endpoint(checkpoint, settings, taken, watched=watched, api_key=api_key, terminal=terminal))
    return {"stopped": True}


def roll_back(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Move an endpoint back to the model before."""
    from ray_trash.serve.client import Client
    from ray_trash.serve.key import read_key

    with Client(options.url, api_key=read_key(options.api_key_file, option="--api-key-file")) as client:
        card = client.roll_back()
    terminal.say(f"answered by {card['id']} again")
    return card


def export(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write a checkpoint for other runtimes."""
    from ray_trash.model.export import export_checkpoint

    exported = export_checkpoint(options.checkpoint, options.format, out=options.out, overwrite=options.overwrite)
    difference = f"within {exported['max_difference']:.1g}"
    terminal.say(f"written to {exported['file']}; probabilities as the checkpoint's, {difference}")
    return exported


def score(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Label photos."""
    from ray_trash.terminal.text import counted

    summary = _score(options, terminal)
    if not summary["scored"]:
        count = counted(summary["n"], "input")
        raise DataError(f"none of {count} could be scored; the column error_message of {summary['out']} says why")
    return summary


def _score(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    given = {"column": options.column, "overwrite": options.overwrite, "terminal": terminal}
    if options.url is None:
        if options.api_key_file is not None:
            raise ConfigError("--api-key-file: has no effect without --url")
        checkpoint, *paths = options.paths
        if not paths:
            raise ConfigError(f"score {checkpoint}: no photos are named; give CHECKPOINT PATH..., or --url URL PATH...")
        from ray_trash.score.run import score_here

        return score_here(checkpoint, paths, options.out, workers=options.workers, **given)
    if options.workers is not None:
        raise ConfigError("--workers: has no effect with --url; the endpoint has replicas of its own")
    from ray_trash.score.run import score_there
    from ray_trash.serve.key import read_key

    api_key = read_key(options.api_key_file, option="--api-key-file")
    return score_there(options.url, options.paths, options.out, api_key=api_key, **given)


def config(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any] | str:
    """Resolve a config, or describe what one may hold; to be printed."""
    from ray_trash.config import effective_tree, to_yaml
    from ray_trash.config.reference import config_schema, key_table, schema_text

    if (options.schema or options.keys) and (options.config or options.set or (options.schema and options.keys)):
        raise ConfigError("config: --schema and --keys describe what any config may hold; give one of them alone")
    if options.keys and options.json:
        raise ConfigError("config: --keys prints Markdown, no JSON object; leave out --json, or take --schema")
    if options.schema:
        return config_schema() if options.json else schema_text()
    if options.keys:
        return key_table()
    if options.config is None:
        raise ConfigError("config: name a config, or --schema, or --keys")
    config = _load(options)
    return effective_tree(config) if options.json else to_yaml(config)
