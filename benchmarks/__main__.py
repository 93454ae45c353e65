"""All benchmarks in one table: `python -m benchmarks`, in at most 30 minutes on two cores.

Each is a process of its own, at a size for this machine, and gives its figures with both sides and their limits. One
that fails, or takes far too long, is a row that says so, and the rest goes on; what the 30 minutes leave no time for is
a row, too. `--only NAME...` runs those alone, also what breaks machines or takes many minutes and is not among all of
them. `--gpu` measures the GPU path instead, in at most 5 minutes. Ends with 1 where a figure is beyond its limit or a
benchmark failed, and with 6 where there is no GPU to measure.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.figures import HEAD, NO_GPU, figures_in, table
from ray_trash.cluster.shares import usable_cpus

ALL_MINUTES, GPU_MINUTES = 30.0, 5.0
LATE = 3.0
"""Times its minutes after which a benchmark is given up."""
END_S = 20.0
"""How long one that is told to end may take: it has processes to end itself."""
PACKAGES = ("torch", "torchvision", "ray", "openvino", "numpy", "pillow", "litserve")


@dataclass(frozen=True)
class Benchmark:
    """A module below `benchmarks`, with what it is called with and the minutes it is expected to take on two cores.

    `by_name` keeps it out of the table of all: it breaks machines, needs to be root, cannot be made short, or says
    little without another checkout.
    """

    name: str
    arguments: str
    minutes: float
    by_name: bool = False


def suite(cpus: int) -> list[Benchmark]:
    """List all benchmarks, at a size for so many cores; what is asked about most comes first."""
    times = max(1, min(8, cpus // 2))
    return [
        Benchmark("http_speed", f"--rounds 1 --requests {3 * times}", 2.0),
        Benchmark("score_speed", f"--rounds 1 --photos {300 * times} --recipe-photos {100 * times}", 1.5),
        Benchmark("int8_speed", f"--rounds 1 --requests {2 * times} --photos {200 * times}", 3.0),
        Benchmark("train_overhead", "--rounds 1 --per-class 16", 1.5),
        Benchmark("frozen_speed", "--rounds 1 --per-class 8", 1.5),
        Benchmark("ingest_speed", f"--rounds 1 --photos {600 * times} --epochs 3 --training-photos 160", 2.0),
        Benchmark("sweep_cost", "--trials 4 --per-class 10 --size-px 64", 2.0),
        Benchmark("checkpoint_cost", "--rounds 1 --steps 8 --size-px 64", 0.7),
        Benchmark("train_memory", "--per-class 10 --times 4", 1.5),
        Benchmark("packed_speed", "--photos 1000 --rounds 1", 0.8),
        Benchmark("packed_million", f"--sizes 1000 {10_000 * times}", 1.8),
        Benchmark("audit_scale", f"--sizes 4000 {8000 * times}", 1.0),
        Benchmark("plan_accuracy", f"{_REPOSITORY}/configs/quickstart.yaml --per-class 12 {_SHORT}", 2.5),
        Benchmark("scale_figures", "--rounds 1", 0.7),
        Benchmark("scale_requests", "--seconds 5", 0.2),
        Benchmark("scale_sweep", "--sweeps 3 --trials 16 100", 0.2),
        Benchmark("serve_exchanges", "--exchanges 3 --refused 1", 1.5),
        Benchmark("serve_signals", "--times 4", 1.8),
        Benchmark("http_faults", "--seconds 5 --kills 3 --kill-every-s 8 --size-px 64", 1.8),
        Benchmark("serve_soak", "--minutes 1 --undisturbed-s 10 --kill-every-s 25 --exchange-every-s 40", 2.0),
        Benchmark("start_cost", "--rounds 1", 1.5, by_name=True),
        Benchmark("demo_seeds", "--seeds 0", 5.0, by_name=True),
        Benchmark("chaos", "--runs 2 --kills 1 --epochs 12 6", 6.0, by_name=True),
        Benchmark("serve_hosts", "--times 1", 12.0, by_name=True),
    ]


_AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
_REPOSITORY = Path(__file__).parents[1]
_SHORT = "--set tune.trials=2 --set tune.verdict_seeds=0 --set train.epochs=2"
GPU = [Benchmark("gpu_speed", "", GPU_MINUTES / LATE)]


@dataclass
class Outcome:
    """The rows of one benchmark, and whether all is well."""

    rows: list[list[str]] = field(default_factory=list)
    is_well: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them, print the table, and return the exit code."""
    everything = suite(usable_cpus())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in everything])
    parser.add_argument("--gpu", action="store_true", help="what the GPU path loses, on whatever GPU there is")
    options = parser.parse_args(arguments)
    if options.gpu and not torch.cuda.is_available():
        sys.stderr.write("error: --gpu: no CUDA GPU here; run it where `ray-trash doctor` finds one\n")
        return NO_GPU
    if options.gpu:
        chosen, minutes = GPU, GPU_MINUTES
    elif options.only:
        chosen = [each for each in everything if each.name in options.only]
        minutes = sum(LATE * each.minutes + 1 for each in chosen)
    else:
        chosen, minutes = [each for each in everything if not each.by_name], ALL_MINUTES
    deadline_s = time.monotonic() + 60 * minutes
    outcomes = [measured(each, deadline_s) for each in chosen]
    sys.stdout.write("".join(f"{line}\n" for line in machine()))
    sys.stdout.write("\n" + table(["benchmark", *HEAD], [row for outcome in outcomes for row in outcome.rows]))
    return 0 if all(outcome.is_well for outcome in outcomes) else 1


