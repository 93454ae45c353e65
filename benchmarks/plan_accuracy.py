"""What `plan` foretells against what `run` takes: `python -m benchmarks.plan_accuracy CONFIG [--set KEY=VALUE]...`.

Plans, runs the config as it is, into a folder of its own, and plans again: on a machine that does other work too, it is
the mean of both plans that the run is compared with. Prints one JSON object: seconds of both and their ratio, the
epochs that were foretold and trained, and what of the plan went where.
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

from ray_trash.storage import Storage
from ray_trash.train.run_directory import METRICS, read_metrics


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    changes = [word for change in options.set for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [options.config, *changes, "--set", f"storage={folder}"]
        plans = [planned(arguments)]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ray_trash", "run", *arguments], check=True)
        took_s = time.perf_counter() - started
        plans.append(planned(arguments))
        epochs = sum(len(read_metrics(Storage.at(path.parent))) for path in Path(folder).rglob(METRICS))
    foretold_s = statistics.fmean(plan["estimate"]["seconds"] for plan in plans)
    result = {
        "foretold_s": round(foretold_s, 1),
        "took_s": round(took_s, 1),
        "ratio": round(foretold_s / took_s, 3),
        "plans_s": [plan["estimate"]["seconds"] for plan in plans],
        "epochs_foretold": plans[0]["training"]["epochs"],
        "epochs_trained": epochs,
        "parts": plans[0]["estimate"]["parts"],
        "limits": plans[0]["estimate"]["limits"],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def planned(arguments: list[str]) -> dict[str, Any]:
    """Plan in a process of its own, as a user does."""
    command = [sys.executable, "-m", "ray_trash", "plan", *arguments, "--json"]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return document


if __name__ == "__main__":
    main()
