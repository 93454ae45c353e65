"""`run` with a folder of photos in place of a config; `tests/integration/test_readme.py` follows one to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.arguments import build_parser
from ray_trash.commands.first_use import names_photos
from ray_trash.errors import ConfigError
from ray_trash.terminal.say import Terminal


def test_folders_uris_and_parquet_files_are_photos_and_all_else_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "photos.yaml").mkdir()
    assert names_photos(str(tmp_path))
    assert names_photos("s3://bucket/photos")
    assert names_photos("photos.parquet")
    for config in ("configs/quickstart.yaml", "s3://bucket/run/config.json", str(tmp_path / "photos.yaml"), "nothing"):
        assert not names_photos(config)


def test_minutes_are_for_photos_and_more_than_none() -> None:
    options = build_parser().parse_args(["run", "configs/quickstart.yaml", "--minutes", "3"])
    with pytest.raises(ConfigError, match=r"--minutes: is for a folder of photos; a config has train\.time_budget_min"):
        options.action(options, Terminal.silent())
    for wrong in ("0", "-1", "inf", "soon"):
        with pytest.raises(ConfigError, match="--minutes"):
            build_parser().parse_args(["run", "photos", "--minutes", wrong])