def measured(benchmark: Benchmark, deadline_s: float) -> Outcome:
    """Run one, and lay out its rows; a failure is one."""
    timeout_s = min(60 * (LATE * benchmark.minutes + 1), deadline_s - time.monotonic())
    if timeout_s < 30 * benchmark.minutes:
        return _failed(benchmark, f"not run: no time is left; `--only {benchmark.name}`")
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {benchmark.name} {benchmark.arguments}\n")
    command = [sys.executable, "-m", f"benchmarks.{benchmark.name}", *benchmark.arguments.split()]
    code, stdout, stderr = run_for(command, timeout_s)
    figures = figures_in(stdout)
    if code is None:
        return _failed(benchmark, f"given up after {timeout_s / 60:.1f} min")
    if not figures or code not in (0, 1):
        said = stderr.strip().rpartition("\n")[2] or "it said nothing"
        return _failed(benchmark, f"failed with {code}: {said[:160]}")
    rows = [[benchmark.name, *figure.cells()] for figure in figures]
    return Outcome(rows, all(figure.holds for figure in figures))


def _failed(benchmark: Benchmark, why: str) -> Outcome:
    return Outcome([[benchmark.name, why, *[""] * (len(HEAD) - 2), "FAIL"]], is_well=False)


def run_for(command: list[str], timeout_s: float) -> tuple[int | None, str, str]:
    """Run a command for so long at most. Returns its exit code, None where it was ended, and what it said."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        child = subprocess.Popen(command, cwd=_REPOSITORY, stdout=stdout, stderr=stderr, start_new_session=True)
        try:
            code: int | None = child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
        for file in (stdout, stderr):
            file.seek(0)
        return code, stdout.read(), stderr.read()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started, politely first: Ray's own processes go with the one that began them."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def machine() -> Iterator[str]:
    """Say what machine this is, and which versions were measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    yield f"machine: {usable_cpus()} cores of {model}, {platform.system()} {platform.release()}"
    if torch.cuda.is_available():
        yield f"GPU: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    if _AUTOGROUP.exists() and _AUTOGROUP.read_text().strip() == "1":
        yield (
            "scheduler: shares processors between sessions (sched_autogroup_enabled is 1), and on Linux 6.18 lets one "
            "wait for seconds while another computes; what a client sees as p99 on one machine holds that too"
        )
    yield f"Python {platform.python_version()}, {', '.join(_versions())}"


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            yield f"{package} {version(package)}"


if __name__ == "__main__":
    sys.exit(main())
