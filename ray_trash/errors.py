"""The errors users meet, each with the exit code and HTTP status of its edge.

```
RayTrashError                 anything unforeseen                    exit 1
├── ConfigError               a command, file or override is wrong   exit 2
├── StorageError              a run directory cannot be written      exit 2
├── DataError                 the photos on disk are wrong           exit 3
│   └── ImageError            one photo cannot be used               HTTP 422
├── CheckpointError           weights or a checkpoint are unusable   exit 4
├── DivergedError             the loss became non-finite             exit 5
└── ClusterError              the cluster cannot give what is asked  exit 6
```

A message says what is wrong, where, and what to do. Errors rise to the two edges, `cli` and `serve`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

ReasonCode = Literal[
    "empty_file",
    "not_a_regular_file",
    "unreadable",
    "unsupported_format",
    "undecodable",
    "truncated",
    "too_many_pixels",
    "too_large",
    "outside_root",
]
"""Why a photo is refused; the same words in the audit, training, scoring and HTTP."""


class RayTrashError(Exception):
    """Base of every error this project raises on purpose."""

    exit_code: ClassVar[int] = 1


class ConfigError(RayTrashError):
    """A command line, a config file or an override is wrong."""

    exit_code = 2


class StorageError(RayTrashError):
    """A file of a run cannot be written or read: full, read-only or unreachable storage."""

    exit_code = 2


class DataError(RayTrashError):
    """The photos on disk do not make a data set that can be used."""

    exit_code = 3


class ImageError(DataError):
    """One photo cannot be used; `code` is the reason."""

    def __init__(self, code: ReasonCode, message: str) -> None:
        """Say why, as a code and in words."""
        super().__init__(message)
        self.code: ReasonCode = code

    def __reduce__(self) -> tuple[type[ImageError], tuple[ReasonCode, str]]:
        """Rebuild from code and message."""
        # Exceptions cross process borders in Ray; the default rebuilds from `args` alone.
        return (type(self), (self.code, str(self)))


class CheckpointError(RayTrashError):
    """Weights or a checkpoint are missing, incomplete or foreign."""

    exit_code = 4


class DivergedError(RayTrashError):
    """Training produced a loss or gradient that is not finite."""

    exit_code = 5


class ClusterError(RayTrashError):
    """The Ray cluster cannot give the workers that were asked for."""

    exit_code = 6
