"""Pages for people, each one file: templates in which every value is text unless it is markup of our own."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from ray_trash.terminal.text import percent, percents, points, printable


def page_templates(package: str) -> Environment:
    """Open the templates beside a package's modules; what they print is escaped, and is printable.

    All of them extend `page.html.j2`, which lies beside this module: one head, one style.
    """

    def finalize(value: Any) -> Any:
        return value if hasattr(value, "__html__") else printable(str(value))  # the former is markup already

    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("ray_trash.terminal", ".")])
    templates = Environment(loader=loader, autoescape=True, finalize=finalize, undefined=StrictUndefined)
    templates.filters.update(percent=percent, percents=percents, points=points)
    return templates
