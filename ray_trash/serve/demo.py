"""The end of `make demo`: serves a checkpoint, scores a batch over HTTP, prints the answers, and stops.

`python -m ray_trash.serve.demo CHECKPOINT PHOTOS`
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.table import Table

from ray_trash.errors import RayTrashError
from ray_trash.serve.child import endpoint
from ray_trash.serve.client import Client
from ray_trash.terminal.say import Terminal

PER_CLASS = 2
_BROKEN = ("no-photo.jpg", b"this is no photo")


def main() -> int:
    """Run the demonstration; returns the exit code."""
    terminal = Terminal.stderr()
    checkpoint, root = sys.argv[1:3]
    files = [file for folder in sorted(Path(root).iterdir()) for file in sorted(folder.glob("*.jpg"))[:PER_CLASS]]
    photos = [(f"{file.parent.name}/{file.name}", file.read_bytes()) for file in files]
    try:
        with endpoint(checkpoint) as child:
            terminal.say(child.said)
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
    terminal.show(table)
    terminal.say(f"the endpoint has stopped; start it again with: ray-trash serve {checkpoint}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
