"""Memory that is freed and taken again inside and outside of a training."""

from __future__ import annotations

import ctypes
import resource

import pytest

from ray_trash.train.freed_memory import freed_memory_kept

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
N_BYTES = 48 << 20


@pytest.mark.skipif(not hasattr(LIBC, "gnu_get_libc_version"), reason="needs glibc")
def test_what_is_freed_is_taken_again_without_the_kernel_and_handed_back_afterwards() -> None:
    with freed_memory_kept():
        faults_of_a_step()
        assert faults_of_a_step() < 10
        kept = resident_bytes()
    assert kept - resident_bytes() > N_BYTES / 2
    assert faults_of_a_step() > 10


def faults_of_a_step() -> int:
    """Take memory, write it and free it, and count how often the kernel had to give a page."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    taken = LIBC.malloc(N_BYTES)
    LIBC.memset(taken, 1, N_BYTES)
    LIBC.free(taken)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def resident_bytes() -> int:
    """Return how much memory this process holds."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()
