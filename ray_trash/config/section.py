"""What every part of the tree has in common, and how a key says that it needs another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the tree: immutable, closed to unknown keys, every field documented under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Needs:
    """Stands in a field's `Annotated`: where `is_met` denies it of a whole `Config`, the key has no effect.

    Such a key is refused; `what` would give it an effect, in words.
    """

    what: str
    is_met: Callable[[Any], bool]
