"""Where a run may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.errors import ConfigError
from ray_trash.storage import Storage
from ray_trash.train.run_directory import refuse_data_inside


def test_a_run_whose_folder_holds_the_photos_is_refused_for_overwriting_would_remove_them(tmp_path: Path) -> None:
    photos = tmp_path / "work" / "photos"
    photos.mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "work")
    for run in (photos, photos.parent, tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"would hold data\.root"):
            refuse_data_inside(Storage.at(run), Storage.at(photos))
    for run in (photos / "runs" / "tiny", tmp_path / "work" / "pho", tmp_path / "runs"):
        refuse_data_inside(Storage.at(run), Storage.at(photos))
    bucket = "s3://a:b@bucket/photos?region=us-east-1"
    with pytest.raises(ConfigError, match=r"would hold data\.root"):
        refuse_data_inside(Storage.at(bucket), Storage.at(bucket).child("images"))
    refuse_data_inside(Storage.at(photos), Storage.at(bucket))
