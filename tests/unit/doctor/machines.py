"""A good machine, to be broken."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ray_trash.doctor.facts import RESULTS_DEPEND_ON, Facts, Gpus, Space

GIB = 1 << 30
GOOD = Facts(
    machine="a",
    python="3.12.1",
    versions=dict.fromkeys(RESULTS_DEPEND_ON, "2.0"),
    unmet=(),
    memory_total=32 * GIB,
    memory_available=24 * GIB,
    memory_limit=None,
    cpus=8,
    quota_cpus=math.inf,
    shared=Space("/dev/shm", 16 * GIB, 15 * GIB),
    scratch=Space("/tmp", 100 * GIB, 50 * GIB),
    open_files=65536,
    bf16="bfloat16: the processor has AMX-BF16",
    gpus=Gpus(0, 0, "", ""),
    clock_s=0.0,
)


def a_machine(**changes: Any) -> Facts:
    return replace(GOOD, **changes)
