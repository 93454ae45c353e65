"""Which files are photos of which class: no hidden file, sidecar or foreign folder becomes one."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pyarrow as pa
import pytest

from ray_trash.dataset import walk as walk_module
from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import Listing, list_photos
from ray_trash.dataset.walk import escape_name, unescape_name
from ray_trash.errors import DataError
from ray_trash.storage import Storage
from tests.photos import put


def paths(listing: Listing) -> list[str]:
    return [path for (path,) in rows_in(listing.files, "path")]


def reasons(findings: pa.Table) -> dict[str, str]:
    return dict(rows_in(findings, "path", "reason"))


def test_the_class_is_the_first_folder_and_classes_are_sorted(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "paper/b.jpg", "glass/a.jpg", "paper/a.jpg")))
    assert listing.classes == ("glass", "paper")
    assert [*rows_in(listing.files, "path", "label", "size_bytes")] == [
        ("glass/a.jpg", "glass", 5),
        ("paper/a.jpg", "paper", 5),
        ("paper/b.jpg", "paper", 5),
    ]
    assert (len(listing.ignored), len(listing.rejected), listing.warnings) == (0, 0, ())


def test_it_is_said_how_many_entries_were_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "_TOLD_EVERY", 2)
    told: list[int] = []
    put(tmp_path, *(f"glass/{number}.jpg" for number in range(6)))
    walk_module.walk(Storage.at(str(tmp_path)), on_entries=told.append)
    assert told == [2, 2, 2]


def test_hidden_and_system_files_are_ignored_and_counted_and_never_a_class(tmp_path: Path) -> None:
    junk = [
        "#recycle/glass/a.jpg",
        "$RECYCLE.BIN/S-1-5-21/a.jpg",
        ".Trash-1000/files/a.jpg",
        ".git/config",
        ".ipynb_checkpoints/a.jpg",
        "@eaDir/glass/a.jpg",
        "System Volume Information/a.jpg",
        "__MACOSX/glass/._a.jpg",
        "glass/._a.jpg",
        "glass/.DS_Store",
        "glass/.ipynb_checkpoints/a.jpg",
        "glass/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "glass/Thumbs.db",
        "lost+found/a.jpg",
        "metal_$folder$",
        "paper/desktop.ini",
    ]
    listing = list_photos(str(put(tmp_path, "glass/a.jpg", "paper/a.jpg", *junk)))
    assert listing.classes == ("glass", "paper")
    assert paths(listing) == ["glass/a.jpg", "paper/a.jpg"]
    assert reasons(listing.ignored) == dict.fromkeys(junk, "hidden or system file")


def test_files_that_nobody_takes_for_photos_are_ignored_and_folders_of_such_are_no_classes(tmp_path: Path) -> None:
    beside = ["glass/a.AAE", "glass/a.MOV", "glass/a.jpg.json", "glass/a.xmp", "glass/notes.txt", "glass/t.csv"]
    put(tmp_path, "glass/a.jpg", "glass/b", "glass/c.cr2", *beside, "labels/a.xml", "metal/none.txt", "paper/.keep")
    listing = list_photos(str(tmp_path))
    assert listing.classes == ("glass", "paper")
    assert paths(listing) == ["glass/a.jpg", "glass/b", "glass/c.cr2"]
    others = dict.fromkeys([*beside, "labels/a.xml", "metal/none.txt"], "not named like a photo")
    assert reasons(listing.ignored) == others | {"paper/.keep": "hidden or system file"}
    assert listing.warnings == ("folders without a photo are no classes: 'labels', 'metal'",)
    # Asked for by name, such a folder is a class that lacks photos, which training refuses.
    assert list_photos(str(tmp_path), ["glass", "metal"]).classes == ("glass", "metal")


def test_stray_files_in_the_root_are_ignored(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "glass/a.jpg", "stray.jpg", "LICENSE")))
    assert listing.classes == ("glass",)
    assert reasons(listing.ignored) == dict.fromkeys(["LICENSE", "stray.jpg"], "not in a class folder")


@pytest.mark.parametrize("folder", ["images", "dataset-resized"])
def test_class_folders_may_lie_one_folder_down(tmp_path: Path, folder: str) -> None:
    put(tmp_path, f"{folder}/glass/a.jpg", f"{folder}/paper/a.jpg", f"{folder}/notes.txt", "LICENSE")
    listing = list_photos(str(put(tmp_path, "__MACOSX/x/y.jpg", f"{folder}/.DS_Store")))
    assert listing.classes == ("glass", "paper")
    assert paths(listing) == [f"{folder}/glass/a.jpg", f"{folder}/paper/a.jpg"]
    assert reasons(listing.ignored)["LICENSE"] == "not in a class folder"


def test_an_only_class_folder_with_photos_of_its_own_is_no_class_root(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "glass/a.jpg", "glass/green/b.jpg")))
    assert listing.classes == ("glass",)
    assert paths(listing) == ["glass/a.jpg", "glass/green/b.jpg"]


def test_a_folder_named_as_a_class_is_no_class_root(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "glass/green/a.jpg", "glass/brown/b.jpg")), ["glass"])
    assert set(listing.files["label"].to_pylist()) == {"glass"}


def test_nested_folders_count_for_their_class_and_are_reported_once(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "glass/2020/may/a.jpg", "glass/2021/b.jpg", "paper/a.jpg")))
    assert listing.files["label"].to_pylist() == ["glass", "glass", "paper"]
    (warning,) = listing.warnings
    assert "2" in warning
    assert "glass/2020/may/a.jpg" in warning


def test_an_empty_class_folder_stays_a_class(tmp_path: Path) -> None:
    put(tmp_path, "glass/a.jpg", "paper/a.jpg")
    (tmp_path / "metal").mkdir()
    assert list_photos(str(tmp_path)).classes == ("glass", "metal", "paper")


def test_given_classes_keep_their_order_and_leave_other_folders_out(tmp_path: Path) -> None:
    put(tmp_path, "glass/a.jpg", "paper/a.jpg", "metal/a.jpg", "metal/deep/b.jpg")
    listing = list_photos(str(tmp_path), ["paper", "glass"])
    assert listing.classes == ("paper", "glass")
    assert reasons(listing.ignored) == dict.fromkeys(["metal/a.jpg", "metal/deep/b.jpg"], "not in data.classes")


def test_a_given_class_without_folder_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.classes.*'cardbord'.*did you mean 'cardboard'"):
        list_photos(str(put(tmp_path, "cardboard/a.jpg", "glass/a.jpg")), ["cardbord", "glass"])


def test_names_that_look_alike_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    put(tmp_path, "Glass/a.jpg", "glass/a.jpg", "paper/a.jpg", "paper /a.jpg", "cafe\u0301/a.jpg", "caf\u00e9/b.jpg")
    if len(list(tmp_path.iterdir())) < 6:
        pytest.skip("this filesystem does not tell these names apart")
    listing = list_photos(str(tmp_path))
    assert listing.classes == ("Glass", "caf\u00e9", "glass", "paper", "paper ")
    assert listing.warnings == (
        "classes ['Glass', 'glass'] differ only in case; they are trained as different classes",
        "classes ['paper', 'paper '] differ only in case, blanks or what is not seen; they are trained as different "
        "classes",
        r"folders 'cafe\u0301', 'caf\xe9' differ only in how Unicode writes them (NFC, NFD); they are one class, "
        "'caf\u00e9'",
    )


def test_a_class_is_found_however_unicode_writes_it(tmp_path: Path) -> None:
    put(tmp_path, "caf\u00e9/a.jpg", "na\u0131\u0308f/b.jpg")
    listing = list_photos(str(tmp_path), ["cafe\u0301", "na\u0131\u0308f"])
    assert listing.files["label"].to_pylist() == ["caf\u00e9", "na\u0131\u0308f"]


@pytest.mark.timeout(10)
def test_pipes_sockets_and_folders_named_like_photos_are_rejected_without_opening(tmp_path: Path) -> None:
    put(tmp_path, "glass/a.jpg", "glass/folder.jpg/inner.jpg")
    os.mkfifo(tmp_path / "glass/pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket may be no longer than about 100 bytes.
        here = os.open(tmp_path / "glass", os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/s.jpg")
        os.close(here)
        listing = list_photos(str(tmp_path))
    assert paths(listing) == ["glass/a.jpg"]
    assert reasons(listing.rejected) == dict.fromkeys(
        ["glass/folder.jpg", "glass/pipe.jpg", "glass/s.jpg"], "not_a_regular_file"
    )
    assert reasons(listing.ignored) == {"glass/folder.jpg/inner.jpg": "in a folder named like a photo"}


HOSTILE_NAMES = [
    b"new\nline.jpg",
    b'quote".jpg',
    b"-rf.jpg",
    b"$(touch x).jpg",
    "caf\u00e9.jpg".encode(),
    "cafe\u0301.jpg".encode(),
    "\u202egpj.exe.jpg".encode(),
    b"<img src=x>.jpg",
    b"=1+1.jpg",
    b"a" * 240 + b".jpg",
    b"back\\slash.jpg",
    b"literal\\xff.jpg",
    b"latin\xe9.jpg",
    b"\\\xff.jpg",
    b"\\x5c\xff.jpg",
]


def test_hostile_names_are_listed_as_valid_text_that_leads_back_to_the_file(tmp_path: Path) -> None:
    folder = os.fsencode(put(tmp_path, "paper/a.jpg") / "glass")
    os.mkdir(folder)
    for number, name in enumerate(HOSTILE_NAMES):
        Path(os.fsdecode(os.path.join(folder, name))).write_bytes(b"x" * (number + 1))
    listing = list_photos(str(tmp_path))
    found = [(path, n) for path, label, n in rows_in(listing.files, "path", "label", "size_bytes") if label == "glass"]
    assert len(found) == len(HOSTILE_NAMES)
    for path, size_bytes in found:
        assert json.loads(json.dumps(path).encode("utf-8")) == path
        assert path.encode("utf-8")
        location = os.path.join(listing.root, unescape_name(path))
        assert os.stat(location).st_size == size_bytes
    assert {os.path.basename(os.fsencode(unescape_name(path))) for path, _ in found} == set(HOSTILE_NAMES)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_escaped_names_are_read_back(name: bytes) -> None:
    escaped = escape_name(os.fsdecode(name))
    assert os.fsencode(unescape_name(escaped)) == name
    assert escaped.encode("utf-8")


def test_names_without_odd_bytes_stay_as_they_are() -> None:
    assert escape_name("caf\u00e9 \\ back\\slash.jpg") == "caf\u00e9 \\ back\\slash.jpg"
    assert escape_name("latin\udce9.jpg") == "latin\\xe9.jpg"


def test_a_folder_that_cannot_be_listed_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, "glass/a.jpg", "glass/closed/b.jpg")
    (tmp_path / "glass/closed").chmod(0)
    try:
        if os.access(tmp_path / "glass/closed", os.R_OK):
            pytest.skip("this user may read everything")
        listing = list_photos(str(tmp_path))
    finally:
        (tmp_path / "glass/closed").chmod(0o755)
    assert reasons(listing.rejected) == {"glass/closed": "unreadable"}


def test_a_missing_root_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: .*gone does not exist"):
        list_photos(str(tmp_path / "gone"))


def test_a_root_that_is_a_file_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: .*a\.jpg is a file"):
        list_photos(str(put(tmp_path, "a.jpg") / "a.jpg"))


def test_a_root_of_an_unknown_kind_names_the_key() -> None:
    with pytest.raises(DataError, match=r"data\.root: .*nosuch://x"):
        list_photos("nosuch://x")


def test_a_root_without_photos_says_what_is_expected_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "glass").mkdir()
    with pytest.raises(DataError, match=r"data\.root: no photos .*<class>/<photo>"):
        list_photos(str(tmp_path))
    with pytest.raises(DataError, match=r"1 were ignored, the first is 'a\.jpg': not in a class folder"):
        list_photos(str(put(tmp_path, "a.jpg")))
