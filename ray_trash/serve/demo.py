"""The end of `make demo`: serves a checkpoint, scores a batch over HTTP, prints the answers, and stops.

`python -m ray_trash.serve.demo CHECKPOINT PHOTOS`
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ray_trash.errors import RayTrashError
from ray_trash.serve.child import endpoint
from ray_trash.serve.client import Client

PER_CLASS = 2
_BROKEN = ("no-photo.jpg", b"this is no photo")


def main() -> int:
    """Run the demonstration; returns the exit code."""
    console = Console(stderr=True)
    checkpoint, root = sys.argv[1:3]
    files = [file for folder in sorted(Path(root).iterdir()) for file in sorted(folder.glob("*.jpg"))[:PER_CLASS]]
    photos = [(f"{file.parent.name}/{file.name}", file.read_bytes()) for file in files]
    try:
        with endpoint(checkpoint) as child:
            console.print(child.said, markup=False, highlight=False)
            with Client(child.url) as client:
                results = client.score([*photos, _BROKEN])
    except RayTrashError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    table = Table("photo", "answer", "confidence", title="a batch over HTTP, one photo of it broken")
    for result in results:
        if result["status"] == "ok":
            answer = f"not sure ({result['label']}?)" if result["abstained"] else result["label"]
            table.add_row(result["name"], answer, f"{result['confidence']:.0%}")
        else:
            table.add_row(result["name"], f"{result['error']['code']}: {result['error']['message']}", "")
    console.print(table)
    console.print("the endpoint has stopped; start it again with: ray-trash serve", checkpoint, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
