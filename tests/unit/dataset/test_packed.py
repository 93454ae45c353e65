from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.packed import photos as packed_photos
from ray_trash.dataset.packed import tables
from ray_trash.dataset.packed.form import INDEX, MANIFEST, read_manifest
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.split import make_rule
from ray_trash.errors import DataError, ImageError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.storage import Storage
from tests.packing import pack
from tests.photos import make_photos, put


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 5)


@pytest.fixture
def packed(photos: Path, tmp_path: Path) -> Path:
    pack(photos, tmp_path / "packed")
    return tmp_path / "packed"


def paths(root: Path) -> list[str]:
    found: list[str] = list_photos(str(root)).files["path"].to_pylist()
    return found


def test_photos_are_read_by_their_paths_in_any_order_also_by_another_process(photos: Path, packed: Path) -> None:
    folder = pickle.loads(pickle.dumps(PhotoFolder.at(str(packed))))
    wanted = [*reversed(paths(photos)), "glass/absent.jpg", paths(photos)[3]]
    *found, absent, again = folder.read_many(wanted)
    assert found == [(photos / path).read_bytes() for path in reversed(paths(photos))]
    assert again == (photos / paths(photos)[3]).read_bytes()
    assert isinstance(absent, ImageError)
    assert (absent.code, str(absent)) == ("unreadable", "it is not in the packed set")
    with pytest.raises(ImageError, match="not in the packed set"):
        folder.read("a")


def test_neighbours_are_read_together_and_those_far_apart_are_not(
    photos: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = packed_photos.packed_photos(str(packed), PhotoFolder.at(str(packed)).packed_id or "")
    wanted = paths(photos)
    assert [len(run) for run in reader._runs(wanted)] == [len(wanted)]
    monkeypatch.setattr(packed_photos, "RUN_GAP_BYTES", -1 << 30)
    assert [len(run) for run in reader._runs(wanted)] == [1] * len(wanted)
    monkeypatch.undo()
    monkeypatch.setattr(packed_photos, "RUN_BYTES", 5000)
    assert 1 < len(list(reader._runs(wanted))) < len(wanted)


def test_a_set_that_was_changed_is_refused_when_listed_and_not_taken_for_photos_when_read(
    photos: Path, packed: Path, tmp_path: Path
) -> None:
    folder = PhotoFolder.at(str(packed))
    shard = packed / "photos-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(DataError, match=r"the shard photos-00000\.parquet has \d+ bytes instead of"):
        list_photos(str(packed))
    shard.write_bytes(b"\x00" * len(whole))
    with pytest.raises(ImageError, match="is not the shard that was packed"):
        folder.read(paths(photos)[0])
    shard.unlink()
    with pytest.raises(DataError, match=r"photos-00000\.parquet is missing"):
        list_photos(str(packed))
    shard.write_bytes(whole)
    (packed / INDEX).write_bytes(b"no index")
    with pytest.raises(DataError, match="the index of the packed set is damaged"):
        list_photos(str(packed))
    (packed / MANIFEST).write_bytes(b'{"format": 9}')
    with pytest.raises(DataError, match="is of version 9"):
        list_photos(str(packed))
    (packed / MANIFEST).write_bytes(b"{")
    with pytest.raises(DataError, match="is damaged"):
        list_photos(str(packed))


def test_classes_and_a_table_of_labels_choose_among_packed_photos(photos: Path, packed: Path, tmp_path: Path) -> None:
    some = list_photos(str(packed), ["paper", "glass"])
    assert some.classes == ("paper", "glass")
    assert set(some.ignored["reason"].to_pylist()) == {"not in data.classes"}
    with pytest.raises(DataError, match="did you mean 'glass'"):
        list_photos(str(packed), ["glas", "paper"])
    (tmp_path / "labels.csv").write_text("path,label,split\nglass/000.jpg,red,val\nmetal/001.jpg,blue,train\n")
    relabelled = list_photos(str(packed), labels_uri=str(tmp_path / "labels.csv"))
    assert relabelled.classes == ("blue", "red")
    assert relabelled.files["path"].to_pylist() == ["glass/000.jpg", "metal/001.jpg"]
    assert relabelled.assignments == {"glass/000.jpg": "val", "metal/001.jpg": "train"}


def test_sides_of_folders_stay_sides_of_folders(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", "train/glass/1.jpg", "train/paper/2.jpg", "test/glass/3.jpg")
    pack(root, tmp_path / "packed")
    folder, packed = list_photos(str(root)), list_photos(str(tmp_path / "packed"))
    assert packed.sides == folder.sides
    assert make_rule("auto", 0.1, 0.1, packed) == make_rule("auto", 0.1, 0.1, folder)


def encoded(number: int) -> bytes:
    return f"photo {number}".encode()


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
HUGGING_FACE = {
    "huggingface": json.dumps(
        {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}}}
    )
}


