"""The audit of real folders: what it finds, how it splits, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_trash.audit.document import AuditDocument
from ray_trash.audit.run import AUDIT_FILE, SHEET_FILE, audit_photos, write_audit
from ray_trash.dataset.groups import candidates, near, sketches
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.photo_set import PhotoSet, read_photo_set
from ray_trash.dataset.split import make_rule
from ray_trash.image.preprocess import Preprocessing
from ray_trash.storage import Storage
from tests.bursts import draw_scene, encode, write_bursts
from tests.photos import make_photos
from tests.runs import Command, epochs, error_line, write_config

pytestmark = pytest.mark.usefixtures("ray_cluster")

PREPROCESSING = Preprocessing(size_px=64, stored_short_side_px=240, fit="stretch")
N_BURSTS = 30


def read(root: Path, split: str = "grouped") -> PhotoSet:
    listing = list_photos(str(root))
    return read_photo_set(listing, PREPROCESSING, make_rule(split, 0.2, 0.2, listing))


def audit(photo_set: PhotoSet) -> AuditDocument:
    return audit_photos(photo_set, balance="nothing")


def straddling(document: AuditDocument) -> set[str]:
    return {group[0] for side in document["splits"].values() for group in side["straddling_groups"]}


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    root = tmp_path_factory.mktemp("bursts")
    return root, write_bursts(root, N_BURSTS)


@pytest.fixture(scope="module")
def grouped(bursts: tuple[Path, list[list[str]]], ray_cluster: None) -> PhotoSet:
    return read(bursts[0])


@pytest.fixture(scope="module")
def document(grouped: PhotoSet) -> AuditDocument:
    return audit(grouped)


def sides_of(photo_set: PhotoSet) -> dict[str, str | None]:
    return dict(zip(*(photo_set.catalog[name].to_pylist() for name in ("path", "split")), strict=True))


def test_grouped_leaves_no_burst_on_two_sides_and_stratified_says_how_many(
    bursts: tuple[Path, list[list[str]]], grouped: PhotoSet, document: AuditDocument
) -> None:
    root, paths = bursts
    assert sorted(document["near_duplicates"]) == sorted(paths)
    assert straddling(document) == set()
    sides = sides_of(grouped)
    assert {sides[path] for burst in paths for path in burst} == {"train", "val", "test"}
    stratified = read(root, "stratified")
    sides = sides_of(stratified)
    torn = {burst[0] for burst in paths if len({sides[path] for path in burst}) > 1}
    stratified_document = audit(stratified)
    assert straddling(stratified_document) == torn
    assert len(torn) > N_BURSTS / 2
    assert stratified_document["splits"]["val"]["twins_in_train"] > 0


def test_what_is_found_does_not_depend_on_how_the_work_is_cut(
    bursts: tuple[Path, list[list[str]]], grouped: PhotoSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketches, "GROUP_PHOTOS", 16)
    monkeypatch.setattr(candidates, "_PART_POINTS", 1000)
    monkeypatch.setattr(near, "_PAIRS_PER_TASK", 10)
    monkeypatch.setattr(near, "_TASKS_PER_ROUND", 3)
    cut = read(bursts[0])
    assert len(list(cut.sketches.groups())) > 4
    assert cut.relations == grouped.relations
    assert cut.catalog.equals(grouped.catalog)


def test_photos_without_a_keypoint_are_looked_at_and_belong_to_nothing(tmp_path: Path) -> None:
    for number in range(8):
        label = ("glass", "paper")[number % 2]
        (tmp_path / label).mkdir(exist_ok=True)
        Image.new("RGB", (160, 120), (90, 90, 10 * number)).save(tmp_path / label / f"{number}.png")
    document = audit(read(tmp_path))
    assert document["uncompared"] == document["counts"]["accepted"] == 8
    assert (document["near_duplicates"], document["near_pairs"]) == ([], [])


def test_adding_a_photo_of_another_shot_moves_no_photo(
    bursts: tuple[Path, list[list[str]]], grouped: PhotoSet, tmp_path: Path
) -> None:
    root = tmp_path / "more"
    shutil.copytree(bursts[0], root)
    (root / "glass" / "000-aaa.jpg").write_bytes(encode(draw_scene(np.random.default_rng(99))))
    after = sides_of(read(root))
    assert after.pop("glass/000-aaa.jpg") in ("train", "val", "test")
    assert after == sides_of(grouped)


def test_pixels_that_are_equal_in_other_files_and_turned_are_found_and_conflict(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    for label in ("glass", "paper"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.jpg").write_bytes(encode(draw_scene(rng)))
    plain = Image.fromarray(rng.integers(0, 9, (40, 60, 3)).astype(np.uint8))
    plain.save(tmp_path / "glass" / "plain.png")
    plain.save(tmp_path / "paper" / "plain.bmp")
    plain.transpose(Image.Transpose.TRANSVERSE).save(tmp_path / "paper" / "turned.png")
    shuffled = np.random.default_rng(0).permutation(np.asarray(plain).reshape(-1, 3)).reshape(40, 60, 3)
    Image.fromarray(shuffled).save(tmp_path / "paper" / "same-colours.png")
    document = audit(read(tmp_path))
    assert document["exact_duplicates"] == [["glass/plain.png", "paper/plain.bmp", "paper/turned.png"]]
    kinds = {tuple(entry["paths"]): entry["kind"] for entry in document["conflicts"]}
    assert kinds == {
        ("glass/plain.png", "paper/plain.bmp"): "pixels",
        ("glass/plain.png", "paper/plain.bmp", "paper/turned.png"): "symmetry",
    }
    assert document["near_duplicates"] == []


def test_every_file_of_a_folder_full_of_surprises_is_accounted_for(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write_bursts(root, 4)
    photo = (root / "glass" / "000-0.jpg").read_bytes()
    for name in (
        ".hidden/a.jpg",
        "__MACOSX/glass/._000-0.jpg",
        "glass/._000-0.jpg",
        "glass/.ipynb_checkpoints/000-0-checkpoint.jpg",
        "glass/Thumbs.db",
        "stray.jpg",
        "Glass/upper.jpg",
        "paper/nested/deep.jpg",
        "trash/bad.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no photo" if name == "trash/bad.jpg" else photo)
    (root / "metal").mkdir()
    (root / "glass" / "loop").symlink_to("..")
    (root / "glass" / "gone.jpg").symlink_to("nowhere.jpg")
    document = audit(read(root))
    counts = document["counts"]
    assert counts["seen"] == counts["accepted"] + counts["rejected"] + counts["ignored"]
    assert counts["accepted"] == 16 + 2
    assert {entry["path"] for entry in document["rejected"]} >= {"trash/bad.jpg"}
    assert set(document["balance"]["per_class"]) == {"Glass", "glass", "paper"}
    assert any("differ only in case" in warning for warning in document["warnings"])
    (copies,) = document["exact_duplicates"]
    assert copies == ["Glass/upper.jpg", "glass/000-0.jpg", "paper/nested/deep.jpg"]


def test_what_is_written_is_the_contract_and_a_picture(
    document: AuditDocument, bursts: tuple[Path, Any], tmp_path: Path
) -> None:
    write_audit(document, str(bursts[0]), Storage.at(str(tmp_path)))
    written = json.loads((tmp_path / AUDIT_FILE).read_text())
    assert written == document
    assert set(written) >= {
        *("counts", "rejected", "exact_duplicates", "near_duplicates", "conflicts", "splits"),
        *("probes", "suspects", "fingerprint"),
    }
    with Image.open(tmp_path / SHEET_FILE) as sheet:
        assert sheet.width <= 2000
        assert sheet.height > 300


def test_resuming_without_five_of_the_photos_is_refused_with_their_names_unless_asked_for(
    trained: Path, tiny_photos: Path, command: Command, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(trained, tmp_path / "runs" / "tiny"))
    photos = Path(shutil.copytree(tiny_photos, tmp_path / "photos"))
    gone = sorted(photos.glob("glass/*.jpg"))[:5]
    for path in gone:
        path.unlink()
    config = write_config(tmp_path, photos)
    refused = command("train", config, "--resume", "--set", "train.epochs=3")
    assert refused.code == 3
    assert all(f"glass/{path.name}" in error_line(refused.err) for path in gone)
    assert "--allow-changed-data" in error_line(refused.err)
    assert epochs(runs) == [1, 2]
    asked = command("train", config, "--resume", "--allow-changed-data", "--set", "train.epochs=3")
    assert asked.code == 0, asked.err
    assert "5 gone" in asked.err
    assert epochs(runs) == [1, 2, 3]


def test_the_command_prints_one_screen_and_writes_what_it_is_asked_for(
    bursts: tuple[Path, Any], command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = command("audit", bursts[0], "--folds", "3", "--out", out, "--json", tmp_path / "own.json")
    assert result.code == 0, result.err
    assert "30 groups show the same shot" in result.err
    assert len(result.err.splitlines()) < 40
    assert result.out == ""
    assert json.loads((tmp_path / "own.json").read_text()) == json.loads((out / AUDIT_FILE).read_text())
    assert sorted(path.name for path in out.iterdir()) == [
        *("audit.json", "audit.png", "fold-1.csv", "fold-2.csv", "fold-3.csv")
    ]
    assert command("audit", bursts[0], "--folds", "3").code == 2


def test_a_folder_of_which_no_photo_can_be_used_has_a_report_and_exits_with_3(command: Command, tmp_path: Path) -> None:
    for name in ("glass/a.jpg", "paper/b.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no photo")
    result = command("audit", tmp_path, "--json", tmp_path / "audit.json")
    assert result.code == 3, result.err
    assert "no photo can be used; 2 rejected: 2 text file; such as 'glass/a.jpg': the file is" in error_line(result.err)
    assert len(json.loads((tmp_path / "audit.json").read_text())["rejected"]) == 2


def test_a_network_s_features_name_the_photo_that_looks_like_another_class(command: Command, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from ray_trash.model.network import build_network

    torch.manual_seed(0)
    save_file(build_network(2).state_dict(), tmp_path / "weights.safetensors")
    photos = make_photos(tmp_path / "photos", 12)
    make_photos(tmp_path / "other", 1, seed=9)
    (tmp_path / "other" / "paper" / "000.jpg").rename(photos / "glass" / "005.jpg")
    result = command("audit", photos, "--features", tmp_path / "weights.safetensors", "--json")
    assert result.code == 0, result.err
    suspects = json.loads(result.out)["suspects"]
    assert [(entry["path"], entry["suggested"]) for entry in suspects] == [("glass/005.jpg", "paper")]
    assert "features" in suspects[0]["reason"]
    absent = command("audit", photos, "--features", tmp_path / "absent.safetensors")
    assert absent.code == 4
