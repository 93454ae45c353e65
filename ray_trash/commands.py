"""What each command does: its arguments to the stages. Returns what `--json` prints, or text that is printed as it is.

Imports a stage only when its command runs, so that `ray-trash --help` answers at once.
"""

from __future__ import annotations

import argparse
import shlex
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.errors import ClusterError, ConfigError, DataError

if TYPE_CHECKING:
    from ray_trash.config import Config
    from ray_trash.terminal.say import Terminal

STDOUT = "-"
"""As `--json FILE`: not a file."""


@dataclass(frozen=True)
class Ended:
    """What `--json` prints of a command whose work has an exit code of its own."""

    document: dict[str, Any]
    exit_code: int


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


def pack(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write a folder of photos as a few large files."""
    from ray_trash.cluster.connect import ray_session
    from ray_trash.dataset.listing import list_photos
    from ray_trash.pack.run import pack_photos, say_packed
    from ray_trash.pack.target import Target

    target = Target(options.to)
    target.require_free(options.root, overwrite=options.overwrite)
    listing = list_photos(options.root, labels_uri=options.labels, terminal=terminal)
    with ray_session(dashboard=False):
        document = pack_photos(listing, target, split=options.split, terminal=terminal)
    say_packed(document, terminal)
    return document


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
    from ray_trash.terminal.bar import Bar

    if options.folds and not options.out:
        raise ConfigError(f"--folds {options.folds}: say with --out DIR where the files go")
    listing = list_photos(options.root, labels_uri=options.labels, terminal=terminal)
    rule = make_rule(options.split, AUDIT_FRACTION, AUDIT_FRACTION, listing)
    features = None
    if options.features:
        # Without them no network is needed, and torch takes seconds to load.
        from ray_trash.audit.features import pretrained_features

        features = pretrained_features(options.features, listing.root)
    with ExitStack() as session:
        with Bar(terminal, total=None, doing="starting Ray"):
            session.enter_context(ray_session(dashboard=False))
        photo_set = read_photo_set(listing, PREPROCESSING, rule, terminal=terminal)
        balance = "train.class_balance says what to do"
        document = audit_photos(photo_set, balance=balance, features=features, terminal=terminal)
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


def plan(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Say what a run or a sweep needs, and how long it takes."""
    config = _load(options)
    began = time.monotonic()
    from ray_trash.plan.room import find_room, inventory
    from ray_trash.terminal.plan_table import print_plan

    with inventory() as there_is:
        joined = time.monotonic()
        room = find_room(config, there_is)
        from ray_trash.plan.run import plan_run

        # What a cluster took to be joined is no loading.
        load_s = time.monotonic() - (joined if there_is.cluster else began)
        document = plan_run(config, room, load_s=load_s)
    print_plan(document, terminal)
    return document


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
            wait=options.wait_for_workers_s,
            say=terminal.say,
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
    from ray_trash.serve.sockets import bind, is_open_to_others

    if options.checkpoint is None and options.watch is None:
        raise ConfigError("serve: name a checkpoint, or a run with --watch RUN")
    # Before anything is loaded: of two starts, one is told at once.
    taken = bind(options.host, options.port)

    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.storage import Storage

    watched = None if options.watch is None else Storage.at(options.watch).child("checkpoint")
    checkpoint = open_checkpoint(options.checkpoint if watched is None or options.checkpoint else watched)
    changes = dict(parse_override(text) for text in options.set)
    if options.replicas is not None:
        changes["serve.replicas"] = options.replicas
    settings = serve_config(checkpoint.document.config, changes)

    import asyncio

    from ray_trash.cluster.connect import ray_session
    from ray_trash.serve.endpoint import run_endpoint
    from ray_trash.serve.key import keys_for
    from ray_trash.serve.log import start_log, tell

    start_log(settings.log_format)
    with keys_for(settings, taken[0].getsockname()[1]) as keys:
        if keys.client is None and is_open_to_others(taken):
            tell(
                "open",
                f"whoever reaches {options.host} may ask for answers; set RAY_TRASH_API_KEY or serve.api_key_file to a "
                "key that clients must send",
                level=WARNING,
            )
        # Whoever waits for an answer waits for the replica: it is 2 % faster where it need not step aside.
        with ray_session(dashboard=False, worker_niceness=0):
            asyncio.run(run_endpoint(checkpoint, settings, taken, watched=watched, keys=keys))
    return {"stopped": True}


def roll_back(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Move an endpoint back to the model before."""
    from ray_trash.serve.client import Client
    from ray_trash.serve.key import OPERATOR_VARIABLE, find_operator_key, read_key

    key = read_key(options.operator_key_file, option="--operator-key-file", variable=OPERATOR_VARIABLE)
    key = key or find_operator_key(options.url)
    if key is None:
        raise ConfigError(
            f"rollback {options.url}: the operator's key is needed, and no endpoint of this user on this machine has "
            f"one there; name its file with --operator-key-file, or set {OPERATOR_VARIABLE}"
        )
    with Client(options.url, api_key=key) as client:
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

        here = {"workers": options.workers, "wait": options.wait_for_workers_s}
        return score_here(checkpoint, paths, options.out, **here, **given)
    if options.workers is not None:
        raise ConfigError("--workers: has no effect with --url; the endpoint has replicas of its own")
    if options.wait_for_workers_s != "auto":
        raise ConfigError("--wait-for-workers-s: has no effect with --url; nothing is computed here")
    from ray_trash.score.run import score_there
    from ray_trash.serve.key import CLIENT_VARIABLE, read_key

    api_key = read_key(options.api_key_file, option="--api-key-file", variable=CLIENT_VARIABLE)
    return score_there(options.url, options.paths, options.out, api_key=api_key, **given)


def submit(options: argparse.Namespace, terminal: Terminal) -> Ended | dict[str, Any] | str:
    """Run another command as a job on a cluster, and end as it ends."""
    words = options.job[1:] if options.job[:1] == ["--"] else options.job
    if not words:
        raise ConfigError("submit: name the command to run, such as `submit train CONFIG`")
    if words[0] == "submit":
        raise ConfigError("submit: a job that submits itself would wait for ever; name the command that does the work")
    root = Path(options.working_dir).absolute()
    if not root.is_dir():
        raise ConfigError(f"--working-dir {options.working_dir}: no such folder")
    from ray_trash.cluster.job_command import understand

    # What is wrong with the command is said before anything is asked of the cluster.
    command = understand(words, options.parse(words), root)
    for warning in command.warnings:
        terminal.say(f"warning: {warning}")
    from ray_trash.cluster.jobs import Jobs, job_address
    from ray_trash.cluster.package import choose_files
    from ray_trash.cluster.submit import Outcome, follow_job, start_job, way_on

    address = job_address(options.address)
    package = choose_files(root, needed=command.needed, data=command.data)
    for path, pattern in package.against_ignore.items():
        terminal.say(f"{path}: sent, as the command names it, though {pattern} hides it")
    jobs = Jobs.at(address)
    job_id = start_job(jobs, command.words, package, terminal=terminal)
    if options.detach:
        terminal.say(way_on(address, job_id))
        started = Outcome(job_id, address, "submitted", 0)
        return started.document() if options.json else f"{job_id}\n"
    outcome = follow_job(jobs, job_id, terminal=terminal)
    how = "" if outcome.status == "succeeded" else f" with exit code {outcome.exit_code}: {shlex.join(words)}"
    terminal.say(f"job {job_id} {outcome.status}{how}")
    return Ended(outcome.document(), outcome.exit_code)


def doctor(options: argparse.Namespace, terminal: Terminal) -> Ended:
    """Check whether this machine or a cluster is able."""
    from ray_trash.doctor.run import examine
    from ray_trash.terminal.findings import print_finding, print_sum

    findings = []
    for finding in map(asdict, examine(options.storage)):
        print_finding(finding, terminal)
        findings.append(finding)
    print_sum(findings, terminal)
    able = all(finding["status"] != "problem" for finding in findings)
    return Ended({"able": able, "findings": findings}, 0 if able else ClusterError.exit_code)


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
