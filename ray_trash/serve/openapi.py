"""What OpenAPI cannot read off the code: bodies of several types, and the answers that are none."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import ProblemBody
from ray_trash.serve.parsing import ANY_TYPE, FIELD, IMAGE_TYPES

DESCRIPTION = files("ray_trash.serve.web").joinpath("api.md").read_text("utf-8")
"""Of the whole interface, as Markdown."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers that are none."""
    return {status: {"model": ProblemBody} for status in statuses}


def parameters(settings: ServeConfig) -> list[dict[str, Any]]:
    """Describe what the query of `POST /v1/score` may hold."""
    what = "Whether each answer comes with `map_png`, what it looked at"
    schema: dict[str, Any] = {"type": "boolean", "default": False}
    if not settings.explain:
        what += "; off here: `true` is refused, 400 `explain_off`"
        schema["enum"] = [False]
    return [{"name": "explain", "in": "query", "required": False, "description": what, "schema": schema}]


def request_body(settings: ServeConfig) -> dict[str, Any]:
    """Describe what `POST /v1/score` takes."""
    photo: dict[str, Any] = {"type": "string", "format": "binary"}
    name = {"type": "string", "description": "cut to 1024 characters"}
    named = _object("data", {"name": name, "data": {"type": "string", "contentEncoding": "base64"}})
    schemas = {
        "multipart/form-data": _object(FIELD, {FIELD: {"type": "array", "minItems": 1, "items": photo}}),
        "application/json": _object(FIELD, {FIELD: {"type": "array", "minItems": 1, "items": named}}),
        **dict.fromkeys((*IMAGE_TYPES, ANY_TYPE), photo),
    }
    return {
        "description": f"1 to {settings.max_batch_images} photos, {settings.max_body_mib:g} MiB at most; 413 beyond",
        "required": True,
        "content": {kind: {"schema": schema} for kind, schema in schemas.items()},
    }


def _object(required: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [required], "properties": properties, "additionalProperties": False}
