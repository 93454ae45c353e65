from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ray_trash.config import ImageConfig
from ray_trash.errors import ImageError
from ray_trash.image.preprocess import IMAGENET_MEAN, Preprocessing, fit_photo, load_photo
from tests.corpus import image_corpus
from tests.encoded import blank_png_of, encode, exif, jpeg, smooth_photo

STRETCH = Preprocessing(size_px=48, stored_short_side_px=64, fit="stretch")
CROP = Preprocessing(size_px=48, stored_short_side_px=64, fit="crop")


def load(photo: np.ndarray, preprocessing: Preprocessing = STRETCH) -> np.ndarray:
    return load_photo(encode(photo, "PNG"), preprocessing)


def test_the_short_side_comes_down_and_the_shape_stays():
    assert load(smooth_photo(512, 384)).shape == (64, 85, 3)
    assert load(smooth_photo(384, 512)).shape == (85, 64, 3)


def test_a_small_photo_is_kept_as_it_is():
    np.testing.assert_array_equal(load(smooth_photo(80, 50)), smooth_photo(80, 50))
    np.testing.assert_array_equal(load(smooth_photo(1, 1)), smooth_photo(1, 1))


def test_a_long_photo_loses_its_ends_around_the_centre():
    np.testing.assert_array_equal(load(smooth_photo(600, 10)), smooth_photo(600, 10)[:, 280:320])
    np.testing.assert_array_equal(load(smooth_photo(10, 600)), smooth_photo(10, 600)[280:320])
    long = load(smooth_photo(2000, 128))
    middle = np.asarray(Image.fromarray(smooth_photo(2000, 128)[:, 744:1256]).resize((256, 64)))
    assert long.shape == (64, 256, 3)
    assert np.abs(long.astype(int) - middle).max() <= 3


def test_extreme_shapes_stay_small():
    corpus = image_corpus()
    assert load_photo(corpus["60000x2.png"].encoded, STRETCH).shape == (2, 8, 3)
    assert load_photo(corpus["2x60000.jpg"].encoded, STRETCH).shape == (8, 2, 3)
    assert load_photo(corpus["4000x1.png"].encoded, STRETCH).shape == (1, 4, 3)


def test_the_largest_photo_that_is_accepted_comes_out_small():
    photo = load_photo(blank_png_of(8900, 8900), STRETCH)
    assert photo.shape == (64, 64, 3)
    assert photo.max() == 0


def test_a_turned_photo_loads_as_the_upright_one():
    upright = Image.fromarray(smooth_photo(512, 384))
    turned = encode(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif(6))
    np.testing.assert_array_equal(load_photo(turned, STRETCH), load(smooth_photo(512, 384)))


def test_lossless_files_of_one_photo_load_the_same():
    photo = smooth_photo(300, 200)
    files = [
        encode(photo, "PNG"),
        encode(photo, "BMP"),
        encode(photo, "TIFF", compression="tiff_lzw"),
        encode(photo, "WEBP", lossless=True),
        encode(np.dstack([photo, np.full((200, 300), 255, np.uint8)]), "PNG"),
    ]
    first, *others = (load_photo(file, STRETCH) for file in files)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_jpeg_decoded_smaller_loads_nearly_as_decoded_whole():
    photo = smooth_photo(1600, 1200)
    difference = load_photo(jpeg(photo), STRETCH).astype(int) - load(photo)
    assert np.abs(difference).max() <= 4


def test_a_loaded_photo_can_be_written_to():
    for photo in (load(smooth_photo(512, 384)), load(smooth_photo(600, 10)), load(smooth_photo())):
        assert photo.flags.writeable
        assert photo.flags.c_contiguous


def test_a_bad_photo_is_an_image_error():
    with pytest.raises(ImageError) as caught:
        load_photo(b"", STRETCH)
    assert caught.value.code == "empty_file"


def test_stretch_keeps_the_whole_photo_and_crop_its_middle():
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 20:60] = 200
    stretched, cropped = fit_photo(halves, STRETCH), fit_photo(halves, CROP)
    assert stretched.shape == cropped.shape == (48, 48, 3)
    assert stretched[24, :, 0].tolist().count(200) == pytest.approx(24, abs=2)
    assert (cropped == 200).all()


def test_a_photo_of_the_right_size_is_unchanged():
    np.testing.assert_array_equal(fit_photo(smooth_photo(48, 48), STRETCH), smooth_photo(48, 48))


def test_another_size_can_be_asked_for():
    assert fit_photo(smooth_photo(), CROP, size_px=20).shape == (20, 20, 3)


def test_shrinking_averages_instead_of_picking():
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, ::2] = 255
    fitted = fit_photo(stripes, Preprocessing(size_px=12, stored_short_side_px=64, fit="stretch"))
    assert np.abs(fitted.astype(int) - 127).max() <= 20


def test_preprocessing_is_that_of_the_config_with_the_statistics_of_imagenet():
    config = ImageConfig(size_px=48, stored_short_side_px=64, fit="crop")
    assert Preprocessing.from_config(config) == CROP
    assert CROP.mean == IMAGENET_MEAN
