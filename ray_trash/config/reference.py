"""What a config may hold, for editors and for people: its JSON Schema, and a table of every key.

`configs/schema.json` and `docs/config.md` are what these give; tests keep them so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from ray_trash.config.section import Needs, Section
from ray_trash.config.tree import Config

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
"""By the names of pydantic's constraints."""
_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file; a relation between keys, such as `Needs`, is not in it."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A config of ray-trash"}


def schema_text() -> str:
    """Render the schema as `configs/schema.json` holds it."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def key_table() -> str:
    """Describe every key in Markdown: a table for each section."""
    lines = [
        "# Every key of a config",
        "",
        "Made by `ray-trash config --keys`. A key that is left out has its default; one that is unknown, out of range,",
        "or without effect beside the others is refused by name. `--set section.key=value` changes one for a command.",
        "",
    ]
    for title, fields in _sections(Config):
        lines += [f"## {title}", "", "| key | default | takes | meaning |", "|---|---|---|---|"]
        lines += [_row(key, field) for key, field in fields]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _sections(model: type[BaseModel], name: str = "") -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    fields, below = [], []
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            below.append((key, field.annotation))
        else:
            fields.append((f"{name}.{key}" if name else key, field))
    yield name or "The run", fields
    for key, section in below:
        yield from _sections(section, key)


def _row(key: str, field: FieldInfo) -> str:
    needs = [need.what for need in field.metadata if isinstance(need, Needs)]
    meaning = " ".join((field.description or "").split())
    if needs:
        meaning += f" Needs {needs[0]}."
    default = "required" if field.is_required() else _value(field.default)
    return (
        "| " + " | ".join(map(_cell, (f"`{key}`", default, _takes(field.annotation, field.metadata), meaning))) + " |"
    )


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`"


def _takes(annotation: Any, metadata: Any = ()) -> str:
    """Say what a key takes, with its range."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        parts = ["`null`" if part is NoneType else _takes(part, metadata) for part in arguments]
        return " or ".join(dict.fromkeys(parts))
    if origin is Literal:
        return ", ".join(f"`{_word(word)}`" for word in arguments)
    if origin is tuple:
        return f"list of: {_takes(arguments[0])}{_range(metadata)}"
    if origin is dict:
        return f"mapping of key to {_takes(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return " or ".join(f"`{name}: ...`" for name in annotation.model_fields)
    return _WORDS.get(annotation, "value") + _range(metadata)


def _word(word: Any) -> str:
    return word if isinstance(word, str) else json.dumps(word)


def _range(metadata: Any) -> str:
    said = list(_bounds(metadata))
    return f", {' and '.join(said)}" if said else ""


def _bounds(metadata: Any) -> Iterator[str]:
    for constraint in metadata:
        if isinstance(constraint, FieldInfo):
            yield from _bounds(constraint.metadata)
        elif isinstance(constraint, StringConstraints) and constraint.pattern:
            yield f"matching `{constraint.pattern}`"
        else:
            yield from (
                f"{word} {getattr(constraint, name)}" for name, word in _BOUNDS.items() if hasattr(constraint, name)
            )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
