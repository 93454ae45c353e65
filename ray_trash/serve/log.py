"""The endpoint's log: lines for people in a terminal, JSON elsewhere; for every request, and for what befalls it."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import IO, Any, Literal, cast

from ray_trash.terminal.streams import Stderr

LogFormat = Literal["auto", "text", "json"]
_LOGGER = logging.getLogger("ray_trash.serve")
_FIELDS = "fields"


def start_log(log_format: LogFormat, stream: IO[str] | None = None) -> None:
    """Begin to write; `auto` is text where the stream, by default stderr, is a terminal, and JSON elsewhere."""
    where = cast(IO[str], Stderr()) if stream is None else stream
    is_text = log_format == "text" or (log_format == "auto" and where.isatty())
    handler = logging.StreamHandler(where)
    handler.setFormatter(_Text() if is_text else _Json())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.INFO)


def tell(
    event: str, message: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any
) -> None:
    """Log an event: its name and fields for programs, a sentence for people; of an unforeseen error, its trace."""
    _LOGGER.log(level, "%s", message, exc_info=error, extra={_FIELDS: {"event": event, **fields}})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{at} {level}{_in_one_line(record.getMessage())}{trace}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {"time": at, "level": record.levelname.lower(), **getattr(record, _FIELDS, {})}
        told["message"] = record.getMessage()
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def _in_one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
