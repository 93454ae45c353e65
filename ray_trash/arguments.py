"""The arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ray_trash import __version__, commands
from ray_trash.errors import ConfigError

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = _Parser(prog="ray-trash", description="A folder of photos in, a classifier you can trust out, on Ray.")
    parser.add_argument("--version", action="version", version=f"ray-trash {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(
        name: str, action: Callable[[argparse.Namespace, Terminal], Any], summary: str
    ) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name == "audit":
            text = "write the result to FILE; without one, print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", nargs="?", const=commands.STDOUT, metavar="FILE", help=text)
        else:
            text = "print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", action="store_const", const=commands.STDOUT, help=text)
        sub.set_defaults(action=action)
        return sub

    fetch = command("fetch", commands.fetch, "download a known data set, check it, unpack it")
    fetch.add_argument("name", metavar="NAME", help="trashnet")
    fetch.add_argument("--to", required=True, metavar="DIR", help="where the class folders go")
    fetch.add_argument("--archive", metavar="FILE", help="take this copy of the archive instead of downloading it")

    sample = command("sample", commands.sample, "render a small labelled sample set, offline")
    sample.add_argument("--to", required=True, metavar="DIR", help="where the class folders go")
    sample.add_argument("--per-class", type=_positive, default=40, metavar="N", help="photos of each class (40)")
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="what the photos are drawn from (0)")

    audit = command(
        "audit", commands.audit, "check every file; duplicates, leaks across the split, shortcuts, label suspects"
    )
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
        ("train", commands.train, "one training run"),
        ("tune", commands.tune, "a sweep; leaves the winner's checkpoint and config"),
        ("run", commands.run, "catalogue, train or sweep, evaluate on the kept-back photos"),
    ):
        sub = command(name, action, summary)
        _add_config(sub)
        sub.add_argument("--resume", action="store_true", help="go on with the run of this name, if there is one")
        sub.add_argument("--overwrite", action="store_true", help="remove the run of this name first")
        sub.add_argument(
            "--allow-changed-data", action="store_true", help="resume though photos are gone, new or changed"
        )

    evaluate = command("evaluate", commands.evaluate, "exact metrics of a checkpoint on labelled photos")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    evaluate.add_argument("--data", required=True, metavar="DIR", help="folder of class folders")
    evaluate.add_argument(
        "--split", default="test", choices=("test", "val", "train", "all"), help="which photos (test)"
    )
    evaluate.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="processes that predict (one per GPU or CPU, fewer for few photos)",
    )
    evaluate.add_argument(
        "--masks",
        action="store_true",
        help="also score with the border, then the centre of each photo hidden, and 100 drawn pictures of no class",
    )
    evaluate.add_argument(
        "--out", required=True, metavar="DIR", help="where evaluation.json and predictions.parquet go"
    )

    endpoint = command("serve", commands.serve, "the HTTP endpoint, in the foreground; SIGTERM stops it")
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
    roll_back = command("rollback", commands.roll_back, "move an endpoint back to the model before this one")
    roll_back.add_argument("--url", default="http://127.0.0.1:8000", help="the endpoint (http://127.0.0.1:8000)")
    roll_back.add_argument("--api-key-file", metavar="FILE", help="file with the endpoint's key (RAY_TRASH_API_KEY)")

    export = command(
        "export", commands.export, "a checkpoint as one file for other runtimes, checked against the checkpoint"
    )
    export.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    export.add_argument("--format", required=True, choices=("onnx", "torch"), help="ONNX, or torch.export's pt2")
    export.add_argument("--out", metavar="FILE", help="the file, a path or URI (the model's id, in this folder)")
    export.add_argument("--overwrite", action="store_true", help="replace the file if it is there")

    score = command("score", commands.score, "label photos with a checkpoint or an endpoint, into a Parquet file")
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

    _add_config(command("config", commands.config, "print the resolved config"))
    return parser


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
