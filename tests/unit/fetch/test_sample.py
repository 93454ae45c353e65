from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.fetch.sample import CLASSES, HEIGHT_PX, WIDTH_PX, render_photo, render_sample

PER_CLASS = 12


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Decoded photos, (classes, PER_CLASS, height, width, 3) uint8."""
    return np.stack(
        [
            [
                np.asarray(Image.open(io.BytesIO(render_photo(label, number, seed=3))))
                for number in range(1, PER_CLASS + 1)
            ]
            for label in CLASSES
        ]
    )


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def held_out_accuracy_of_nearest_centroid(features: np.ndarray) -> float:
    """Fit on the first half of every class and score the other; features are (classes, n, d)."""
    half = features.shape[1] // 2
    centroids = features[:, :half].mean(axis=1)
    held_out = features[:, half:]
    distances = np.square(held_out[:, :, None] - centroids).sum(axis=-1)
    return float((distances.argmin(axis=-1) == np.arange(len(features))[:, None]).mean())


def test_every_class_decodes_to_photos_of_the_stated_size(photos):
    assert CLASSES == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert photos.shape == (6, PER_CLASS, HEIGHT_PX, WIDTH_PX, 3)
    assert photos.std(axis=(2, 3, 4)).min() > 5


def test_a_photo_depends_on_seed_class_and_number_alone():
    photo = render_photo("glass", 2, seed=1)
    assert render_photo("glass", 2, seed=1) == photo
    others = {
        render_photo("glass", 3, seed=1),
        render_photo("glass", 2, seed=2),
        render_photo("metal", 2, seed=1),
    }
    assert photo not in others
    assert len(others) == 3


def test_colour_alone_does_not_give_the_class_away(photos):
    mean_colour = photos.mean(axis=(2, 3))
    assert held_out_accuracy_of_nearest_centroid(mean_colour) <= 0.45


def test_the_background_alone_does_not_give_the_class_away(photos):
    corners = np.concatenate(
        [photos[:, :, :40, :40].mean(axis=(2, 3)), photos[:, :, -40:, -40:].mean(axis=(2, 3))],
        axis=-1,
    )
    assert held_out_accuracy_of_nearest_centroid(corners) <= 0.45


def test_asking_again_for_more_keeps_the_earlier_photos(tmp_path):
    assert render_sample(tmp_path / "set", per_class=1) == dict.fromkeys(CLASSES, 1)
    before = contents(tmp_path / "set")
    assert render_sample(tmp_path / "set", per_class=2) == dict.fromkeys(CLASSES, 2)
    after = contents(tmp_path / "set")
    assert before.items() <= after.items()
    assert len(after) == 12


def test_a_missing_photo_is_rendered_again_and_a_killed_write_is_passed_over(tmp_path):
    render_sample(tmp_path, per_class=1)
    before = contents(tmp_path)
    (tmp_path / "glass/glass0001.jpg").rename(tmp_path / "glass/.glass0001.jpg.k3fa_2")
    assert render_sample(tmp_path, per_class=1)["glass"] == 1
    assert (tmp_path / "glass/glass0001.jpg").read_bytes() == before["glass/glass0001.jpg"][0]


@pytest.mark.parametrize("name", ["notes.txt", "glass/holiday.jpg", "wood/wood0001.jpg", "empty/"])
def test_a_folder_with_something_else_in_it_is_refused_untouched(tmp_path, name):
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"holds {name.split('/')[0]}.*give a new or empty folder"):
        render_sample(tmp_path, per_class=1)
    assert contents(tmp_path) == before


def test_a_sample_of_another_seed_or_a_foreign_photo_of_that_name_is_refused(tmp_path):
    render_sample(tmp_path, per_class=1, seed=0)
    with pytest.raises(DataError, match="not of the sample with seed 1"):
        render_sample(tmp_path, per_class=1, seed=1)
    (tmp_path / "metal/metal0001.jpg").write_bytes(b"not a photo")
    with pytest.raises(DataError, match=r"metal/metal0001\.jpg is not of the sample with seed 0"):
        render_sample(tmp_path, per_class=1, seed=0)


def test_a_destination_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is not a folder"):
        render_sample(tmp_path / "file", per_class=1)
    with pytest.raises(StorageError):
        render_sample(tmp_path / "file/below", per_class=1)


@pytest.mark.parametrize("arguments", [{"per_class": 0}, {"per_class": 10_000}, {"seed": -1}])
def test_numbers_out_of_range_are_named(tmp_path, arguments):
    with pytest.raises(ConfigError, match="give"):
        render_sample(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()
