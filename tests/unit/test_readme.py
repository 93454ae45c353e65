"""What the README and the docs name is there; `tests/integration/test_readme.py` runs its quick start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_trash.arguments import build_parser
from ray_trash.config import known_keys

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = "".join(re.findall(r"```console\n(.*?)```", README, re.DOTALL))


def test_make_has_the_targets_the_readme_names():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert f"  {target} " in listed


@pytest.mark.parametrize("line", [line for line in CONSOLE.splitlines() if "ray-trash" in line])
def test_every_other_command_is_one_the_program_takes(line):
    words = line[line.index("ray-trash") :].partition("#")[0].split()
    options = build_parser().parse_args(words[1:])
    if "config" in vars(options):
        assert (ROOT / options.config).exists()


def test_every_key_and_command_of_the_docs_is_one_there_is():
    sections = sorted({key.partition(".")[0] for key in known_keys() if "." in key})
    for path in (ROOT / "docs").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        named = re.findall(rf"`((?:{'|'.join(sections)})\.[a-z_]+)", text)
        assert not [key for key in named if key not in known_keys()], path
        for module in re.findall(r"python -m (benchmarks\.\w+)", text):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()


@pytest.mark.parametrize("program", [[Path(sys.prefix) / "bin" / "ray-trash"], [sys.executable, "-m", "ray_trash"]])
def test_every_documented_command_exists_and_help_answers_at_once(program):
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z]+)", row)}
    answer = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert named == set(re.findall(r"^    ([a-z]+)\s", answer.stdout, re.MULTILINE))
