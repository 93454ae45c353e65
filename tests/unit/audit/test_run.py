"""Few photos are read, grouped, split and reported on without a cluster."""

from __future__ import annotations

import shutil
from pathlib import Path

from ray_trash.audit.run import PREPROCESSING, audit_photos
from ray_trash.cluster.here import is_connected
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.photo_set import read_photo_set
from ray_trash.dataset.split import make_rule
from tests.bursts import write_bursts


def test_copies_and_shots_of_a_few_photos_are_found_without_a_cluster(tmp_path: Path) -> None:
    first, *_ = write_bursts(tmp_path, 3)
    shutil.copy(tmp_path / first[0], tmp_path / "paper" / "copy.jpg")
    (tmp_path / "glass" / "bad.jpg").write_bytes(b"no photo")
    listing = list_photos(str(tmp_path))
    photo_set = read_photo_set(listing, PREPROCESSING, make_rule("grouped", 0.3, 0.3, listing))
    found = audit_photos(photo_set, balance="")
    assert not is_connected()
    assert found["counts"] == {"seen": 14, "accepted": 13, "rejected": 1, "ignored": 0}
    assert found["exact_duplicates"] == [[first[0], "paper/copy.jpg"]]
    assert any(set(first[:2]) <= set(group) for group in found["near_duplicates"])
    assert sum(side["n"] for side in found["splits"].values()) == 13
