"""How many replicas a stream of requests needs, simulated: `python -m benchmarks.scale_requests`.

A formula says how many replicas keep up on average; what waiting in front of them costs, it does not. Requests of one
photo arrive at random. Each goes to the shorter queue of two replicas drawn at random, as Ray Serve routes; a replica
that is free computes all that wait for it, up to a forward batch, in a time that is part fixed and part per photo.
Prints a line for each number of replicas, from just enough upwards: how busy they are, the photos in a pass, and the
milliseconds within which half, 99 and 99.9 % of the requests are answered. Nothing is measured here: the times of a
pass are arguments, as `python -m benchmarks.scale_figures` or your own GPU gives them.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections import deque

import numpy as np

from benchmarks.figures import Figure, conclude


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000.0, help="requests a second (10000)")
    parser.add_argument("--pass-ms", type=float, default=3.0, help="what a pass takes whatever is in it (3)")
    parser.add_argument("--photo-ms", type=float, default=0.5, help="what each photo adds to it (0.5)")
    parser.add_argument("--batch", type=int, default=32, help="photos in a pass at most (serve.forward_batch_photos)")
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated seconds (20)")
    options = parser.parse_args()
    per_replica = options.batch / (options.pass_ms + options.batch * options.photo_ms) * 1000
    least = options.rate / per_replica
    sys.stdout.write(f"{per_replica:.0f} photos/s a replica at most: {least:.1f} replicas keep up on average\n")
    told = []
    sys.stdout.write("replicas  busy  photos/pass  p50 ms  p99 ms  p99.9 ms\n")
    for replicas in sorted({math.ceil(least * spare) for spare in (1.02, 1.1, 1.25, 1.5, 2.0)}):
        busy, filled, waits_ms = simulate(options, replicas)
        told.append(Figure(f"p99 with {replicas} replicas", float(np.percentile(waits_ms, 99)), "ms"))
        half, most, nearly_all = np.percentile(waits_ms, [50, 99, 99.9])
        sys.stdout.write(
            f"{replicas:8}  {100 * busy:3.0f}%  {filled:11.1f}  {half:6.0f}  {most:6.0f}  {nearly_all:8.0f}\n"
        )
    conclude(told)


def simulate(options: argparse.Namespace, replicas: int) -> tuple[float, float, np.ndarray]:
    """Return the share of time that replicas compute, the photos in a pass, and each request's milliseconds."""
    rng = np.random.default_rng(0)
    n = int(options.rate * options.seconds)
    arrivals_ms = np.cumsum(rng.exponential(1000 / options.rate, n))
    choices = rng.integers(replicas, size=(n, 2))
    waiting: list[deque[float]] = [deque() for _ in range(replicas)]
    in_pass: list[list[float]] = [[] for _ in range(replicas)]
    ends: list[tuple[float, int]] = []
    answered: list[float] = []
    busy_ms, passes = 0.0, 0

    def begin(replica: int, now_ms: float) -> None:
        nonlocal busy_ms, passes
        queue = waiting[replica]
        in_pass[replica] = [queue.popleft() for _ in range(min(options.batch, len(queue)))]
        taken_ms = options.pass_ms + options.photo_ms * len(in_pass[replica])
        busy_ms, passes = busy_ms + taken_ms, passes + 1
        heapq.heappush(ends, (now_ms + taken_ms, replica))

    def end_passes(until_ms: float) -> None:
        while ends and ends[0][0] <= until_ms:
            now_ms, replica = heapq.heappop(ends)
            answered.extend(now_ms - arrived_ms for arrived_ms in in_pass[replica])
            in_pass[replica] = []
            if waiting[replica]:
                begin(replica, now_ms)

    for now_ms, (first, second) in zip(arrivals_ms.tolist(), choices.tolist(), strict=True):
        end_passes(now_ms)
        load = [len(waiting[replica]) + len(in_pass[replica]) for replica in (first, second)]
        replica = first if load[0] <= load[1] else second
        waiting[replica].append(now_ms)
        if not in_pass[replica]:
            begin(replica, now_ms)
    end_passes(math.inf)
    return busy_ms / (replicas * float(arrivals_ms[-1])), n / passes, np.array(answered)


if __name__ == "__main__":
    main()
