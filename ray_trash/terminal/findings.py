"""What `doctor` found, a line each as it is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.text import Text

from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted, printable

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checked": "cyan"}
_CHECK_CHARACTERS = 14
_STATUS_CHARACTERS = max(map(len, _STYLES)) + 2


def print_finding(finding: Mapping[str, str], terminal: Terminal) -> None:
    """Print how something is, what was found, and below it what to do."""
    status = finding["status"]
    line = Text()
    line.append(status.ljust(_STATUS_CHARACTERS), style=_STYLES[status])
    line.append(finding["check"].ljust(_CHECK_CHARACTERS), style="bold")
    line.append(printable(finding["found"]))
    terminal.show(line)
    if finding["advice"]:
        terminal.show(Text(" " * (_STATUS_CHARACTERS + _CHECK_CHARACTERS) + printable(finding["advice"]), style="dim"))


def print_sum(findings: Sequence[Mapping[str, str]], terminal: Terminal) -> None:
    """Print how many there are of each kind."""
    n = Counter(finding["status"] for finding in findings)
    parts = [counted(n["problem"], "problem"), counted(n["warning"], "warning"), f"{n['ok']} ok"]
    if n["not checked"]:
        parts.append(f"{n['not checked']} not checked")
    terminal.say(", ".join(parts))
