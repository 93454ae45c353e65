"""How a process ends: the signals that ask for it, and threads that may still be inside Ray.

Nothing ends a thread that waits in Ray, and Ray ends a process with exit code 1 whose threads call it after its
shutdown. So a process that leaves such threads behind keeps its connection to Ray, and ends at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ray_trash.cluster.head import lost_head
from ray_trash.errors import RayTrashError

_STARTED: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_OTHERS = threading.Event()
"""Whether there are threads of others, which nobody waits for."""
_OUR_SESSIONS: list[Path] = []
_UNFINISHED: list[Callable[[], set[Path]]] = []
"""The session of a Ray that is being started, once there is one: until it has started, nobody knows its name."""


def stop_signals() -> list[signal.Signals]:
    """List the signals that tell this process to end; `nohup` has it ignore SIGHUP, and that stays."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def ignore_stop_signals() -> None:
    """Have those signals change nothing from now on: what ends is ended once, and that takes seconds."""
    for number in stop_signals():
        signal.signal(number, signal.SIG_IGN)


def start_thread(work: Callable[[], None], *, name: str) -> threading.Thread:
    """Start work that calls Ray, in a thread that no end of this process waits for."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    _STARTED.add(thread)
    thread.start()
    return thread


def expect_threads_of_others() -> None:
    """Note that a library has threads that call Ray, and that nothing ends before this process."""
    _OTHERS.set()


def threads_left() -> bool:
    """Say whether a thread that may be inside Ray has not ended."""
    return _OTHERS.is_set() or any(thread.is_alive() for thread in _STARTED)


def remember_cluster_is_ours(session: Path) -> None:
    """Note that a cluster was started by this process, and ends with it, and the folder of its sockets and logs."""
    _UNFINISHED.clear()
    _OUR_SESSIONS.append(session)


def begin_cluster(folder: Path) -> None:
    """Note that Ray is being started, with a session in a folder: whatever there is of it ends with this process."""

    def sessions() -> set[Path]:
        return set(folder.glob(f"session_*_{os.getpid()}"))

    before = sessions()
    _UNFINISHED.append(lambda: sessions() - before)


def cluster_is_ours() -> bool:
    """Say whether this process has started the cluster that it uses."""
    return bool(_OUR_SESSIONS)


def exit_process(exit_code: int) -> NoReturn:
    """End this process, in good order if no thread may be inside Ray, and Ray is there.

    The folder of a cluster that ended with it goes too, except after something unforeseen, which its logs may explain.
    """
    # Ray takes its time to end what it has half started.
    in_good_order = not (threads_left() or lost_head() or _UNFINISHED)
    if not in_good_order and (cluster_is_ours() or _UNFINISHED):
        _end_descendants()
    if exit_code != RayTrashError.exit_code:
        _remove_sessions()
    if not in_good_order:
        for stream in (sys.stdout, sys.stderr):
            # Whoever read it may have gone.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


def _remove_sessions() -> None:
    for session in [*_OUR_SESSIONS, *(session for found in _UNFINISHED for session in found())]:
        shutil.rmtree(session, ignore_errors=True)
        latest = session.parent / "session_latest"
        with contextlib.suppress(OSError):
            # Another command's may have taken its place.
            if latest.is_symlink() and not latest.exists():
                latest.unlink()


def _end_descendants() -> None:
    # Loading it would be a quarter of what `--help` takes.
    import psutil

    # Some would not end with this process, or only in minutes. Once they are stopped they start no others, and close
    # no connection that a thread would notice.
    for end in (psutil.Process.suspend, psutil.Process.kill):
        with contextlib.suppress(psutil.Error):
            for process in reversed(psutil.Process().children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    end(process)
