"""Exit codes and messages as a shell sees them; `tests/integration/test_command.py` has the rest of the mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command import run
from tests.photos import make_photos
from tests.runs import error_line, write_config


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("train.epoch=3", 2, "did you mean train.epochs?"),
        ("train.workers=64", 6, "the cluster has"),
    ],
)
def test_a_mistake_before_and_after_rays_start_is_one_line_and_its_exit_code(
    change: str, code: int, words: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, make_photos(tmp_path / "photos", 2))
    result = run("train", config, "--set", change, RAY_TRASH_TRACEBACK="")
    assert result.returncode == code, result.stderr
    assert words in error_line(result.stderr)
    assert not (tmp_path / "runs").exists()
