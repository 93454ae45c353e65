"""How a machine does, from the facts about it: rules without a look at anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ray_trash.cluster.shares import TRIAL_MEMORY_BYTES
from ray_trash.doctor.facts import RESULTS_DEPEND_ON, Facts
from ray_trash.doctor.finding import Finding, Judged, joined
from ray_trash.terminal.text import gib, listed

LEAST_MEMORY_BYTES = 1 << 30
"""Ray alone takes half of it."""
LEAST_SHARED_BYTES = 1 << 30
"""A Ray that finds less in /dev/shm puts objects on a disk. Docker gives 64 MiB unless told otherwise."""
FULL_SHARE = 0.95
"""Ray spills nothing to a disk that is fuller (`RAY_local_fs_capacity_threshold`)."""
LITTLE_DISK_BYTES = 5 << 30
FEWEST_OPEN_FILES = 1024
"""Fewer than a small cluster has connections."""
FEW_OPEN_FILES = 4096
"""What `ray start` warns below."""
SKEW_S = 2.0
"""Clocks that differ by more make logs of machines hard to join."""
MOST_SKEW_S = 300.0
"""Object stores refuse requests that are signed so far from their own time; S3's limit is a quarter of an hour."""


def judge_machines(facts: Sequence[Facts]) -> list[Finding]:
    """Judge all machines, check by check; clocks are judged elsewhere."""
    rules = (
        ("versions", versions),
        ("memory", memory),
        ("processors", processors),
        ("shared memory", shared_memory),
        ("disk", disk),
        ("open files", open_files),
        ("GPU", gpus),
    )
    found = [joined(check, [(one.machine, rule(one)) for one in facts]) for check, rule in rules]
    return [*found, *([same_versions(facts)] if len(facts) > 1 else [])]


def versions(facts: Facts) -> Judged:
    """Judge Python and the packages by what this project's metadata asks for."""
    own = ", ".join(f"{name} {facts.versions[name]}" for name in ("ray", "torch", "pyarrow") if facts.versions[name])
    if facts.unmet:
        advice = "install what the project asks for: pip install -U ray-trash, or make setup"
        return Judged("problem", listed(facts.unmet), advice)
    return Judged("ok", f"Python {facts.python}, {own}: every package as new as is needed")


def same_versions(facts: Sequence[Facts]) -> Finding:
    """Compare the machines: Ray refuses another Python or Ray, and figures depend on the rest."""
    differing = {
        name: sorted({one.versions[name] or "none" for one in facts})
        for name in RESULTS_DEPEND_ON
        if len({one.versions[name] for one in facts}) > 1
    }
    if len({one.python for one in facts}) > 1:
        differing["Python"] = sorted({one.python for one in facts})
    if differing:
        found = "; ".join(f"{name} is {' here and '.join(found)} there" for name, found in differing.items())
        return Finding("same versions", "problem", found, "install the same packages on every machine of the cluster")
    return Finding("same versions", "ok", f"the same on all {len(facts)} machines")


def memory(facts: Facts) -> Judged:
    """Judge memory, and what a container gives of it."""
    total = min(facts.memory_total, facts.memory_limit or facts.memory_total)
    available = min(facts.memory_available, total)
    limited = " (the limit of this container)" if total < facts.memory_total else ""
    found = f"{gib(total)}{limited}, {gib(available)} available"
    if available < LEAST_MEMORY_BYTES:
        return Judged("problem", found, "end other programs, or take a machine with more memory")
    if available < TRIAL_MEMORY_BYTES:
        needed = f"a training of ResNet50 takes about {gib(TRIAL_MEMORY_BYTES)}"
        return Judged("warning", found, f"{needed}; end other programs, or train with smaller batches")
    return Judged("ok", found)


def processors(facts: Facts) -> Judged:
    """Judge processors, a container's share of them, and their number formats."""
    found = f"{facts.cpus} to use, {facts.bf16}"
    if facts.quota_cpus < 1:
        advice = "give the container one processor at least"
        return Judged("warning", f"{found}; the container has {facts.quota_cpus:g} processors' time", advice)
    if facts.quota_cpus != math.inf:
        found += f"; the container has {facts.quota_cpus:g} processors' time"
    if "does not use it" in facts.bf16 and not facts.gpus.by_torch:
        return Judged("warning", found, "install a build of torch with oneDNN: training is twice as fast with bf16")
    return Judged("ok", found)


def shared_memory(facts: Facts) -> Judged:
    """Judge what Ray's object store lies in."""
    if facts.shared is None:
        return Judged("not checked", "there is no /dev/shm on this system")
    found = f"/dev/shm has {gib(facts.shared.total)}, {gib(facts.shared.free)} free"
    if facts.shared.free < LEAST_SHARED_BYTES:
        advice = (
            "Ray's object store goes to a disk, which is slow; in a container: --shm-size=4g, or an emptyDir of Memory"
        )
        return Judged("problem", found, advice)
    return Judged("ok", found)


def disk(facts: Facts) -> Judged:
    """Judge where Ray keeps its sessions, and what does not fit into shared memory."""
    scratch = facts.scratch
    found = f"{gib(scratch.free)} free of {gib(scratch.total)} in {scratch.place}, for Ray"
    advice = "free some, or set RAY_TMPDIR to a folder on another disk"
    if 1 - scratch.free / scratch.total > FULL_SHARE:
        return Judged("problem", f"{found}: {FULL_SHARE:.0%} full, where Ray stops to spill", advice)
    return Judged(
        "warning" if scratch.free < LITTLE_DISK_BYTES else "ok", found, advice * (scratch.free < LITTLE_DISK_BYTES)
    )


def open_files(facts: Facts) -> Judged:
    """Judge how many files and connections a process may have."""
    found = f"{facts.open_files} for a process"
    if facts.open_files >= FEW_OPEN_FILES:
        return Judged("ok", found)
    status = "problem" if facts.open_files < FEWEST_OPEN_FILES else "warning"
    return Judged(status, found, "ulimit -n 65536, before `ray start` and before commands")  # type: ignore[arg-type]


def gpus(facts: Facts) -> Judged:
    """Judge whether torch can use the GPUs that Ray would give out."""
    found = facts.gpus
    built = f"torch was built for CUDA {found.built_for}" if found.built_for else "torch was built for CPUs only"
    driver = f"driver {found.driver}" if found.driver else "no NVIDIA driver"
    if not found.by_ray and not found.driver and not found.by_torch:
        return Judged("ok", "none, so processors compute")
    said = f"{found.by_ray} by Ray's count, {found.by_torch} by torch's; {driver}, {built}"
    if found.error:
        return Judged(
            "problem", f"{said}; {found.error}", "look at nvidia-smi; another program may hold the GPU's memory"
        )
    if found.by_torch < found.by_ray:
        advice = "install a torch that was built for CUDA, and a driver at least as new; nvidia-smi says what it takes"
        return Judged("problem", said, advice)
    return Judged("ok", said)


def clocks(skews_s: Sequence[tuple[str, float]]) -> Finding:
    """Judge by how many seconds each machine, by its name, is ahead of this one."""
    machine, skew_s = max(skews_s, key=lambda one: abs(one[1]))
    found = f"{machine} is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine"
    if abs(skew_s) > SKEW_S:
        status = "problem" if abs(skew_s) > MOST_SKEW_S else "warning"
        return Finding("clocks", status, found, "let every machine ask a time server: chronyd, systemd-timesyncd")  # type: ignore[arg-type]
    return Finding("clocks", "ok", f"within {max(SKEW_S, 0):g} s on {len(skews_s)} machines")
