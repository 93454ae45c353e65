"""What the command of a job names: which files it needs, and what lies where only this machine sees it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ray_trash.config import Config, load_config, parse_override
from ray_trash.errors import ConfigError

_READ = {"data": "--data ", "watch": "--watch ", "archive": "--archive "} | dict.fromkeys(
    ("root", "checkpoint", "paths", "photos", "first", "second"), ""
)
_TABLES = {"labels": "--labels ", "split": "--split "}
_WRITTEN = {"out": "--out ", "to": "--to "}
"""Arguments of commands that are places, by what becomes of them, and how they are written."""


@dataclass(frozen=True)
class JobCommand:
    """A command that was understood here and runs elsewhere.

    Attributes:
        words: Its arguments, as the job gets them.
        needed: Files below the working directory that it names, to be taken along.
        data: Folders below the working directory that hold its photos or its runs.
        warnings: What it names that the cluster may not see, a sentence each.
    """

    words: Sequence[str]
    needed: Sequence[str]
    data: Sequence[str]
    warnings: Sequence[str]


def understand(words: Sequence[str], options: argparse.Namespace, root: Path) -> JobCommand:
    """Look at a command's arguments as they were parsed here, its relative paths taken below `root`.

    Raises:
        ConfigError: It names a config that is wrong, or that is not below `root`; then nothing need be sent.
    """
    read, tables, written = (
        [(said, path) for name, said in names.items() for path in _each(vars(options).get(name))]
        for names in (_READ, _TABLES, _WRITTEN)
    )
    needed: list[str] = []
    if "config" in vars(options):
        name = _below(options.config, root)
        config = _load(root / name, options)
        words = [name if word == options.config else word for word in words]
        needed.append(name)
        read += _read_by(config)
        tables += [("data.labels=", path) for path in _each(config.data.labels)] + [("data.split=", config.data.split)]
        written.append(("storage=", config.storage))
    needed += [path for _, path in tables if not _is_elsewhere(path) and (root / path).is_file()]
    data = [os.path.normpath(path) for _, path in [*read, *written] if not _is_elsewhere(path)]
    warnings = [
        *(_unseen(name, path) for name, path in read),
        *(_unseen(name, path) for name, path in tables if os.path.isabs(path)),
        *(_lost(name, path) for name, path in written),
    ]
    return JobCommand(words, needed, [path for path in data if path != "."], [text for text in warnings if text])


def _load(path: Path, options: argparse.Namespace) -> Config:
    return load_config(path, dict(parse_override(text) for text in options.set))


def _read_by(config: Config) -> Iterable[tuple[str, str]]:
    yield "data.root=", config.data.root
    if config.model.weights not in ("imagenet", "none"):
        yield "model.weights=", config.model.weights


def _below(path: str, root: Path) -> str:
    """Return the path of a file below `root`, as it is there."""
    relative = os.path.relpath(os.path.join(root, path), root)
    if "://" in path or PurePosixPath(relative).parts[:1] == ("..",):
        raise ConfigError(
            f"{path}: is not below {root}, the folder that is sent; copy it there, or name a folder above it with "
            "--working-dir"
        )
    if not (root / relative).exists() and os.path.exists(path):
        raise ConfigError(f"{path}: there is none in {root}; paths of the command are relative to --working-dir")
    return relative


def _unseen(name: str, path: str) -> str:
    """Say of a place that is read why the cluster may not see it."""
    if "://" in path:
        return ""
    if os.path.isabs(path):
        if not os.path.exists(path):
            return ""
        return f"{name}{path} is on this machine; the job finds it only where the cluster has it at the same place"
    return f"{name}{path} is not sent, and a relative path is in the job's own folder; {_ADVICE}"


def _lost(name: str, path: str) -> str:
    if _is_elsewhere(path):
        return ""
    return f"{name}{path} is relative: it is written in the job's own folder, which Ray removes; {_ADVICE}"


_ADVICE = "give one that every machine sees: a shared folder, s3://, gs://"


def _is_elsewhere(path: str) -> bool:
    return "://" in path or os.path.isabs(path)


def _each(value: object) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
