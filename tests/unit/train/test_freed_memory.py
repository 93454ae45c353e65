"""Memory that is freed and taken again inside and outside of a training."""

from __future__ import annotations

import ctypes
import resource
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from ray_trash.train.freed_memory import freed_memory_kept

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
N_BYTES = 48 << 20


@pytest.mark.skipif(not hasattr(LIBC, "gnu_get_libc_version"), reason="only glibc is told what to keep")
@pytest.mark.parametrize("in_thread", [False, True], ids=["in the main thread", "in a worker's"])
def test_what_is_freed_is_taken_again_without_the_kernel_and_handed_back_afterwards(in_thread: bool) -> None:
    process = psutil.Process()
    with ThreadPoolExecutor(1) as thread:
        step = (lambda: thread.submit(faults_of_a_step).result()) if in_thread else faults_of_a_step
        with freed_memory_kept():
            step()
            within = step()
            kept = process.memory_info().rss
        assert kept - process.memory_info().rss > N_BYTES / 2
        # Where the kernel gives pages of 2 MiB they are few.
        assert step() > 10 * (within + 1)


def faults_of_a_step() -> int:
    """Take memory twice, write it and free it, and count the pages that the kernel had to give."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    taken = [LIBC.malloc(N_BYTES) for _ in range(2)]
    for piece in taken:
        LIBC.memset(piece, 1, N_BYTES)
    for piece in taken:
        LIBC.free(piece)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
