from __future__ import annotations

import ast
import re
import subprocess
import tomllib
import warnings
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ray_trash import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.txt").read_text()
MODULES = sorted((ROOT / "ray_trash").rglob("*.py"))


def locked() -> list[Requirement]:
    return [Requirement(line.rstrip(" \\")) for line in re.findall(r"^[a-z0-9].*$", LOCK, re.MULTILINE)]


def does_work(node: ast.stmt) -> bool:
    """Whether a statement at the top of a module does more than define names."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        guard = ast.unparse(node.test)
        return guard not in ("TYPE_CHECKING", "__name__ == '__main__'")
    if isinstance(node, ast.With):
        # How `ray_trash.model.resnet` imports torchvision.
        return ast.unparse(node.items[0].context_expr) != "_compiler_left_out()"
    definitions = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign)
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return not isinstance(node, definitions + scopes)


def test_a_test_has_the_marker_of_its_folder(request):
    levels = ("unit", "integration", "e2e")
    assert [level for level in levels if request.node.get_closest_marker(level)] == ["unit"]


def test_a_warning_in_a_unit_test_is_an_error():
    with pytest.raises(UserWarning, match="careful"):
        warnings.warn("careful", stacklevel=1)


def test_importing_a_module_does_no_work():
    assert len(MODULES) > 10
    assert not [
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if does_work(node)
    ]


def test_no_module_is_a_drawer():
    drawers = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
    assert not [path for path in MODULES if {path.stem, path.parent.name} & drawers]


def test_the_version_is_said_once():
    assert PROJECT["version"] == __version__


def test_the_lock_meets_every_requirement_of_the_project():
    versions = {canonicalize_name(pin.name): str(next(iter(pin.specifier)).version) for pin in locked()}
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(text) for text in sum(extras, PROJECT["dependencies"])]
    missing = [wish for wish in wanted if canonicalize_name(wish.name) not in versions]
    assert not missing
    assert not [wish for wish in wanted if not wish.specifier.contains(versions[canonicalize_name(wish.name)])]


def test_every_package_of_the_lock_is_pinned_and_hashed():
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)
    assert len(blocks) == len(locked())
    for block in blocks:
        assert re.match(r"[\w.\[\],-]+==[\w.]+ ", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_names_no_address_and_no_path():
    assert not re.findall(r"\S*(?:://|--index|--find-links|/home/|/tmp/)\S*", LOCK)


def test_make_help_lists_every_target():
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"^ +(\w+) ", told.stdout, re.MULTILINE)) == sorted(phony.split())
