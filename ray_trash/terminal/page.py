"""Pages for people, each one file: templates in which every value is text unless it is markup of our own."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ray_trash.terminal.text import printable


def page_templates(package: str) -> Environment:
    """Open the templates beside a package's modules; what they print is escaped, and is printable."""

    def finalize(value: Any) -> Any:
        return value if hasattr(value, "__html__") else printable(str(value))  # the former is markup already

    loader = PackageLoader(package, ".")
    return Environment(loader=loader, autoescape=True, finalize=finalize, undefined=StrictUndefined)
