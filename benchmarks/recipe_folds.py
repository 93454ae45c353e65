"""Which training recipe is better, by grouped cross-validation: `python -m benchmarks.recipe_folds DATA --out DIR ...`.

Photos of the same shot are always in one fold (`audit --folds`). A candidate is a name and the keys it changes in
`--config`: `--candidate "larger: augment.size_px=224 train.epochs=16"`. Each is trained on all folds but one and judged
on that one, fold by fold; `--folds 5 --judge 3` judges three of five. The candidate `plain` is `recipe_plain`: a loop
in plain torch, which the others are compared with, paired by photo.

Whole trainings run `ray-trash train` and `evaluate`, by one view and by eight. `--cheap` trains what lies above frozen
stages, from activations kept on disk, on `--share` of the photos, and looks at each training in many ways
(`recipe_cached`): what holds there is a hint at what a whole training gains, no proof.

Every fold's answers are a line of DIR/answers.jsonl as soon as they are there. The same command goes on where it was
stopped, a whole training from its last checkpoint. Ends with a table: right answers, Wilson's 95 % interval, the
difference to `--against` on the same photos with its interval, McNemar's p.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_trash.compare.paired import Paired
from ray_trash.config import Config, load_config, parse_override
from ray_trash.evaluate.metrics import wilson_interval
from ray_trash.terminal.text import percent, percents, points

PLAIN = "plain"
VIEWS = (1, 8)


def main() -> None:
    """Judge every candidate on every fold that is to be judged, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of photos, one folder a class")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--config", default="configs/trashnet-cpu.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every candidate")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME: KEY=VALUE ...")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--judge", type=int, default=3, help="so many of the folds")
    parser.add_argument("--against", default=None, help="what the others are compared with; default: the first line")
    parser.add_argument("--cheap", action="store_true")
    parser.add_argument("--share", type=float, default=0.5, help="of the photos to train on, with --cheap")
    parser.add_argument("--share-judged", type=float, default=1.0, help="of the photos to judge by, with --cheap")
    parser.add_argument("--share-turned", type=float, default=0.0, help="of the photos to look at by eight views")
    parser.add_argument("--fits", nargs="+", default=["stretch", "crop"], choices=["stretch", "crop", "pad"])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folds = read_folds(options.data, options.out / "folds", options.folds)
    file = options.out / "answers.jsonl"
    common = dict(change.split("=", 1) for change in options.set)
    candidates = dict(parse_candidate(text) for text in options.candidate)
    judge = _cheaply if options.cheap else _wholly
    for fold in range(1, options.judge + 1):
        for name, changes in candidates.items():
            keys = {**common, **changes, "data.root": options.data, "name": f"{name}-fold-{fold}"}
            if any((row["candidate"], row["fold"]) == (name, fold) for row in read_answers(file)):
                continue
            began = time.time()
            rows = [
                {"candidate": name, "changes": changes, "fold": fold, "how": how, "n": len(right), "wrong": wrong}
                for how, right, wrong in judge(options, keys, folds, name, fold)
            ]
            seconds = round(time.time() - began)
            # All of a fold at once: a line stands for a training that has come to its end.
            with file.open("a") as lines:
                lines.write("".join(json.dumps({**row, "seconds": seconds}) + "\n" for row in rows))
    for line in table(list(read_answers(file)), options.against):
        print(line)  # noqa: T201


def parse_candidate(text: str) -> tuple[str, dict[str, str]]:
    """Read `NAME: KEY=VALUE ...`."""
    name, _, changes = text.partition(":")
    return name.strip(), dict(change.split("=", 1) for change in changes.split())


def read_folds(data: str, folder: Path, n_folds: int) -> dict[str, int]:
    """Return the fold of every photo, from 1; the files are made where they are not there."""
    files = [folder / f"fold-{fold}.csv" for fold in range(1, n_folds + 1)]
    if not all(file.exists() for file in files):
        _ray_trash("audit", data, "--folds", str(n_folds), "--out", str(folder))
    found = {}
    for fold, file in enumerate(files, start=1):
        with file.open(newline="") as lines:
            found.update({row["path"]: fold for row in csv.DictReader(lines) if row["split"] == "val"})
    return found


