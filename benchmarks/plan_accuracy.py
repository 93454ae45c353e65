"""What `plan` foretells against what `run` takes: `python -m benchmarks.plan_accuracy CONFIG [--set KEY=VALUE]...`.

Plans, runs the config as it is, into a folder of its own, and plans again: on a machine that does other work too, it is
the mean of both plans that the run is compared with. Seconds of both and their ratio, the epochs that were foretold and
trained, and what of the plan went where.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import conclude, ratio
from ray_trash.fetch.sample import render_sample
from ray_trash.storage import Storage
from ray_trash.train.run_directory import METRICS, read_metrics


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--per-class", type=int, help="render so many photos of each class, and run on those")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = [word for change in options.set for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [options.config, *changes, "--set", f"storage={folder}/runs"]
        if options.per_class:
            render_sample(Path(folder) / "photos", per_class=options.per_class)
            arguments += ["--set", f"data.root={folder}/photos"]
        plans = [planned(arguments)]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ray_trash", "run", *arguments], check=True)
        took_s = time.perf_counter() - started
        plans.append(planned(arguments))
        epochs = sum(len(read_metrics(Storage.at(path.parent))) for path in Path(folder).rglob(METRICS))
    foretold_s = statistics.fmean(plan["estimate"]["seconds"] for plan in plans)
    result = {
        "plans_s": [plan["estimate"]["seconds"] for plan in plans],
        "epochs_foretold": plans[0]["training"]["epochs"],
        "epochs_trained": epochs,
        "parts": plans[0]["estimate"]["parts"],
        "limits": plans[0]["estimate"]["limits"],
    }
    conclude([ratio("foretold over taken", foretold_s, took_s, "s", at_least=0.5, at_most=2.0)], result)


def planned(arguments: list[str]) -> dict[str, Any]:
    """Plan in a process of its own, as a user does."""
    command = [sys.executable, "-m", "ray_trash", "plan", *arguments, "--json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return document


if __name__ == "__main__":
    main()
