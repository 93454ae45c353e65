"""What OpenAPI cannot read off the code: bodies of several types, and the answers that are none."""

from __future__ import annotations

from typing import Any

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import ProblemBody
from ray_trash.serve.parsing import FIELD, IMAGE_TYPES

DESCRIPTION = """
Photos go in, labels come out, in the order of the photos. A photo that cannot be used gets an error of its own and the
others get their answers. Several photos as a form, one as it is, and one as JSON in base64:

```
curl -F images=@a.jpg -F images=@b.jpg http://127.0.0.1:8000/v1/score
```
```
curl -H 'Content-Type: image/jpeg' --data-binary @a.jpg http://127.0.0.1:8000/v1/score
```
```
printf '{"images": [{"name": "a.jpg", "data": "%s"}]}' "$(base64 < a.jpg | tr -d '\\n')" |
  curl -H 'Content-Type: application/json' --data-binary @- http://127.0.0.1:8000/v1/score
```

Where the endpoint asks for a key, add `-H "Authorization: Bearer $RAY_TRASH_API_KEY"`. The upload page is [here](./).
"""
"""Of the whole interface, as Markdown."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe answers that are none."""
    return {status: {"model": ProblemBody} for status in statuses}


def request_body(settings: ServeConfig) -> dict[str, Any]:
    """Describe what `POST /v1/score` takes."""
    photo: dict[str, Any] = {"type": "string", "format": "binary"}
    name = {"type": "string", "description": "cut to 1024 characters"}
    images: dict[str, Any] = {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["data"],
            "properties": {"name": name, "data": {"type": "string", "contentEncoding": "base64"}},
            "additionalProperties": False,
        },
    }
    form = {"type": "array", "minItems": 1, "items": photo}
    taken = {"multipart/form-data": _object_of_photos(form), "application/json": _object_of_photos(images)}
    schemas = {**taken, **dict.fromkeys(IMAGE_TYPES, photo)}
    return {
        "description": f"1 to {settings.max_batch_images} photos, {settings.max_body_mib:g} MiB at most; 413 beyond",
        "required": True,
        "content": {kind: {"schema": schema} for kind, schema in schemas.items()},
    }


def _object_of_photos(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [FIELD], "properties": {FIELD: schema}, "additionalProperties": False}
