"""YAML 1.2 text to plain values and back, and a config file's text with only some keys changed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ray_trash.errors import ConfigError

_LONGEST_LINE = 4096
"""Lines are never broken: what changed is then all that differs."""


def from_yaml(text: str, where: str) -> Any:
    """Read YAML, of which JSON is a part: `1e-3` is a number, `on` a word, and no key may stand twice.

    Raises:
        ConfigError: The text is no YAML; the line is named where it is known.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise ConfigError(f"{where}:{line} is not valid YAML: {problem}") from error


def render_yaml(tree: Mapping[str, Any]) -> str:
    """Write plain values as YAML, in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = _LONGEST_LINE
    out = io.StringIO()
    yaml.dump(dict(tree), out)
    return out.getvalue()


def config_with(text: str, changes: Mapping[str, Any]) -> str:
    """Return the text of a config file with some dotted keys changed or added; comments and order stay."""
    yaml = YAML()
    yaml.width = _LONGEST_LINE
    yaml.preserve_quotes = True
    tree = yaml.load(text)
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            if node.get(section) is None:
                node[section] = CommentedMap()
            node = node[section]
        node[leaf] = value
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
