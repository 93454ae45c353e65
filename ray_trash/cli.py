"""The `ray-trash` command: errors and signals to exit codes. One of the two edges where errors are caught."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

from ray_trash.arguments import build_parser
from ray_trash.cluster.ending import exit_process, ignore_stop_signals, stop_signals
from ray_trash.cluster.environment import prepare_environment
from ray_trash.cluster.head import lost_head
from ray_trash.cluster.way_on import remember_way_on, way_on
from ray_trash.commands import STDOUT, Ended
from ray_trash.errors import ConfigError, RayTrashError
from ray_trash.terminal.streams import Stderr, keep_stderr_for_people, open_closed_streams

TRACEBACK = "RAY_TRASH_TRACEBACK"
"""Variable that has everything shown that helps to find a mistake in the code."""
SENT_AGAIN_S = 0.05
"""After how long a signal is sent again whose exception was dropped: what dropped it is over by then."""


class Interrupted(BaseException):
    """A signal to stop: end what runs, clean up, leave."""

    def __init__(self, number: int) -> None:
        """Remember which signal it was."""
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.exit_code = 128 + number


def command() -> NoReturn:
    """Run the command of this process's arguments and end the process with its exit code."""
    open_closed_streams()
    if not os.environ.get(TRACEBACK):
        keep_stderr_for_people()
    sys.unraisablehook = _send_again
    exit_process(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors are one line on stderr."""
    # Whoever stops a job sends one; without this Python dies at once and leaves Ray's processes.
    for number in stop_signals():
        signal.signal(number, _interrupt)
    try:
        _require_utf8(sys.argv[1:] if arguments is None else arguments)
        if sys.flags.optimize > 1:
            raise ConfigError("python -OO or PYTHONOPTIMIZE=2: Ray cannot be loaded without docstrings; leave it out")
        prepare_environment()
        options = build_parser().parse_args(arguments)
        remember_way_on(options.way_on)
        # After the parser: `--help` answers at once.
        from ray_trash.terminal.say import Terminal, breaking_silence

        terminal = Terminal.stderr()
        # Ray prints to stdout whatever becomes of its processes, and libraries what they like.
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            breaking_silence(Terminal.silent() if options.has_log else terminal, "loading torch and Ray"),
        ):
            result = options.action(options, terminal)
        exit_code = result.exit_code if isinstance(result, Ended) else 0
        result = result.document if isinstance(result, Ended) else result
        if options.json == STDOUT or isinstance(result, str):
            text = result if isinstance(result, str) else json.dumps(result) + "\n"
            sys.stdout.buffer.write(text.encode())  # whatever the locale
            sys.stdout.buffer.flush()
    except RayTrashError as error:
        _complain(f"error: {error}")
        return error.exit_code
    except Interrupted as interruption:
        _complain(f"stopped by {interruption}. {way_on()}")
        return interruption.exit_code
    except BrokenPipeError:
        # The reader of stdout has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        where = f"{TRACEBACK}=1 shows where, please report it"
        _complain(f"error: unforeseen: {type(error).__name__}: {str(error).strip()}; {where}")
        return 1
    return exit_code


def _require_utf8(arguments: Sequence[str]) -> None:
    # Ray notes the command line, and neither it nor pyarrow knows other names.
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(argument).decode("utf-8", "backslashreplace")
            raise ConfigError(f"{shown}: is not UTF-8; rename it, or for a photo name the folder it is in") from error


def _complain(text: str) -> None:
    # Whoever reads may have gone, as `tee` has after Ctrl-C; the exit code still says it.
    stderr = Stderr()
    stderr.write(" ".join(text.split()) + "\n")
    stderr.flush()


def _interrupt(number: int, frame: object) -> NoReturn:
    ignore_stop_signals()  # a terminal that closes, or an impatient hand, sends several
    raise lost_head() or Interrupted(number)


def _send_again(dropped: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception came where Python drops any: in a finalizer, or as a process is forked."""
    error = dropped.exc_value
    if isinstance(error, Interrupted):
        number = error.number
    elif error is not None and error is lost_head():
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(dropped)
        return
    signal.signal(number, _interrupt)
    sending = threading.Timer(SENT_AGAIN_S, os.kill, (os.getpid(), number))
    sending.daemon = True
    sending.start()
