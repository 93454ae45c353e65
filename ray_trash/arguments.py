"""The arguments of every command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ray_trash import __version__
from ray_trash.commands import STDOUT, answering, cluster, judging, learning, photos
from ray_trash.errors import ConfigError

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal

_Add = Callable[..., argparse.Action]

_LABELS = "CSV or Parquet table of paths and labels (the folders are the labels)"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """Describe every command and its arguments."""
    parser = _Parser(prog="ray-trash", description="A folder of photos in, a classifier you can trust out, on Ray.")
    parser.add_argument("--version", action="version", version=f"ray-trash {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(
        name: str, action: Callable[[argparse.Namespace, Terminal], Any], summary: str, way_on: str = ""
    ) -> _Add:
        sub = subparsers.add_parser(name, help=summary, description=summary)
        if name == "audit":
            text = "write the result to FILE; without one, print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help=text)
        else:
            text = "print one JSON object on stdout, and nothing else there"
            sub.add_argument("--json", action="store_const", const=STDOUT, help=text)
        # What `serve` says is a log, in JSON where nobody looks.
        sub.set_defaults(action=action, has_log=name == "serve", way_on=way_on)
        return sub.add_argument

    add = command("fetch", photos.fetch, "download a known data set, check it, unpack it")
    add("name", metavar="NAME", help="trashnet")
    add("--to", required=True, metavar="DIR", help="where the class folders go")
    add("--archive", metavar="FILE", help="take this copy of the archive instead of downloading it")

    add = command("sample", photos.sample, "render a small labelled sample set, offline")
    add("--to", required=True, metavar="DIR", help="where the class folders go")
    add("--per-class", type=_whole(1), default=40, metavar="N", help="photos of each class (40)")
    add("--seed", type=int, default=0, metavar="S", help="what the photos are drawn from (0)")

    add = command("pack", photos.pack, "a folder of photos as a few large Parquet files, which are read like it")
    add("root", metavar="DIR", help="folder of class folders, local or a URI; or Parquet files of photos")
    add("--to", required=True, metavar="URI", help="where the packed set goes: an empty folder, local or a URI")
    add("--labels", metavar="FILE", help=_LABELS)
    text = "sides to be written down: official, folders, or a CSV file (own lists or folders, else none)"
    add("--split", default="auto", metavar="RULE", help=text)
    add("--overwrite", action="store_true", help="replace the packed set that is there")

    add = command(
        "audit", photos.audit, "check every file; duplicates, leaks across the split, shortcuts, label suspects"
    )
    add("root", metavar="DIR", help="folder of class folders, local or a URI; a packed set; or Parquet files of photos")
    add("--labels", metavar="FILE", help=_LABELS)
    text = "official, official-clean, folders, grouped, stratified, or a CSV file (own lists or folders, else grouped)"
    add("--split", default="auto", metavar="RULE", help=text)
    add("--folds", type=_whole(2), metavar="N", help="write N split files for cross-validation by groups")
    add("--features", metavar="WEIGHTS", help="look for suspects by a pretrained network: imagenet or a file")
    add("--out", metavar="DIR", help="where audit.json, audit.png and the folds go")

    for name, action, summary in (
        ("train", learning.train, "one training run"),
        ("tune", learning.tune, "a sweep; leaves the winner's checkpoint and config"),
        ("run", learning.run, "catalogue, train or sweep, evaluate on the kept-back photos, report"),
    ):
        add = command(name, action, summary, "To continue: the same command with --resume.")
        if name == "run":
            add("config", metavar="CONFIG", help="a YAML file; or a folder of photos, whose settings are then chosen")
            _add_set(add)
            text = "of a folder of photos: about how long all of it may take"
            add("--minutes", type=_minutes, metavar="M", help=text)
        else:
            _add_config(add)
        add("--resume", action="store_true", help="go on with the run of this name, if there is one")
        add("--overwrite", action="store_true", help="remove the run of this name first")
        add("--allow-changed-data", action="store_true", help="resume though photos are gone, new or changed")

    add = command("evaluate", judging.evaluate, "exact metrics of a checkpoint on labelled photos")
    add("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    add(
        "--data",
        required=True,
        metavar="DIR",
        help="folder of class folders, or a packed set, or Parquet files of photos",
    )
    add("--labels", metavar="FILE", help=_LABELS)
    add("--split", default="test", choices=("test", "val", "train", "all"), help="which photos (test)")
    text = "processes that predict (one per GPU or CPU, fewer for few photos)"
    add("--workers", type=_whole(1), metavar="N", help=text)
    _add_views(add)
    _add_wait(add)
    text = "also score with the border, then the centre of each photo hidden, and 100 drawn pictures of no class"
    add("--masks", action="store_true", help=text)
    add("--out", required=True, metavar="DIR", help="where evaluation.json and predictions.parquet go")

    add = command("compare", judging.compare, "two models on the same photos: which is better, or is it chance?")
    text = "a run, an evaluation, or a Parquet file of predictions or scores"
    add("first", metavar="A", help=text)
    add("second", metavar="B", help="another one")
    add("--out", metavar="FILE.html", help="write a page, with the photos that only one of them gets right")
    add("--data", metavar="DIR", help="where these photos are (where those were that A was trained on)")

    add = command("report", judging.report, "report.html of a run, a sweep or an evaluation, to look at")
    add("run", metavar="RUN", help="folder of a run or a sweep, or what evaluate --out wrote; local or a URI")
    add("--data", metavar="DIR", help="where the photos are (where they were)")

    add = command("explain", judging.explain, "which part of a photo speaks for its answer, drawn")
    add("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    add("photos", nargs="+", metavar="PHOTO", help="files, folders, URIs")
    add("--out", required=True, metavar="DIR", help="where the pictures and explanations.json go")

    add = command("serve", answering.serve, "the HTTP endpoint, in the foreground; SIGTERM stops it")
    add("checkpoint", nargs="?", metavar="CHECKPOINT", help="a checkpoint directory; with --watch, that of the run")
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--port", type=_whole(0, 65535), default=8000, help="port to listen on (8000); 0 takes a free one")
    add("--replicas", type=_whole(1), metavar="N", help="processes that answer (serve.replicas)")
    add("--watch", metavar="RUN", help="move to the run's checkpoint whenever there is a new good one")
    text = "a second checkpoint, on trial: it scores a share of the photos (serve.shadow_share), and answers nobody"
    add("--shadow", metavar="CHECKPOINT", help=text)
    _add_set(add)

    for name, exchange, summary in (
        ("rollback", answering.roll_back, "move an endpoint back to the model before this one"),
        ("promote", answering.promote, "let the model on trial at an endpoint answer (serve --shadow)"),
    ):
        add = command(name, exchange, summary)
        add("--url", default="http://127.0.0.1:8000", help="the endpoint (http://127.0.0.1:8000)")
        text = "file with the operator's key (RAY_TRASH_OPERATOR_KEY; of an endpoint of yours on this machine, its own)"
        add("--operator-key-file", metavar="FILE", help=text)

    add = command("deployment", answering.deployment, "the endpoint of `serve deploy` on a cluster: its state, its end")
    add("what", choices=("status", "down"), help="status: who answers, or why nobody does; down: take it away")
    add("--name", default="ray-trash", help="the application's name in the Serve config (ray-trash)")

    add = command("quantize", judging.quantize, "a checkpoint that answers by an int8 network, unless that loses")
    add("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    text = "folder of class folders, or a packed set, or Parquet files of photos: those that it was trained with"
    add("--data", required=True, metavar="DIR", help=text)
    add("--labels", metavar="FILE", help=_LABELS)
    add("--out", required=True, metavar="CHECKPOINT8", help="where the new checkpoint goes, a path or URI")
    text = "how many points of accuracy it may lose on validation (0.5); significantly worse is never taken"
    add("--max-loss", type=_points, default=0.5, metavar="POINTS", help=text)
    add("--overwrite", action="store_true", help="replace the checkpoint at --out if there is one")

    add = command(
        "export", judging.export, "a checkpoint as one file for other runtimes, checked against the checkpoint"
    )
    add("checkpoint", metavar="CHECKPOINT", help="a checkpoint directory")
    text = "ONNX; torch.export's pt2; OpenVINO's IR, FILE.xml and FILE.bin"
    add("--format", required=True, choices=("onnx", "torch", "openvino"), help=text)
    text = "what the weights are written in (fp32; int8 of what quantize made); bf16 and int8 with --format openvino"
    add("--precision", choices=("fp32", "bf16", "int8"), help=text)
    add("--out", metavar="FILE", help="the file, a path or URI (the model's id, in this folder)")
    add("--overwrite", action="store_true", help="replace the file if it is there")

    text = "label photos with a checkpoint or an endpoint, into a file of one row each"
    add = command("score", answering.score, text, "To continue: the same command.")
    text = "a checkpoint directory (not with --url), then files, folders, URIs, and Parquet files of photos"
    add("paths", nargs="+", metavar="PATH", help=text)
    text = "what to write, one row per input: FILE.parquet, FILE.csv or FILE.jsonl"
    add("--out", required=True, metavar="FILE", help=text)
    add("--workers", type=_whole(1), metavar="N", help="processes that predict (one per GPU or machine)")
    _add_views(add)
    _add_wait(add)
    add("--column", metavar="NAME", help="the column of photos in Parquet files (the only binary one)")
    add("--url", metavar="URL", help="ask the endpoint at this address instead of a checkpoint")
    add("--api-key-file", metavar="FILE", help="the endpoint's key (the environment variable RAY_TRASH_API_KEY)")
    add("--overwrite", action="store_true", help="replace FILE if it is there")

    add = command("submit", cluster.submit, "run a command as a job on a cluster, and end as it ends")
    text = "the cluster's dashboard (RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else http://127.0.0.1:8265)"
    add("--address", metavar="URL", help=text)
    text = "folder of code and configs that the job runs in, a copy without data, runs and secrets (this one)"
    add("--working-dir", default=".", metavar="DIR", help=text)
    add("--detach", action="store_true", help="print the job's id and leave it alone, instead of following it")
    add("job", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="train, tune, evaluate, ... with its arguments")
    subparsers.choices["submit"].set_defaults(parse=parser.parse_args)

    _add_config(command("plan", learning.plan, "what a run needs, what there is, and how long it takes"))

    add = command(
        "doctor", cluster.doctor, "is this machine, or the cluster at RAY_ADDRESS, able? a line for each check"
    )
    add("--storage", default="runs", metavar="URI", help="where runs would be kept: a path or URI (runs)")

    add = command("config", learning.config, "print the resolved config, or what one may hold")
    add("config", nargs="?", metavar="CONFIG", help="a YAML file, such as configs/quickstart.yaml")
    _add_set(add)
    add("--schema", action="store_true", help="print the JSON Schema of a config, by which editors complete and check")
    add("--keys", action="store_true", help="print every key with its default, range and meaning, as Markdown")
    return parser


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def number(text: str) -> int:
        found = int(text)
        if found < least or (most is not None and found > most):
            limits = f"at least {least}" if most is None else f"{least} to {most}"
            raise argparse.ArgumentTypeError(f"{text}: must be {limits}")
        return found

    return number


def _add_views(add: _Add) -> None:
    text = "how many symmetries of a photo its answer is the mean over (as the checkpoint says); 8 take 8 times as long"
    add("--views", type=int, choices=(1, 8), help=text)


def _minutes(text: str) -> float:
    found = float(text)
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be above 0, and finite")
    return found


def _points(text: str) -> float:
    found = float(text)
    if not 0 <= found <= 100:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 to 100")
    return found


def _add_wait(add: _Add) -> None:
    text = "how long to wait for machines (ten minutes where an autoscaler starts them, one where some just join)"
    add("--wait-for-workers-s", type=_seconds_or_auto, default="auto", metavar="SECONDS", help=text)


def _seconds_or_auto(text: str) -> float | str:
    if text == "auto":
        return text
    found = float(text)
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more, and finite")
    return found


def _add_config(add: _Add) -> None:
    add("config", metavar="CONFIG", help="a YAML file, such as configs/quickstart.yaml")
    _add_set(add)


def _add_set(add: _Add) -> None:
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key, such as train.epochs=3")
