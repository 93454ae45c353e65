from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.dataset.listing import Listing, list_photos
from ray_trash.dataset.packed.form import INDEX, LEFT_OUT, MANIFEST
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.pack import plan as planning
from ray_trash.pack import shard as shards
from ray_trash.pack.plan import plan_pack
from tests.packing import pack
from tests.photos import make_photos, put


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos, one file that cannot be decoded, one that is empty, and two that are no photos."""
    root = make_photos(tmp_path / "photos", 3, classes=("glass", "paper"))
    put(root, "glass/broken.jpg", "paper/deep/x.jpg", "notes.txt", "glass/.hidden")
    (root / "glass" / "empty.jpg").touch()
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_shard_has_the_five_columns_and_any_program_reads_them(photos: Path, tmp_path: Path) -> None:
    document = pack(photos, tmp_path / "packed")
    assert names(tmp_path / "packed") == sorted([INDEX, LEFT_OUT, MANIFEST, "photos-00000.parquet"])
    table = pq.read_table(tmp_path / "packed" / "photos-00000.parquet")
    assert table.column_names == ["path", "label", "bytes", "sha256", "split"]
    assert table["path"].to_pylist() == sorted(table["path"].to_pylist())
    for row in table.to_pylist():
        assert row["bytes"] == (photos / row["path"]).read_bytes()
        assert row["label"] == row["path"].split("/")[0]
    assert document["counts"] == {"seen": 11, "accepted": 8, "rejected": 1, "ignored": 2}
    assert document["rejected"] == [{"path": "glass/empty.jpg", "reason": "empty_file"}]


def test_a_packed_set_is_listed_as_the_folder_it_was_made_from(photos: Path, tmp_path: Path) -> None:
    pack(photos, tmp_path / "packed")
    folder, packed = list_photos(str(photos)), list_photos(str(tmp_path / "packed"))
    assert packed.classes == folder.classes
    assert packed.warnings == folder.warnings
    expected = [row for row in folder.entries.to_pylist() if row["path"] != "glass/empty.jpg"]
    found = packed.entries.to_pylist()
    (empty,) = [row for row in found if row["path"] == "glass/empty.jpg"]
    assert (empty["verdict"], empty["reason"]) == ("rejected", "empty_file")
    found.remove(empty)
    assert found == expected


def test_the_same_photos_give_the_same_bytes_whatever_the_order_in_which_shards_are_made(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SHARD_PHOTOS", 3)
    pack(photos, tmp_path / "one")
    pack(photos, tmp_path / "two", backwards=True)
    assert "photos-00002.parquet" in names(tmp_path / "one")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_shards_are_cut_by_photos_and_by_listed_bytes() -> None:
    sizes = [50, 50, 40, 130 << 20, 10, 10]
    assert planning._shard_numbers(pa.array(sizes).to_numpy()).tolist() == [0, 0, 0, 1, 2, 2]
    many = planning._shard_numbers(pa.array([1] * (planning.SHARD_PHOTOS + 1)).to_numpy())
    assert many[-2:].tolist() == [0, 1]


def test_row_groups_hold_a_few_photos_whose_places_are_right(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 2)
    pack(photos, tmp_path / "packed")
    assert pq.ParquetFile(tmp_path / "packed" / "photos-00000.parquet").num_row_groups == 4
    folder = PhotoFolder.at(str(tmp_path / "packed"))
    for path in list_photos(str(photos)).files["path"].to_pylist():
        if path != "glass/empty.jpg":
            assert folder.read(path) == (photos / path).read_bytes()


@pytest.mark.parametrize("failing", [INDEX, LEFT_OUT, MANIFEST, "photos-00001.parquet"])
def test_a_full_disk_leaves_no_set_and_the_next_start_goes_on(
    failing: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SHARD_PHOTOS", 3)
    real = os.replace

    def full(source: str, target: str) -> None:
        if Path(target).name == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("ray_trash.storage.os.replace", full)
        with pytest.raises(StorageError, match="No space left"):
            pack(photos, tmp_path / "packed")
    assert MANIFEST not in names(tmp_path / "packed")
    with pytest.raises(DataError, match=r"holds a part of a packed set, and no packed\.json"):
        list_photos(str(tmp_path / "packed"))
    whole = (tmp_path / "packed" / "photos-00000.parquet").stat().st_mtime_ns
    (tmp_path / "packed" / ".photos-00007.parquet.unfinished").touch()
    pack(photos, tmp_path / "packed")
    assert (tmp_path / "packed" / "photos-00000.parquet").stat().st_mtime_ns == whole
    assert not (tmp_path / "packed" / ".photos-00007.parquet.unfinished").exists()
    pack(photos, tmp_path / "fresh")
    assert contents(tmp_path / "packed") == contents(tmp_path / "fresh")


def test_what_an_earlier_start_wrote_whole_is_not_written_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "SHARD_PHOTOS", 3)
    pack(photos, tmp_path / "packed")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()}
    (tmp_path / "packed" / MANIFEST).unlink()
    damaged = tmp_path / "packed" / "photos-00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20] + bytes(20))
    pack(photos, tmp_path / "packed")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packed").iterdir()}
    # The second one lacks a file that cannot be read, and why is found out by reading.
    assert [before[name] == after[name] for name in sorted(before) if name.startswith("photos")] == [True, False, False]
    pack(photos, tmp_path / "fresh")
    assert contents(tmp_path / "packed") == contents(tmp_path / "fresh")


def test_shards_of_other_photos_are_replaced_and_those_too_many_removed(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(planning, "SHARD_PHOTOS", 1)
        pack(make_photos(tmp_path / "others", 4), tmp_path / "packed")
    (tmp_path / "packed" / MANIFEST).unlink()
    pack(photos, tmp_path / "packed")
    pack(photos, tmp_path / "fresh")
    assert contents(tmp_path / "packed") == contents(tmp_path / "fresh")


def test_a_set_that_is_there_is_replaced_only_on_demand(photos: Path, tmp_path: Path) -> None:
    pack(photos, tmp_path / "packed")
    with pytest.raises(ConfigError, match="is a packed set already"):
        pack(photos, tmp_path / "packed")
    put(photos, "paper/new.jpg")
    assert pack(photos, tmp_path / "packed", overwrite=True)["counts"]["accepted"] == 9


def test_places_that_would_mix_with_other_things_are_refused(photos: Path, tmp_path: Path) -> None:
    for to, words in ((photos / "packed", "the photos' own folder"), (tmp_path, "holds the photos")):
        with pytest.raises(ConfigError, match=words):
            pack(photos, to)
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(ConfigError, match="the photos' own folder"):
        pack(photos, tmp_path / "link" / "packed")
    put(tmp_path / "full", "letter.txt")
    with pytest.raises(ConfigError, match=r"holds other things already, 'letter\.txt'"):
        pack(photos, tmp_path / "full", overwrite=True)
    assert names(tmp_path / "full") == ["letter.txt"]


def test_nothing_that_can_be_read_is_no_set(tmp_path: Path) -> None:
    for name in ("glass/a.jpg", "paper/b.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).touch()
    with pytest.raises(DataError, match=r"no photo can be read, such as 'glass/a\.jpg': the file is empty"):
        pack(tmp_path / "photos", tmp_path / "packed")
    assert MANIFEST not in names(tmp_path / "packed")


def planned_sides(listing: Listing, split: str = "auto") -> tuple[str | None, list[str | None]]:
    plan = plan_pack(listing, split)
    return plan.split, plan.photos["split"].to_pylist()


def test_sides_are_those_of_folders_tables_and_lists_or_none(tmp_path: Path) -> None:
    root = put(tmp_path / "folders", "train/glass/1.jpg", "train/paper/2.jpg", "test/glass/3.jpg")
    assert planned_sides(list_photos(str(root))) == ("folders", ["test", "train", "train"])
    root = put(tmp_path / "plain", "glass/1.jpg", "paper/2.jpg")
    assert planned_sides(list_photos(str(root))) == (None, [None, None])
    (tmp_path / "split.csv").write_text("path,split\nglass/1.jpg,val\n")
    assert planned_sides(list_photos(str(root)), str(tmp_path / "split.csv")) == ("file", ["val", None])
    (tmp_path / "labels.csv").write_text("path,label,split\nglass/1.jpg,red,test\npaper/2.jpg,blue,train\n")
    labelled = list_photos(str(root), labels_uri=str(tmp_path / "labels.csv"))
    assert planned_sides(labelled) == ("labels", ["test", "train"])
    lists = ("train", "glass1.jpg 1\n"), ("val", "paper1.jpg 2\n"), ("test", "")
    root = put(tmp_path / "trashnet", "glass/glass1.jpg", "paper/paper1.jpg")
    for side, text in lists:
        (root / f"one-indexed-files-notrash_{side}.txt").write_text(text)
    assert planned_sides(list_photos(str(root))) == ("official", ["train", "val"])
    pack(root, tmp_path / "packed")
    packed = list_photos(str(tmp_path / "packed"))
    assert packed.files["split"].to_pylist() == ["train", "val"]
    assert (tmp_path / "packed" / "one-indexed-files-notrash_train.txt").read_text() == lists[0][1]


@pytest.mark.parametrize("split", ["grouped", "stratified", "official-clean"])
def test_a_split_by_content_is_left_to_training(split: str, tmp_path: Path) -> None:
    root = put(tmp_path / "plain", "glass/1.jpg", "paper/2.jpg")
    with pytest.raises(ConfigError, match=f"set data.split={split} there"):
        plan_pack(list_photos(str(root)), split)


def test_names_that_are_not_utf8_links_and_equal_files_are_packed_as_they_are_listed(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", "glass/1.jpg", "paper/2.jpg")
    (tmp_path / "elsewhere.jpg").write_bytes(b"linked")
    (root / "glass" / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    with open(os.fsencode(root / "glass") + b"/\xff.jpg", "wb") as file:
        file.write(b"photo")
    document = pack(root, tmp_path / "packed")
    assert document["counts"]["accepted"] == 4
    folder = PhotoFolder.at(str(tmp_path / "packed"))
    assert folder.read(r"glass/\xff.jpg") == b"photo"
    assert folder.read("glass/link.jpg") == b"linked"


def test_the_manifest_tells_neither_where_the_photos_were_nor_any_key(photos: Path, tmp_path: Path) -> None:
    pack(photos, tmp_path / "packed")
    manifest = json.loads((tmp_path / "packed" / MANIFEST).read_bytes())
    assert str(tmp_path) not in json.dumps(manifest)
