"""What exchanges of the model cost under load: `python -m benchmarks.serve_exchanges`.

An endpoint watches a run whose checkpoint is exchanged for another one and back, `--exchanges` times, while requests
arrive; then come `--refused` checkpoints that are not good. After each, the memory of all its processes is measured:
what several share counts once, and Ray's object store counts. Prints a table, and ends with 1 where more memory is held
at the end than after the third exchange, or a request was lost.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude
from benchmarks.serving import Clients, exchange, held_by, progress, publish, session_of
from ray_trash.serve.child import endpoint

THIRD = 3
MOST_MORE_MIB = 200
SETTLED_S = 8.0
"""How long after an exchange the processes of the model before have gone."""


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=50)
    parser.add_argument("--refused", type=int, default=20)
    parser.add_argument("--requests-per-s", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, photos_of(None, 1) as (photo,):
        folder = Path(name)
        for seed in (0, 1, 2):
            write_random_checkpoint(folder / str(seed), seed=seed, is_good=seed < 2, size_px=64)
        run = folder / "run"
        publish(folder / "0", run)
        mebibytes = []
        with (
            endpoint("--watch", str(run), "--set", "serve.watch_interval_s=0.5") as child,
            Clients([child.url], photo.read_bytes(), requests_per_s=options.requests_per_s) as clients,
        ):

            def look(what: str) -> None:
                time.sleep(SETTLED_S)
                held = held_by(session_of(child.pid))
                mebibytes.append(held.mib)
                progress(f"{what}: {held.mib:.0f} MiB, {held.descriptors} descriptors, {clients.since(0).lost} lost")

            for number in range(1, options.exchanges + 1):
                exchange(child.url, "done", folder / str(number % 2), run)
                look(f"exchange {number}")
            for number in range(1, options.refused + 1):
                exchange(child.url, "refused", folder / "2", run, mark=number)
                look(f"refusal {number}")
        asked = clients.since(0)
    third = mebibytes[min(THIRD, options.exchanges) - 1]
    conclude(
        [
            Figure("memory after the third exchange", third, "MiB"),
            Figure("more after the last exchange", mebibytes[options.exchanges - 1] - third, "MiB", MOST_MORE_MIB),
            Figure("more after the last refusal", mebibytes[-1] - third, "MiB", MOST_MORE_MIB),
            Figure("requests", len(asked.asked), ""),
            Figure("requests lost", asked.lost, "", 0),
            Figure("longest time without an answer", asked.longest_gap_s, "s"),
        ]
    )


if __name__ == "__main__":
    main()
