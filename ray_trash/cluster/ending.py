"""How a process ends: the signals that ask for it, and threads that may still be inside Ray.

Nothing ends a thread that waits in Ray, and Ray ends a process with exit code 1 whose threads call it after its
shutdown. So a process that leaves such threads behind keeps its connection to Ray, and ends at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import NoReturn

import psutil

from ray_trash.cluster.head import lost_head

_STARTED: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_CLUSTER_IS_OURS = threading.Event()
_WAYS_ON = ["To continue: a run with --resume, a scoring with the same command."]


def stop_signals() -> list[signal.Signals]:
    """List the signals that tell this process to end; `nohup` has it ignore SIGHUP, and that stays."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def start_thread(work: Callable[[], None], *, name: str) -> threading.Thread:
    """Start work that calls Ray, in a thread that no end of this process waits for."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    _STARTED.add(thread)
    thread.start()
    return thread


def threads_left() -> bool:
    """Say whether a thread that may be inside Ray has not ended."""
    return any(thread.is_alive() for thread in _STARTED)


def remember_cluster_is_ours() -> None:
    """Note that a cluster was started by this process, and ends with it."""
    _CLUSTER_IS_OURS.set()


def cluster_is_ours() -> bool:
    """Say whether this process has started the cluster that it uses."""
    return _CLUSTER_IS_OURS.is_set()


def remember_way_on(text: str) -> None:
    """Note what a person can do from here on, where that is not to start the command again."""
    _WAYS_ON.append(text)


def way_on() -> str:
    """Say how to go on after a signal has ended this process."""
    return _WAYS_ON[-1]


def exit_process(exit_code: int) -> NoReturn:
    """End this process, in good order if no thread may be inside Ray, and Ray is there."""
    if threads_left() or lost_head():
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may have gone.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if _CLUSTER_IS_OURS.is_set():
            _end_descendants()
        os._exit(exit_code)
    sys.exit(exit_code)


def _end_descendants() -> None:
    # Some would not end with this process, or only in minutes. Once they are stopped they start no others, and close
    # no connection that a thread would notice.
    for end in (psutil.Process.suspend, psutil.Process.kill):
        with contextlib.suppress(psutil.Error):
            for process in reversed(psutil.Process().children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    end(process)
