from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.split import make_rule
from ray_trash.plan import sides
from ray_trash.plan.sides import count_sides
from tests.photos import make_photos, put


def test_sides_by_content_are_counted_as_the_split_will_have_them(tmp_path: Path) -> None:
    listing = list_photos(str(make_photos(tmp_path, 40)))
    counts = count_sides(listing, make_rule("stratified", 0.2, 0.1, listing))
    assert counts.train + counts.val + counts.test == 120
    assert counts.about
    assert 10 <= counts.val <= 38
    assert counts == count_sides(listing, make_rule("stratified", 0.2, 0.1, listing))


def test_sides_of_folders_are_counted_exactly_though_nothing_is_decoded(tmp_path: Path) -> None:
    names = [
        f"{side}/{label}/{n}.jpg" for side, most in (("train", 8), ("val", 3)) for label in "ab" for n in range(most)
    ]
    listing = list_photos(str(put(tmp_path, *names)))
    counts = count_sides(listing, make_rule("auto", 0.15, 0.15, listing))
    assert (counts.train, counts.val, counts.test, counts.about) == (16, 6, 0, False)


def test_of_many_files_some_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "COUNTED_AT_MOST", 100)
    names = [f"{label}/{n:04d}.jpg" for label in "ab" for n in range(500)]
    listing = list_photos(str(put(tmp_path, *names)))
    monkeypatch.setattr(sides, "READ_AT_MOST_BYTES", 0)  # by names instead
    counts = count_sides(listing, make_rule("grouped", 0.2, 0.2, listing))
    assert counts.train + counts.val + counts.test == pytest.approx(1000, abs=2)
    assert 450 <= counts.train <= 750
