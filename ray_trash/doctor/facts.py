"""What is so on a machine, gathered by a process there; nothing is judged here."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ray._private.accelerators import NvidiaGPUAcceleratorManager

from ray_trash.cluster.shares import cpu_quota, usable_cpus
from ray_trash.model.precision import resolve_precision

DISTRIBUTION = "ray-trash"
RESULTS_DEPEND_ON = (DISTRIBUTION, "ray", "torch", "torchvision", "pillow", "numpy", "pyarrow")
"""Packages that all machines of a cluster must have in one version."""
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Space:
    """Bytes of a file system."""

    place: str
    total: int
    free: int


@dataclass(frozen=True)
class Gpus:
    """GPUs as Ray counts them and as torch sees them, the driver's version, and that of CUDA torch was built for.

    `error` is what torch said when it was to add two numbers on each of them.
    """

    by_ray: int
    by_torch: int
    driver: str
    built_for: str
    error: str = ""


@dataclass(frozen=True)
class Facts:
    """One machine.

    Attributes:
        unmet: Requirements of this project that are not met, in words.
        memory_limit: What a container may take, bytes; None where nothing limits it.
        quota_cpus: How many processors' time a container has, infinite where it does not say.
        shared: /dev/shm; None where there is none.
        scratch: Where Ray keeps its sessions.
        open_files: How many files and connections a process may have open.
        bf16: What trains here in `auto` precision, and why.
        clock_s: Seconds since the epoch, at the moment of asking.
    """

    machine: str
    python: str
    versions: Mapping[str, str]
    unmet: tuple[str, ...]
    memory_total: int
    memory_available: int
    memory_limit: int | None
    cpus: int
    quota_cpus: float
    shared: Space | None
    scratch: Space
    open_files: int
    bf16: str
    gpus: Gpus
    clock_s: float


def gather() -> Facts:
    """Look at the machine of this process."""
    memory = psutil.virtual_memory()
    dtype, why = resolve_precision("auto", torch.device("cpu"))
    scratch = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return Facts(
        machine=socket.gethostname(),
        python=platform.python_version(),
        versions={name: _version(name) for name in RESULTS_DEPEND_ON},
        unmet=tuple(unmet_requirements()),
        memory_total=memory.total,
        memory_available=memory.available,
        memory_limit=_memory_limit(),
        cpus=usable_cpus(),
        quota_cpus=cpu_quota(),
        shared=_space(_SHARED_MEMORY) if os.path.isdir(_SHARED_MEMORY) else None,
        scratch=_space(scratch),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        bf16=f"{str(dtype).removeprefix('torch.')}: {why}",
        gpus=_gpus(),
        clock_s=time.time(),
    )


def unmet_requirements() -> list[str]:
    """List what this project's own metadata asks for and this Python has not, or not new enough."""
    python = platform.python_version()
    try:
        wanted_python, wanted = metadata(DISTRIBUTION)["Requires-Python"], requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return [f"{DISTRIBUTION} is not installed, so nothing says which versions it needs"]
    unmet = []
    if wanted_python and python not in SpecifierSet(wanted_python):
        unmet.append(f"Python {python} is none of {wanted_python}")
    for requirement in map(Requirement, wanted):
        is_extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if requirement.marker is not None and not is_extra and not requirement.marker.evaluate():
            continue
        found = _version(requirement.name)
        if not found and not is_extra:
            unmet.append(f"{requirement.name} is not installed")
        elif found and not requirement.specifier.contains(found, prereleases=True):
            unmet.append(f"{requirement.name} is {found}, needed is {requirement.specifier}")
    return unmet


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _memory_limit() -> int | None:
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limit = int(Path(path).read_text())  # "max" is no number
            return limit if limit < psutil.virtual_memory().total else None
    return None


def _space(place: str) -> Space:
    there = next(parent for parent in (Path(place), *Path(place).parents) if parent.exists())
    usage = shutil.disk_usage(there)
    return Space(place, usage.total, usage.free)


def _gpus() -> Gpus:
    driver = ""
    with suppress(OSError, IndexError):
        driver = _NVIDIA_DRIVER.read_text().split("Module")[1].split()[0]
    by_torch, error = torch.cuda.device_count() if torch.cuda.is_available() else 0, ""
    try:
        for number in range(by_torch):
            (torch.ones(2, device=f"cuda:{number}") + 1).sum().item()
    except RuntimeError as raised:
        error = f"cuda:{number}: {str(raised).splitlines()[0]}"
    by_ray = NvidiaGPUAcceleratorManager.get_current_node_num_accelerators()
    return Gpus(by_ray, by_torch, driver, torch.version.cuda or "", error)
