"""YAML 1.2 text to plain values and back, and a config file's text with only some keys changed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from ray_trash.errors import ConfigError

_LONGEST_LINE = 4096
"""Lines are never broken: what changed is then all that differs."""

_ADVICE = {
    r"found character '\t'": "indent with spaces, not with tabs",
    "unknown escape character": "in double quotes a backslash must stand twice, in single quotes once",
}
"""What to do, by what ruamel says."""


def from_yaml(text: str, where: str, *, values: Literal["typed", "text"] = "typed") -> Any:
    """Read YAML, of which JSON is a part: `1e-3` is a number, `on` a word, and no key may stand twice.

    As `text`, every value is the text that was written: `1e-3`, `01` and `null` are words.

    Raises:
        ConfigError: The text is no YAML; the line is named where it is known.
    """
    try:
        return YAML(typ="safe" if values == "typed" else "base", pure=True).load(text)
    except DuplicateKeyError as error:
        key, lines = next(_twins(YAML(typ="safe", pure=True).compose(text)))
        raise ConfigError(f"{where}: {key!r} stands twice, in lines {lines[0]} and {lines[1]}; make it one") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: is nested too deeply") from error
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        line = f" line {mark.line + 1}" if mark is not None else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        advice = next((f"; {advice}" for words, advice in _ADVICE.items() if words in problem), "")
        raise ConfigError(f"{where}:{line} is not valid YAML: {problem}{advice}") from error


def _twins(node: Node) -> Iterator[tuple[str, tuple[int, int]]]:
    if isinstance(node, MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if first.setdefault(str(key.value), line) != line:
                yield str(key.value), (first[str(key.value)], line)
            yield from _twins(value)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            yield from _twins(value)


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