def read_answers(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines that are there."""
    if file.exists():
        yield from map(json.loads, file.read_text().splitlines())


Answered = Iterator[tuple[str, NDArray[np.bool_], list[str]]]


def _wholly(
    options: argparse.Namespace, keys: Mapping[str, str], folds: Mapping[str, int], name: str, fold: int
) -> Answered:
    """Train one candidate on all folds but one: what was asked, which photos are right, and the paths of the others."""
    split, runs = options.out / "folds" / f"fold-{fold}.csv", options.out / "runs"
    if name == PLAIN:
        from benchmarks.recipe_plain import judge_plain

        weights = _config(options, keys).model.weights
        paths, right = judge_plain(options.data, dict(folds), fold, weights=weights)
        yield "1 view", right, _wrong(paths, right)
        return
    keys = {**keys, "data.split": str(split), "storage": str(runs)}
    run = runs / keys["name"]
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    _ray_trash("train", options.config, *settings, *(["--resume"] if run.exists() else []))
    for views in VIEWS:
        out = run / f"views-{views}"
        scored = ["evaluate", str(run / "checkpoint"), "--data", options.data, "--split", "val"]
        _ray_trash(*scored, "--views", str(views), "--out", str(out))
        rows = pq.read_table(out / "predictions.parquet").sort_by("path")
        right = np.array(rows["label"].to_pylist()) == np.array(rows["true_label"].to_pylist())
        yield f"{views} view{'s' if views > 1 else ''}", right, _wrong(rows["path"].to_pylist(), right)


def _cheaply(
    options: argparse.Namespace, keys: Mapping[str, str], folds: Mapping[str, int], name: str, fold: int
) -> Answered:
    from benchmarks.recipe_cached import Activations, FoldPhotos, Shares, judge_cached

    config = _config(options, keys)
    photos = FoldPhotos.of(options.data, dict(folds))
    activations = Activations(options.out / "activations", photos, config)
    print(f"{name}, fold {fold}", flush=True)  # noqa: T201
    for how, positions, right in judge_cached(
        config,
        activations,
        photos,
        fold,
        shares=Shares(options.share, options.share_judged, options.share_turned),
        fits=options.fits,
    ):
        yield how, right, _wrong([photos.paths[position] for position in positions], right)


def _config(options: argparse.Namespace, keys: Mapping[str, str]) -> Config:
    return load_config(options.config, dict(parse_override(f"{key}={value}") for key, value in keys.items()))


def _wrong(paths: Sequence[str], right: NDArray[np.bool_]) -> list[str]:
    return [path for path, is_right in zip(paths, right, strict=True) if not is_right]


def _ray_trash(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "ray_trash", *arguments], check=True)


def table(rows: Sequence[Mapping[str, Any]], against: str | None) -> Iterator[str]:
    """Yield a line for each candidate and way of asking, over the folds that it and the one to beat both have."""
    sides: dict[str, dict[int, tuple[int, frozenset[str]]]] = {}
    for row in rows:
        folds = sides.setdefault(f"{row['candidate']}: {row['how']}", {})
        folds[row["fold"]] = row["n"], frozenset(row["wrong"])
    if not sides:
        return
    base = against or next(iter(sides))
    if base not in sides:
        raise SystemExit(f"--against {base!r} is none of {', '.join(map(repr, sides))}")
    yield f"| candidate | folds | right | 95 % interval | less {base} (points) | 95 % interval | p |"
    yield "|---|---|---|---|---|---|---|"
    for name, folds in sides.items():
        n, wrong = _together(folds.values())
        right = n - len(wrong)
        share, interval = percent(right / n), percents(wilson_interval(right, n))
        line = f"| {name} | {_listed(folds)} | {right}/{n} = {share} | {interval} |"
        # A look at a part of a fold is compared with another look at that part alone.
        common = [fold for fold in sorted(folds.keys() & sides[base].keys()) if folds[fold][0] == sides[base][fold][0]]
        if name == base or not common:
            yield f"{line} | | |"
            continue
        paired = _paired([sides[base][fold] for fold in common], [folds[fold] for fold in common])
        low, high = map(points, paired.difference_ci95)
        compared = f" {points(paired.difference)} | {low} to {high} | {paired.p_value:.2f} |"
        yield line + compared


def _together(folds: Iterable[tuple[int, frozenset[str]]]) -> tuple[int, frozenset[str]]:
    counts, wrong = zip(*folds, strict=True)
    return sum(counts), frozenset().union(*wrong)


def _paired(first: Iterable[tuple[int, frozenset[str]]], second: Iterable[tuple[int, frozenset[str]]]) -> Paired:
    (n, wrong), (_, also_wrong) = _together(first), _together(second)
    only_first, only_second = len(also_wrong - wrong), len(wrong - also_wrong)
    return Paired(n, n - len(wrong), n - len(also_wrong), only_first, only_second)


def _listed(folds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(folds)))


if __name__ == "__main__":
    main()
