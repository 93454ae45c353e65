"""Reading one file: refused by kind and size before it is opened or read, and its hash as a key."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import fs

from ray_trash.dataset.catalog import CATALOG_SCHEMA, photo_keys, require_usable_classes, require_usable_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError, ImageError
from ray_trash.image.decode import MAX_FILE_BYTES
from ray_trash.image.preprocess import Preprocessing


@pytest.fixture(params=["local", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> PhotoFolder:
    local = PhotoFolder.at(str(tmp_path))
    # Not the local one by type, so that it is read as a remote one is.
    remote = fs.SubTreeFileSystem("/", fs.LocalFileSystem())
    return local if request.param == "local" else PhotoFolder(replace(local.storage, filesystem=remote))


def code(folder: PhotoFolder, name: str) -> str:
    with pytest.raises(ImageError) as caught:
        folder.read(name)
    assert folder.storage.path not in str(caught.value)
    return caught.value.code


def test_a_file_is_read_whole(folder: PhotoFolder, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    assert folder.read("a.jpg") == b"photo"


def test_an_empty_file_has_its_own_code(folder: PhotoFolder, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert code(folder, "a.jpg") == "empty_file"


def test_a_missing_file_is_unreadable(folder: PhotoFolder) -> None:
    with pytest.raises(ImageError, match="cannot be read") as caught:
        folder.read("gone.jpg")
    assert caught.value.code == "unreadable"


def test_the_largest_file_is_read_and_a_larger_one_is_not(folder: PhotoFolder, tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(MAX_FILE_BYTES)
    assert len(folder.read("a.jpg")) == MAX_FILE_BYTES
    os.truncate(tmp_path / "a.jpg", MAX_FILE_BYTES + 1)
    assert code(folder, "a.jpg") == "too_large"


@pytest.mark.timeout(10)
def test_what_is_no_file_is_refused_without_opening(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "folder", "device"):
        assert code(PhotoFolder.at(str(tmp_path)), name) == "not_a_regular_file"


def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    (tmp_path / "a.jpg").chmod(0)
    if os.access(tmp_path / "a.jpg", os.R_OK):
        pytest.skip("this user may read everything")
    assert code(PhotoFolder.at(str(tmp_path)), "a.jpg") == "unreadable"


def test_a_photo_that_is_not_what_it_was_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    photo = (tmp_path / "a.png").read_bytes()
    folder, preprocessing = PhotoFolder.at(str(tmp_path)), Preprocessing(8, 8, "stretch")
    assert folder.load("a.png", preprocessing, sha256=hashlib.sha256(photo).hexdigest()).shape == (8, 8, 3)
    with pytest.raises(DataError, match=r"a\.png: changed since it was catalogued"):
        folder.load("a.png", preprocessing, sha256="0" * 64)
    (tmp_path / "a.png").write_bytes(photo[:20])
    with pytest.raises(DataError, match=r"a\.png: changed since it was catalogued \(truncated: "):
        folder.load("a.png", preprocessing)


def table(*rows: dict[str, object]) -> pa.Table:
    defaults = {"verdict": "accepted"}
    numbered = [{"row": number, "path": f"{number}.jpg", **defaults, **row} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=CATALOG_SCHEMA)


def test_keys_are_the_first_eight_bytes_of_the_hash() -> None:
    keys = photo_keys(table({"sha256": "0123456789abcdef" + "0" * 48}, {"sha256": "f" * 64}))
    assert keys.dtype == np.uint64
    assert keys.tolist() == [0x0123456789ABCDEF, 2**64 - 1]


def test_a_class_without_usable_photo_is_named_with_what_was_rejected() -> None:
    catalog = table({"label": "glass"}, {"label": "paper"}, {"label": "metal", "verdict": "rejected"})
    require_usable_classes(catalog, ["glass", "paper"])
    with pytest.raises(DataError, match=r"no usable photo of 'metal' \(1 rejected\), 'wood' \(0 rejected\)"):
        require_usable_classes(catalog, ["glass", "metal", "paper", "wood"])


def test_photos_of_which_none_can_be_used_are_named_by_kind_and_with_what_to_do() -> None:
    heic = "the file is a HEIC picture; to read it, pip install 'ray-trash[heic]', or save it as JPEG"
    refused = {"verdict": "rejected", "reason": "unsupported_format"}
    other: dict[str, object] = {**refused, "message": "the file is a text file; supported are"}
    bad: list[dict[str, object]] = [{**refused, "path": f"{name}.HEIC", "message": heic} for name in "abc"]
    catalog = table(*bad, {"path": "d.json", **other}, {"path": "e.aae", **other}, {"verdict": "ignored"})
    with pytest.raises(DataError) as caught:
        require_usable_photos(catalog)
    assert str(caught.value) == (
        f"data.root: no photo can be used; 5 rejected: 3 HEIC, 1 JSON, 1 AAE; such as 'a.HEIC': {heic}"
    )
    require_usable_photos(table({"verdict": "accepted"}))