def write_hugging_face(path: Path, labels: list[int], *, first: int = 0, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(first + row), "path": None} for row in range(len(labels))]
    schema = pa.schema({"image": IMAGE, "label": pa.int64()}, metadata=HUGGING_FACE)
    pq.write_table(pa.table({"image": images, "label": labels}, schema=schema), path, **options)


def test_files_of_hugging_face_are_a_set_with_the_names_of_classes_and_the_sides_of_their_names(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "data" / "train-00000-of-00001.parquet", [0, 1] * 6)
    write_hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 0, -1], first=50)
    (tmp_path / "README.md").write_text("a card")
    listing = list_photos(str(tmp_path))
    assert listing.classes == ("cat", "dog")
    assert listing.files["path"].to_pylist()[:3] == [
        "data/test-00000-of-00001.parquet#0",
        "data/test-00000-of-00001.parquet#1",
        "data/train-00000-of-00001.parquet#00",
    ]
    assert listing.files["label"].to_pylist()[:3] == ["dog", "cat", "cat"]
    assert set(listing.assignments.values()) == {"train", "test"}
    reasons = dict(zip(listing.ignored["path"].to_pylist(), listing.ignored["reason"].to_pylist(), strict=True))
    assert reasons == {"data/test-00000-of-00001.parquet#2": "no label", "README.md": "not named like a photo"}
    folder = PhotoFolder.at(str(tmp_path))
    assert folder.read("data/train-00000-of-00001.parquet#11") == encoded(11)
    assert list(folder.read_many(listing.files["path"].to_pylist()[:2])) == [encoded(50), encoded(51)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array(["b", "a ", None, ""]), ("a", "b")),
        (pa.array(["b", "a", None, ""]).dictionary_encode(), ("a", "b")),
        (pa.array([7, 3, None, None]), ("3", "7")),
    ],
)
def test_labels_are_words_or_numbers_in_any_file_with_a_binary_column(
    labels: pa.Array, classes: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "mine.parquet"
    pq.write_table(pa.table({"picture": [encoded(n) for n in range(4)], "class": labels}), file)
    for root in (tmp_path, file):
        listing = list_photos(str(root))
        assert listing.classes == classes
        assert len(listing.files) == 2
        assert len(listing.ignored) == 2
        folder = PhotoFolder.at(str(root))
        assert [folder.read(path) for path in listing.files["path"].to_pylist()] == [encoded(0), encoded(1)]


def test_a_column_says_the_sides_before_names_do(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "label": ["a", "b"], "split": ["validation", None]}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    assert list_photos(str(tmp_path)).assignments == {"train.parquet#0": "val"}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": [b"1"], "width": [3]}, "no column of labels"),
        ({"left": [b"1"], "right": [b"1"], "label": ["a"]}, "several columns may be the photos: left, right"),
        ({"image": [b"1"], "label": [["a"]]}, "are list<"),
        ({"image": [b"1"], "label": pa.nulls(1, pa.string())}, "no row has a label"),
        ({"image": [b"1"], "label": ["a"], "split": ["everything"]}, "'everything' is no side"),
    ],
)
def test_tables_that_do_not_say_what_is_what_are_refused(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=words):
        list_photos(str(tmp_path))


def test_a_label_without_a_name_and_a_file_that_is_no_table_are_refused(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "x.parquet", [0, 2])
    with pytest.raises(DataError, match="the label 2 in 'label' has no name"):
        list_photos(str(tmp_path))
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        list_photos(str(tmp_path))
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        list_photos(str(tmp_path / "x.parquet"))


def test_a_table_beside_photos_is_no_set_of_photos(photos: Path) -> None:
    pq.write_table(pa.table({"image": [b"1"], "label": ["a"]}), photos / "x.parquet")
    assert len(list_photos(str(photos)).files) == 15


