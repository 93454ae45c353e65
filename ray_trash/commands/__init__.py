"""What each command does: its arguments to the stages. Returns what `--json` prints, or text that is printed as it is.

Imports a stage only when its command runs, so that `ray-trash --help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STDOUT = "-"
"""As `--json FILE`: not a file."""


@dataclass(frozen=True)
class Ended:
    """What `--json` prints of a command whose work has an exit code of its own."""

    document: dict[str, Any]
    exit_code: int
