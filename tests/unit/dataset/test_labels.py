"""Labels from a table: which photo a row means, what its label is, and what is refused by its line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import Listing, list_photos, require_two_classes
from ray_trash.dataset.split import make_rule
from ray_trash.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of photos as Kaggle has them, most of them below no class folder."""
    for name in ("0a.jpg", "0b.JPG", "train/0c.png", "train/ü.jpg", "notes.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"photo")
    return tmp_path / "photos"


def listing_by(root: Path, content: str, classes: tuple[str, ...] | None = None) -> Listing:
    (root.parent / "labels.csv").write_text(content, encoding="utf-8")
    return list_photos(str(root), classes, str(root.parent / "labels.csv"))


def labels(listing: Listing) -> dict[str, str | None]:
    return dict(rows_in(listing.files, "path", "label"))


ALL = {"0a.jpg": "pug", "0b.JPG": "boxer", "train/0c.png": "pug", "train/ü.jpg": "boxer"}


@pytest.mark.parametrize(
    "content",
    [
        "path,label\n0a.jpg,pug\n0b.JPG,boxer\ntrain/0c.png,pug\ntrain/ü.jpg,boxer\n",
        "id,breed\n0a,pug\n0b,boxer\n0c,pug\nü,boxer\n",
        "Image_ID;width;Class Name;label\n0a;1;pug;0\n0b;2;boxer;1\n0c;3; pug ;0\nu\u0308.JPG;4;boxer;1\n",
        "file_name,label\n./0a.jpg,pug\n0a,pug\n0b.jpg,boxer\nphotos\\train\\0c.png,pug\nC:\\photos\\train\\ü.jpg,boxer\n",
    ],
)
def test_the_label_is_what_the_table_says_wherever_the_photo_lies(root: Path, content: str) -> None:
    listing = listing_by(root, content)
    assert labels(listing) == ALL
    assert listing.classes == ("boxer", "pug")
    assert listing.warnings == ()
    assert [*rows_in(listing.ignored, "path", "reason")] == [("notes.txt", "not named like a photo")]


def test_a_parquet_table_is_read_and_numbers_are_words(root: Path, tmp_path: Path) -> None:
    columns = {"image": ["0a.jpg", "0b.jpg"], "label": pa.array([1, 10]), "encoded": [b"\xff", b"\xfe"]}
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    listing = list_photos(str(root), None, str(tmp_path / "labels.parquet"))
    assert labels(listing) == {"0a.jpg": "1", "0b.JPG": "10"}


def test_photos_without_a_row_and_rows_without_a_photo_are_counted_and_the_first_is_named(root: Path) -> None:
    listing = listing_by(root, "id,label\n0a,pug\n0b,boxer\nx1,pug\nx2,pug\n")
    missing, unlabelled = listing.warnings
    assert "lists 2 photos not below" in missing
    assert missing.endswith("the first is 'x1'")
    assert unlabelled == "2 photos not in data.labels, ignored; the first is 'train/0c.png'"


def test_only_the_classes_of_the_config_are_taken_in_their_order(root: Path) -> None:
    content = "id,label\n0a,pug\n0b,boxer\n0c,cat\n"
    listing = listing_by(root, content, ("pug", "boxer"))
    assert listing.classes == ("pug", "boxer")
    assert labels(listing) == {"0a.jpg": "pug", "0b.JPG": "boxer"}
    with pytest.raises(DataError, match=r"data\.classes: there is no 'bxer' in .*labels\.csv; did you mean 'boxer'"):
        listing_by(root, content, ("pug", "bxer"))


def test_a_split_of_the_table_is_that_of_auto(root: Path) -> None:
    listing = listing_by(root, "id,label,Split\n0a,pug,Training\n0b,boxer,valid\n0c,pug,\nü,pug,TEST\n")
    rule = make_rule("auto", 0.15, 0.15, listing)
    assert (rule.kind, rule.val_fraction) == ("labels", 0.0)
    assert rule.assignments == {"0a.jpg": "train", "0b.JPG": "val", "train/ü.jpg": "test"}
    assert make_rule("grouped", 0.15, 0.15, listing).kind == "grouped"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("0a.jpg,pug\n", r"no column of paths .* its first line is '0a\.jpg,pug'"),
        ("image,healthy,rust\n0a,1,0\n", "no column of labels"),
        ("id,label\n", "no row below its first line"),
        ("id,label\n0a,\n", "line 2: there is no label: id='0a', label=''"),
        (
            "id,label\n0a,pug\n0a.jpg,boxer\n",
            r"line 3: '0a\.jpg' is listed a second time.*'boxer'; before, in line 2.*'pug'",
        ),
        ("id,label\n0a,pug,boxer\n", "line 2: expected as many cells as in its first line, 2, found 3"),
        ("id,label,split\n0a,pug,unused\n", "line 2: 'unused' is no side of the split"),
        ("id,label\nx,pug\n", r"none of its 1 row names .* id='x', label='pug', so 'x' was looked for among 4 files"),
        ('id,label\n0a,"pug\n', "no CSV text that can be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_its_line(root: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"data\.labels: .*labels\.csv.*{message}"):
        listing_by(root, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,label\n0a,püg\n".encode("cp1252"),
            r"not UTF-8, as line 2 shows \(perhaps Windows-1252\); save it as CSV in UTF-8",
        ),
        (b"PK\x03\x04\xff\xff", "an Excel workbook"),
        (b"PAR1 cut short", "cannot be read as a Parquet file"),
    ],
)
def test_a_table_of_another_kind_is_named_as_what_it_is(root: Path, content: bytes, message: str) -> None:
    (root / "labels").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list_photos(str(root), None, str(root / "labels"))


def test_a_table_that_is_not_there_is_a_configuration_error(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.labels: .*absent\.csv: cannot read"):
        list_photos(str(root), None, str(root / "absent.csv"))


def test_a_table_beside_photos_of_no_class_is_pointed_out(root: Path) -> None:
    (root / "train.csv").write_text("id,label\n0c,pug\n")
    with pytest.raises(DataError, match=r"the only class is 'train'; .*; train\.csv beside the photos: "):
        require_two_classes(list_photos(str(root)))
    (root / "test").mkdir()
    (root / "test" / "0d.jpg").write_bytes(b"photo")
    with pytest.raises(DataError, match=r"'test', 'train' are named as sides .* data\.classes; train\.csv beside"):
        list_photos(str(root))
    assert list_photos(str(root), ["train", "test"]).classes == ("train", "test")
    (root / "test" / "0d.jpg").unlink()
    for name in ("0c.png", "ü.jpg"):
        (root / "train" / name).rename(root / name)
    with pytest.raises(DataError, match=r"no photos under .*; train\.csv beside the photos: .* set data\.labels"):
        list_photos(str(root))
