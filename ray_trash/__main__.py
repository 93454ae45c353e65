"""`python -m ray_trash` is the `ray-trash` command."""

from ray_trash.cli import command

if __name__ == "__main__":
    command()
