"""The end of `make demo`: serves a checkpoint, scores a batch over HTTP, prints the answers, and stops.

`python -m ray_trash.serve.demo RUN PHOTOS`
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.table import Table

from ray_trash.errors import RayTrashError
from ray_trash.fetch.unknown import unknown_pictures
from ray_trash.image.encode import png_file
from ray_trash.serve.child import endpoint
from ray_trash.serve.client import Client
from ray_trash.terminal.say import Terminal

PER_CLASS = 2
BROKEN = ("no-photo.jpg", b"this is no photo")


def main() -> int:
    """Run the demonstration; returns the exit code."""
    terminal = Terminal.stderr()
    run, root = (Path(argument) for argument in sys.argv[1:3])
    photos = [(name, (root / name).read_bytes()) for name in kept_back(run)]
    nothing = list(of_no_class())
    checkpoint = run / "checkpoint"
    try:
        with endpoint(str(checkpoint)) as child:
            terminal.say(child.said)
            with Client(child.url) as client:
                results = client.score([*photos, *nothing, BROKEN])
    except RayTrashError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    seen = f"{len(photos)} photos that it has not seen, {len(nothing)} of no class, and one that is broken"
    terminal.show(answers(results, title=f"{seen}, in a batch over HTTP"))
    terminal.say("the endpoint has stopped")
    terminal.say(f"  all that was found    {(run / 'report.html').resolve().as_uri()}")
    terminal.say(f"  a page for photos     http://127.0.0.1:8000/ after: ray-trash serve {checkpoint}")
    return 0


def kept_back(run: Path) -> list[str]:
    """Name some photos of each class that the run kept back for testing."""
    of_class: dict[str, list[str]] = defaultdict(list)
    rows = pq.read_table(run / "predictions.parquet", columns=["path", "true_label"])
    for path, label in zip(rows["path"].to_pylist(), rows["true_label"].to_pylist(), strict=True):
        of_class[label].append(path)
    return [path for label in sorted(of_class) for path in sorted(of_class[label])[:PER_CLASS]]


def of_no_class() -> Iterator[tuple[str, bytes]]:
    """Draw a picture of each kind that shows nothing, as PNG files with names."""
    for kind, picture in unknown_pictures(per_kind=1):
        yield f"no class: {kind}.png", png_file(picture)


def answers(results: list[dict[str, Any]], *, title: str) -> Table:
    """Put answers into a table."""
    table = Table("photo", "answer", "confidence", title=title)
    for result in results:
        table.add_row(*_row(result))
    return table


def _row(result: dict[str, Any]) -> Iterator[str]:
    yield result["name"]
    if result["status"] == "ok":
        yield f"not sure ({result['label']}?)" if result["abstained"] else result["label"]
        yield f"{result['confidence']:.0%}"
    else:
        yield f"{result['error']['code']}: {result['error']['message']}"
        yield ""


if __name__ == "__main__":
    sys.exit(main())