def test_rows_without_a_photo_are_empty_files_and_rows_that_are_not_there_unreadable(tmp_path: Path) -> None:
    images = pa.array([{"bytes": b"1", "path": None}, None, {"bytes": b"", "path": "x"}], IMAGE)
    pq.write_table(pa.table({"image": images, "label": ["a", "b", "c"]}), tmp_path / "x.parquet")
    folder = PhotoFolder.at(str(tmp_path / "x.parquet"))
    wanted = [f"x.parquet#{row}" for row in range(4)] + ["y.parquet#0"]
    first, *errors = folder.read_many(wanted)
    assert first == b"1"
    assert [error.code for error in errors if isinstance(error, ImageError)] == [
        *("empty_file", "empty_file"),
        *("unreadable", "unreadable"),
    ]


def test_large_row_groups_are_walked_through_with_a_warning_and_give_the_same_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_trash.dataset.packed.listing.SMALL_GROUP_BYTES", 100)
    monkeypatch.setattr(tables, "SMALL_GROUP_BYTES", 100)
    monkeypatch.setattr(tables, "_BATCH_ROWS", 7)
    write_hugging_face(tmp_path / "x.parquet", [0, 1] * 50, row_group_size=40)
    listing = list_photos(str(tmp_path))
    assert any("`ray-trash pack` makes a set" in warning for warning in listing.warnings)
    folder = PhotoFolder.at(str(tmp_path))
    order = [*range(100), 3, 2, 99, 41, 40, 39]
    names = listing.files["path"].to_pylist()
    assert list(folder.read_many([names[row] for row in order])) == [encoded(row) for row in order]


def test_tables_of_others_are_packed_like_folders(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "hf" / "train.parquet", [0, 1, 0])
    write_hugging_face(tmp_path / "hf" / "test.parquet", [1], first=9)
    assert pack(tmp_path / "hf", tmp_path / "packed")["counts"]["accepted"] == 4
    packed = list_photos(str(tmp_path / "packed"))
    assert packed.assignments == list_photos(str(tmp_path / "hf")).assignments
    assert PhotoFolder.at(str(tmp_path / "packed")).read("test.parquet#0") == encoded(9)


def test_what_was_asked_for_last_is_kept_and_no_more() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return -key

    from ray_trash.dataset.packed.latest import Latest

    latest = Latest(make, 2)
    assert [latest.get(key) for key in (1, 2, 1, 3, 1, 2)] == [-1, -2, -1, -3, -1, -2]
    assert made == [1, 2, 3, 2]


def as_remote(root: Path) -> Storage:
    """Show a folder of this disk as one of another filesystem."""
    return Storage(f"other://{root.name}", fs.SubTreeFileSystem(str(root.parent), fs.LocalFileSystem()), root.name)


@pytest.mark.parametrize("ahead_bytes", [1, 32 << 20])
def test_remote_photos_come_in_order_however_much_is_read_ahead(
    ahead_bytes: int, photos: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_photos, "AHEAD_BYTES", ahead_bytes)
    manifest = read_manifest(as_remote(packed))
    assert manifest is not None
    wanted = [*reversed(paths(photos)), "absent", *paths(photos)]
    expected = [(photos / path).read_bytes() if path != "absent" else None for path in wanted]
    of_files = PhotoFolder(as_remote(photos)).read_many(wanted)
    of_shards = packed_photos.PackedPhotos(as_remote(packed), manifest).read_many(wanted)
    for found in (of_files, of_shards):
        assert [photo if isinstance(photo, bytes) else None for photo in found] == expected


def test_photos_are_decoded_the_same_from_a_folder_and_a_set_and_one_that_changed_is_named(
    photos: Path, packed: Path
) -> None:
    preprocessing = Preprocessing(32, 48, "crop")
    wanted = list(reversed(paths(photos)))
    of_files, of_shards = (
        list(PhotoFolder.at(str(root)).load_many(wanted, preprocessing)) for root in (photos, packed)
    )
    for one, other in zip(of_files, of_shards, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(DataError, match=r"glass/absent\.jpg: changed since it was catalogued \(unreadable"):
        list(PhotoFolder.at(str(packed)).load_many([wanted[0], "glass/absent.jpg"], preprocessing))
