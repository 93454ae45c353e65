"""The `ray-trash` command: arguments to stages, errors to exit codes.

One of the two edges where errors are caught. Imports a stage only when its command runs, so that
`ray-trash --help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ray_trash import __version__
from ray_trash.errors import ConfigError, RayTrashError

if TYPE_CHECKING:
    from rich.console import Console

    from ray_trash.config import Config


STDOUT = "-"
AUDIT_FRACTION = 0.15
"""Share of photos that `audit` puts into validation and into test, as the defaults of `data` do."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


class Interrupted(BaseException):
    """SIGINT or SIGTERM: stop what runs, clean up, leave."""

    def __init__(self, number: int) -> None:
        """Remember which signal it was."""
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = _Parser(prog="ray-trash", description="A folder of photos in, a classifier you can trust out, on Ray.")
    parser.add_argument("--version", action="version", version=f"ray-trash {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(
        name: str, action: Callable[[argparse.Namespace, Console], Any], summary: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == "audit":
            text = "write the result to FILE; without one, print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help=text)
        else:
            text = "print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", action="store_const", const=STDOUT, help=text)
        sub.set_defaults(action=action)
        return sub

    fetch = command("fetch", _fetch, "download a known data set, check it, unpack it")
    fetch.add_argument("name", metavar="NAME", help="trashnet")
    fetch.add_argument("--to", required=True, metavar="DIR", help="where the class folders go")
    fetch.add_argument("--archive", metavar="FILE", help="take this copy of the archive instead of downloading it")

    sample = command("sample", _sample, "render a small labelled sample set, offline")
    sample.add_argument("--to", required=True, metavar="DIR", help="where the class folders go")
    sample.add_argument("--per-class", type=_positive, default=40, metavar="N", help="photos of each class (40)")
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="what the photos are drawn from (0)")

    audit = command("audit", _audit, "check every file; duplicates, leaks across the split, shortcuts, label suspects")
    audit.add_argument("root", metavar="DIR", help="folder of class folders, local or a URI")
    audit.add_argument(
        "--split",
        default="auto",
        metavar="RULE",
        help="official, official-clean, grouped, stratified, or a CSV file (the photos' own lists, else grouped)",
    )
    audit.add_argument("--folds", type=_folds, metavar="N", help="write N split files for cross-validation by groups")
    audit.add_argument(
        "--features", metavar="WEIGHTS", help="look for suspects by a pretrained network: imagenet or a file"
    )
    audit.add_argument("--out", metavar="DIR", help="where audit.json, audit.png and the folds go")

    for name, action, summary in (
        ("train", _train, "one training run"),
        ("tune", _tune, "a sweep; leaves the winner's checkpoint and config"),
        ("run", _run, "catalogue, train or sweep, evaluate on the kept-back photos"),
    ):
        sub = command(name, action, summary)
        _add_config(sub)
        sub.add_argument("--resume", action="store_true", help="go on with the run of this name, if there is one")
        sub.add_argument("--overwrite", action="store_true", help="remove the run of this name first")
        sub.add_argument(
            "--allow-changed-data", action="store_true", help="resume though photos are gone, new or changed"
        )

    evaluate = command("evaluate", _evaluate, "exact metrics of a checkpoint on labelled photos")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    evaluate.add_argument("--data", required=True, metavar="DIR", help="folder of class folders")
    evaluate.add_argument(
        "--split", default="test", choices=("test", "val", "train", "all"), help="which photos (test)"
    )
    evaluate.add_argument("--workers", type=_positive, metavar="N", help="processes that predict (one per GPU or CPU)")
    evaluate.add_argument(
        "--masks", action="store_true", help="score again with parts hidden, and pictures of no class"
    )
    evaluate.add_argument(
        "--out", required=True, metavar="DIR", help="where evaluation.json and predictions.parquet go"
    )

    endpoint = command("serve", _serve, "the HTTP endpoint, in the foreground; SIGTERM stops it")
    endpoint.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="a checkpoint directory; with --watch, that of the run"
    )
    endpoint.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    endpoint.add_argument("--port", type=_port, default=8000, help="port to listen on (8000); 0 takes a free one")
    endpoint.add_argument("--replicas", type=_positive, metavar="N", help="processes that answer (serve.replicas)")
    endpoint.add_argument(
        "--watch", metavar="RUN", help="move to the run's checkpoint whenever there is a new good one"
    )
    _add_set(endpoint)
    roll_back = command("rollback", _roll_back, "move an endpoint back to the model before this one")
    roll_back.add_argument("--url", default="http://127.0.0.1:8000", help="the endpoint (http://127.0.0.1:8000)")
    roll_back.add_argument("--api-key-file", metavar="FILE", help="file with the endpoint's key (RAY_TRASH_API_KEY)")

    export = command("export", _export, "a checkpoint as one file for other runtimes, checked against the checkpoint")
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    export.add_argument("--format", required=True, choices=("onnx", "torch"), help="ONNX, or torch.export's pt2")
    export.add_argument("--out", metavar="FILE", help="the file, a path or URI (the model's id, in this folder)")
    export.add_argument("--overwrite", action="store_true", help="replace the file if it is there")

    score = command("score", _score, "label photos with a checkpoint or an endpoint, into a Parquet file")
    score.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a checkpoint directory (not with --url), then files, folders, URIs, and Parquet files of photos",
    )
    score.add_argument("--out", required=True, metavar="FILE.parquet", help="what to write, one row per input")
    score.add_argument("--workers", type=_positive, metavar="N", help="processes that predict (one per GPU or machine)")
    score.add_argument("--column", metavar="NAME", help="the column of photos in Parquet files (the only binary one)")
    score.add_argument("--url", metavar="URL", help="ask the endpoint at this address instead of a checkpoint")
    score.add_argument(
        "--api-key-file", metavar="FILE", help="the endpoint's key (the environment variable RAY_TRASH_API_KEY)"
    )
    score.add_argument("--overwrite", action="store_true", help="replace FILE.parquet if it is there")

    _add_config(command("config", _config, "print the resolved config"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    # Whoever stops a job sends SIGTERM; without this Python dies at once and leaves Ray's processes.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    try:
        options = build_parser().parse_args(arguments)
        result = options.action(options, _console())
        if options.json == STDOUT:
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    except RayTrashError as error:
        sys.stderr.write(f"error: {_one_line(str(error))}\n")
        return error.exit_code
    except Interrupted as interruption:
        sys.stderr.write(f"stopped by {interruption}; a run goes on with --resume, a scoring as it is\n")
        return interruption.exit_code
    except BrokenPipeError:
        # The reader of stdout has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("RAY_TRASH_TRACEBACK"):
            traceback.print_exc()
        sys.stderr.write(
            f"error: unforeseen: {type(error).__name__}: {_one_line(str(error))}; "
            "RAY_TRASH_TRACEBACK=1 shows where, please report it\n"
        )
        return 1
    return 0


def _interrupt(number: int, frame: object) -> NoReturn:
    for handled in (signal.SIGTERM, signal.SIGINT):
        signal.signal(handled, signal.SIG_IGN)
    raise Interrupted(number)


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return number


def _folds(text: str) -> int:
    number = _positive(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 2")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 to 65535")
    return number


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, such as configs/quickstart.yaml")
    _add_set(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key, such as train.epochs=3"
    )


def _load(options: argparse.Namespace) -> Config:
    from ray_trash.config import load_config, parse_override

    return load_config(options.config, dict(parse_override(text) for text in options.set))


def _start_of(options: argparse.Namespace) -> dict[str, bool]:
    return {
        "resume": options.resume,
        "overwrite": options.overwrite,
        "allow_changed_data": options.allow_changed_data,
    }


def _fetch(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.dataset.fetch import fetch_with_progress

    return fetch_with_progress(options.name, Path(options.to), archive=options.archive, console=console)


def _sample(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.dataset.sample import render_sample

    counts = render_sample(Path(options.to), per_class=options.per_class, seed=options.seed)
    console.print(f"{sum(counts.values())} photos in {options.to}", markup=False, highlight=False)
    return {"root": options.to, "per_class": counts}


def _audit(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.cluster.connect import ray_session
    from ray_trash.dataset.audit.folds import fold_files
    from ray_trash.dataset.audit.run import audit_photos, make_rule, write_audit
    from ray_trash.dataset.audit.table import print_audit
    from ray_trash.dataset.listing import list_photos
    from ray_trash.evaluate.features import FEATURES_PREPROCESSING, pretrained_features
    from ray_trash.storage import Storage

    if options.folds and not options.out:
        raise ConfigError(f"--folds {options.folds}: say with --out DIR where the files go")
    listing = list_photos(options.root)
    rule = make_rule(options.split, AUDIT_FRACTION, AUDIT_FRACTION, listing)
    features = pretrained_features(options.features, listing.root) if options.features else None
    with ray_session(dashboard=False):
        audited = audit_photos(
            listing, FEATURES_PREPROCESSING, rule, balance="train.class_balance says what to do", features=features
        )
    if options.out:
        out = Storage.open(options.out)
        write_audit(audited, listing.root, out)
        files = fold_files(audited.catalog, audited.relations, options.folds) if options.folds else {}
        for name, content in files.items():
            out.write_bytes(name, content)
    if options.json not in (None, STDOUT):
        target = Path(options.json).absolute()
        Storage.open(str(target.parent)).write_bytes(
            target.name, (json.dumps(audited.document, indent=2) + "\n").encode()
        )
    print_audit(audited.document, console)
    return audited.document


def _train(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.train.run import prepare_run, run_training

    prepared = prepare_run(config, **_start_of(options), console=console)
    with ray_session(dashboard=False):
        result = run_training(prepared, console=console)
    console.print(f"best checkpoint {result.checkpoint.uri}", markup=False, highlight=False, soft_wrap=True)
    return {"run": result.run.uri, "checkpoint": result.checkpoint.uri, "best": dict(result.record)}


def _tune(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.train.run import prepare_run
    from ray_trash.tune.sweep import check_space, run_sweep

    check_space(config)
    prepared = prepare_run(config, **_start_of(options), console=console)
    with ray_session(dashboard=_trials_have_workers(config)):
        result = run_sweep(prepared, _source_of(options), console=console)
    console.print(f"best checkpoint {result.checkpoint.uri}", markup=False, highlight=False, soft_wrap=True)
    return {
        "run": result.run.uri,
        "checkpoint": result.checkpoint.uri,
        "winner": {"trial": result.winner.trial, "params": dict(result.winner.params)},
        "verdict": dict(result.verdict),
        "trials": len(result.records),
    }


def _run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.run import run_all
    from ray_trash.train.run import prepare_run
    from ray_trash.tune.sweep import check_space

    sweeps = config.tune.space is not None
    if sweeps:
        check_space(config)
    prepared = prepare_run(config, **_start_of(options), console=console)
    with ray_session(dashboard=sweeps and _trials_have_workers(config)):
        return run_all(prepared, _source_of(options), console=console)


def _trials_have_workers(config: Config) -> bool:
    # Ray Train then frees what an ended trial held by asking the dashboard.
    return config.train.workers not in ("auto", 0, 1)


def _source_of(options: argparse.Namespace) -> str:
    from ray_trash.config import config_with, parse_override

    text = Path(options.config).read_text(encoding="utf-8")
    return config_with(text, dict(parse_override(change) for change in options.set))


def _evaluate(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.cluster.connect import ray_session
    from ray_trash.evaluate.run import evaluate_checkpoint
    from ray_trash.evaluate.table import print_evaluation
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.storage import Storage

    open_checkpoint(options.checkpoint)  # a wrong path should not cost a cluster's start
    out = Storage.open(options.out)
    with ray_session(dashboard=False):
        document = evaluate_checkpoint(
            options.checkpoint,
            options.data,
            split=options.split,
            workers=options.workers,
            out=out,
            with_masks=options.masks,
        )
    print_evaluation(document, console)
    console.print(f"written to {out.uri}", markup=False, highlight=False, soft_wrap=True)
    return document


def _serve(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.config import parse_override, serve_config
    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.storage import Storage

    if options.checkpoint is None and options.watch is None:
        raise ConfigError("serve: name a checkpoint, or a run with --watch RUN")
    watched = None if options.watch is None else Storage.open(options.watch).child("checkpoint")
    # A wrong path or a taken port should not cost a cluster's start.
    checkpoint = open_checkpoint(options.checkpoint if watched is None or options.checkpoint else watched)
    changes = dict(parse_override(text) for text in options.set)
    if options.replicas is not None:
        changes["serve.replicas"] = options.replicas
    settings = serve_config(checkpoint.document.config, changes)

    from ray_trash.cluster.connect import ray_session
    from ray_trash.serve.endpoint import run_endpoint
    from ray_trash.serve.server import bind, read_api_key

    api_key = read_api_key(settings)
    taken = bind(options.host, options.port)
    with ray_session(dashboard=False):
        run_endpoint(checkpoint, settings, taken, watched=watched, api_key=api_key, console=console)
    return {"stopped": True}


def _roll_back(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.serve.client import Client, read_key

    with Client(options.url, api_key=read_key(options.api_key_file)) as client:
        card = client.roll_back()
    console.print(f"answered by {card['id']} again", markup=False, highlight=False)
    return card


def _export(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.model.export import export_checkpoint

    exported = export_checkpoint(options.checkpoint, options.format, out=options.out, overwrite=options.overwrite)
    text = f"written to {exported['file']}; probabilities as the checkpoint's, within {exported['max_difference']:.1g}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    return exported


def _score(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    given = {"column": options.column, "overwrite": options.overwrite, "console": console}
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
    from ray_trash.serve.client import read_key

    return score_there(options.url, options.paths, options.out, api_key=read_key(options.api_key_file), **given)


def _config(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    from ray_trash.config import effective_tree, to_yaml

    config = _load(options)
    if not options.json:
        sys.stdout.write(to_yaml(config))
    return effective_tree(config)
