"""The catalog: every file once, every bad photo by name, none lost with another."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.catalog import CATALOG_SCHEMA, fingerprint
from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.scan import build_catalog
from ray_trash.errors import DataError
from ray_trash.image.preprocess import Preprocessing, load_photo
from tests.corpus import image_corpus
from tests.photos import make_photos
from tests.s3 import Bucket

pytestmark = pytest.mark.usefixtures("ray_cluster")

PREPROCESSING = Preprocessing(size_px=32, stored_short_side_px=40, fit="stretch")


def catalogue(root: Path | str, *, keep_pixels: bool = False) -> tuple[pa.Table, list[dict[str, Any]] | None]:
    looked_at = build_catalog(list_photos(str(root)), PREPROCESSING, keep_pixels=keep_pixels)
    if looked_at.decoded is None:
        return looked_at.catalog, None
    blocks = [fetch(block, what="the decoded photos") for block in looked_at.decoded]
    return looked_at.catalog, [row for block in blocks for row in block.to_pylist()]


def by_path(catalog: pa.Table) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in catalog.to_pylist()}


def test_the_whole_corpus_gets_its_verdicts_and_pixels_and_no_photo_takes_another_along(tmp_path: Path) -> None:
    corpus = image_corpus()
    make_photos(tmp_path, 3)
    (tmp_path / "corpus").mkdir()
    for name, image in corpus.items():
        (tmp_path / "corpus" / name).write_bytes(image.encoded)
    catalog, pixels = catalogue(tmp_path, keep_pixels=True)
    rows = by_path(catalog)
    assert len(rows) == len(corpus) + 9
    for name, image in corpus.items():
        row = rows[f"corpus/{name}"]
        assert row["reason"] == image.code, (name, row)
        assert (row["verdict"], row["message"] is None) == (
            ("accepted", True) if image.code is None else ("rejected", False)
        )
        assert row["size_bytes"] == len(image.encoded)
        if image.code not in ("empty_file", "too_large"):
            assert row["sha256"] == hashlib.sha256(image.encoded).hexdigest()
    assert pixels is not None
    stored = {photo["row"]: photo for photo in pixels}
    accepted = [row for row in catalog.to_pylist() if row["verdict"] == "accepted"]
    assert list(stored) == [row["row"] for row in accepted]
    for row in accepted:
        photo = stored[row["row"]]
        expected = load_photo((tmp_path / row["path"]).read_bytes(), PREPROCESSING)
        found = np.frombuffer(photo["pixels"], np.uint8).reshape(photo["height"], photo["width"], 3)
        assert np.array_equal(found, expected), row["path"]
        assert (row["height"], row["width"]) == expected.shape[:2]


def test_ignored_and_rejected_files_have_their_rows_in_the_order_of_paths(tmp_path: Path) -> None:
    make_photos(tmp_path, 2)
    (tmp_path / "LICENSE").touch()
    (tmp_path / "glass/.DS_Store").touch()
    (tmp_path / "glass/gone.jpg").symlink_to("nowhere")
    (tmp_path / "glass/empty.jpg").touch()
    os.mkfifo(tmp_path / "paper/pipe.jpg")
    catalog, pixels = catalogue(tmp_path)
    assert pixels is None
    assert catalog.schema == CATALOG_SCHEMA
    paths = catalog["path"].to_pylist()
    assert paths == sorted(paths)
    assert catalog["row"].to_pylist() == list(range(len(paths)))
    assert Counter(catalog["verdict"].to_pylist()) == {"accepted": 6, "rejected": 3, "ignored": 2}
    reasons = {path: row["reason"] for path, row in by_path(catalog).items() if row["reason"]}
    assert reasons == {
        "LICENSE": "not in a class folder",
        "glass/.DS_Store": "hidden or system file",
        "glass/empty.jpg": "empty_file",
        "glass/gone.jpg": "unreadable",
        "paper/pipe.jpg": "not_a_regular_file",
    }
    saved = io.BytesIO()
    pq.write_table(catalog, saved)
    assert pq.read_table(saved).equals(catalog)


@pytest.mark.timeout(60)
def test_files_that_change_after_the_listing_are_rejected_one_by_one(tmp_path: Path) -> None:
    make_photos(tmp_path, 4)
    listing = list_photos(str(tmp_path))
    (tmp_path / "glass/000.jpg").unlink()
    (tmp_path / "glass/001.jpg").unlink()
    os.mkfifo(tmp_path / "glass/001.jpg")
    (tmp_path / "glass/002.jpg").write_bytes(b"")
    catalog = build_catalog(listing, PREPROCESSING).catalog
    reasons = {path: row["reason"] for path, row in by_path(catalog).items() if row["reason"]}
    assert reasons == {
        "glass/000.jpg": "unreadable",
        "glass/001.jpg": "not_a_regular_file",
        "glass/002.jpg": "empty_file",
    }


def test_a_name_that_is_not_utf8_is_read_and_written_as_text(tmp_path: Path) -> None:
    make_photos(tmp_path, 1)
    os.rename(tmp_path / "glass/000.jpg", os.path.join(os.fsencode(tmp_path), b"glass", b"\xff\n\\xff.jpg"))
    row = by_path(catalogue(tmp_path)[0])["glass/\\xff\n\\x5cxff.jpg"]
    assert row["verdict"] == "accepted"


def test_a_set_without_usable_photo_has_a_catalog_and_no_pixels(tmp_path: Path) -> None:
    (tmp_path / "glass").mkdir()
    (tmp_path / "glass/a.jpg").write_bytes(b"no photo")
    catalog, pixels = catalogue(tmp_path, keep_pixels=True)
    assert catalog["verdict"].to_pylist() == ["rejected"]
    assert pixels == []


def test_photos_on_s3_give_the_same_catalog_as_on_disk(bucket: Bucket, tmp_path: Path) -> None:
    local = make_photos(tmp_path / "set", 3)
    (local / "glass/empty.jpg").touch()
    (local / "glass/text.jpg").write_bytes(b"no photo")
    (local / "glass/._a.jpg").write_bytes(b"junk")
    (local / "paper/odd \\x41 caf\u00e9 +%20.jpg").write_bytes((local / "paper/000.jpg").read_bytes())
    (local / "README").write_text("stray")
    fs.copy_files(str(local), f"{bucket.name}/set", destination_filesystem=bucket.filesystem)
    # As consoles do: empty objects that stand for folders.
    for folder in ("", "glass/", "tin/"):
        bucket.put(f"set/{folder}", b"")
    (local / "tin").mkdir()
    remote, remote_pixels = catalogue(bucket.uri("set"), keep_pixels=True)
    found, pixels = catalogue(local, keep_pixels=True)
    assert remote.drop_columns("message").equals(found.drop_columns("message"))
    assert fingerprint(remote) == fingerprint(found)
    assert pixels
    assert remote_pixels == pixels


def test_a_name_on_s3_that_cannot_be_opened_is_rejected_and_takes_no_other_along(bucket: Bucket) -> None:
    for key in ("set/glass/a.jpg", "set//paper/b.jpg", "set/paper//c.jpg", "set/paper/d.jpg", "set/paper_$folder$"):
        bucket.put(key, b"photo")
    listing = list_photos(bucket.uri("set"))
    assert listing.classes == ("glass", "paper")
    assert listing.files["path"].to_pylist() == ["glass/a.jpg", "paper/d.jpg"]
    rejected = dict.fromkeys(["/paper/b.jpg", "paper//c.jpg"], "unreadable")
    assert dict(rows_in(listing.rejected, "path", "reason")) == rejected
    assert listing.ignored["path"].to_pylist() == ["paper_$folder$"]


def test_a_missing_folder_on_s3_names_the_key(bucket: Bucket) -> None:
    with pytest.raises(DataError, match=r"data\.root: .*does not exist"):
        list_photos(bucket.uri("gone"))
