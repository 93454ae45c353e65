"""`python -m ray_trash` is the `ray-trash` command."""

import sys

from ray_trash.cli import main

if __name__ == "__main__":
    sys.exit(main())
