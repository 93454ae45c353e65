"""Links to photos and folders: followed to wherever they lead, once, and labelled by where they are."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import Listing, list_photos
from tests.photos import put


def found(listing: Listing) -> dict[str, str | None]:
    return dict(rows_in(listing.files, "path", "label"))


def reasons(listing: Listing) -> dict[str, str]:
    return dict(rows_in(pa.concat_tables([listing.ignored, listing.rejected]), "path", "reason"))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Link photos as DVC and git-annex do, into a store outside and inside the root, and two folders of the store."""
    root = put(tmp_path / "root", "glass/a.jpg", "paper/a.jpg", ".git/annex/objects/1.jpg")
    store = put(tmp_path / "store", "f3/0a", "metal/a.jpg", "metal/deep/b.jpg")
    (root / "glass/dvc.jpg").symlink_to(store / "f3/0a")
    (root / "glass/annex.jpg").symlink_to("../.git/annex/objects/1.jpg")
    (root / "glass/gone.jpg").symlink_to("../.git/annex/objects/2.jpg")
    (root / "metal").symlink_to(store / "metal")
    (root / "glass/more").symlink_to("../../store/f3")
    return root


def test_links_are_followed_and_labelled_by_their_place(linked: Path) -> None:
    listing = list_photos(str(linked))
    assert listing.classes == ("glass", "metal", "paper")
    assert found(listing) == {
        "glass/a.jpg": "glass",
        "glass/annex.jpg": "glass",
        "glass/dvc.jpg": "glass",
        "glass/more/0a": "glass",
        "metal/a.jpg": "metal",
        "metal/deep/b.jpg": "metal",
        "paper/a.jpg": "paper",
    }
    (gone,) = listing.rejected.to_pylist()
    assert (gone["path"], gone["reason"]) == ("glass/gone.jpg", "unreadable")
    assert "git-annex" in gone["message"]


def test_links_that_are_not_to_be_followed_are_named(linked: Path) -> None:
    (linked / "again").symlink_to("paper")
    listing = list_photos(str(linked), follow_links=False)
    assert list(found(listing)) == ["glass/a.jpg", "glass/annex.jpg", "paper/a.jpg"]
    assert reasons(listing) == {
        ".git/annex/objects/1.jpg": "hidden or system file",
        "again": "directory link",
        "glass/dvc.jpg": "outside_root",
        "glass/gone.jpg": "unreadable",
        "glass/more": "outside_root",
        "metal": "outside_root",
    }


@pytest.mark.timeout(10)
def test_loops_end_and_no_folder_is_listed_twice(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "glass/a.jpg", "paper/a.jpg")
    put(tmp_path / "store", "a.jpg", "deep/b.jpg")
    (root / "glass/loop").symlink_to("..")
    (root / "glass/above").symlink_to(tmp_path)
    (tmp_path / "store/back").symlink_to(root)
    (tmp_path / "store/deep/loop").symlink_to("..")
    (root / "again").symlink_to("paper")
    (root / "metal").symlink_to(tmp_path / "store/deep")
    (root / "tin").symlink_to(tmp_path / "store")
    (root / "zinc").symlink_to("tin")
    (root / "paper/self.jpg").symlink_to("self.jpg")
    listing = list_photos(str(root))
    assert list(found(listing)) == ["glass/a.jpg", "metal/b.jpg", "paper/a.jpg", "tin/a.jpg"]
    loop, repeat = "link to a folder that it is in", "link to a folder listed elsewhere"
    assert reasons(listing) == {
        "again": repeat,
        "glass/above": loop,
        "glass/loop": loop,
        "metal/loop": loop,
        "paper/self.jpg": "unreadable",
        "tin/back": loop,
        "tin/deep": repeat,
        "zinc": repeat,
    }
    assert any("'again', 'tin/deep', 'zinc'" in warning for warning in listing.warnings)


def test_what_is_hidden_may_be_shown_by_a_link(tmp_path: Path) -> None:
    root = put(tmp_path / "root", "glass/a.jpg", ".store/metal/a.jpg")
    put(tmp_path / "next", "a.jpg")
    (root / "metal").symlink_to(".store/metal")
    (root / ".kept").symlink_to(tmp_path / "next")
    (root / "paper").symlink_to(tmp_path / "next")
    listing = list_photos(str(root))
    assert list(found(listing)) == ["glass/a.jpg", "metal/a.jpg", "paper/a.jpg"]
    assert reasons(listing) == dict.fromkeys([".kept", ".store/metal/a.jpg"], "hidden or system file")


def test_a_root_that_is_a_link_is_walked(tmp_path: Path) -> None:
    put(tmp_path / "real", "glass/a.jpg", "paper/a.jpg")
    (tmp_path / "link").symlink_to("real")
    for follow_links in (True, False):
        listing = list_photos(str(tmp_path / "link"), follow_links=follow_links)
        assert list(found(listing)) == ["glass/a.jpg", "paper/a.jpg"]
        assert reasons(listing) == {}
