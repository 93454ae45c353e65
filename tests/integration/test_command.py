"""Mistakes, bad photos and bad storage, through the real command on the shared Ray."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import image_corpus
from tests.photos import make_photos, make_twenty_five_photos
from tests.runs import Command, epochs, error_line, settings, write_config


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("train.epoch=3", 2, "did you mean train.epochs?"),
        ("train.momentum=0.5", 2, "has no effect"),
        ("data.root=absent", 3, "data.root"),
        ("train.workers=64", 6, "the cluster has"),
        ("train.device=cuda", 6, "GPU"),
        ("model.weights=absent.safetensors", 4, "absent.safetensors"),
        ("data.split=absent.csv", 2, "absent.csv"),
        ("data.split=official", 3, "one-indexed"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    change: str, code: int, words: str, command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    result = command("train", write_config(tmp_path, tiny_photos), "--set", change)
    assert result.code == code, result.err
    assert words in error_line(result.err)


def test_offline_imagenet_weights_say_where_to_put_the_file(
    command: Command, tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    # A proxy nobody listens on: the same refusal with and without a network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    result = command("train", write_config(tmp_path, tiny_photos), "--set", "model.weights=imagenet")
    assert result.code == 4, result.err
    assert str(tmp_path / "torch") in error_line(result.err)


def test_a_learning_rate_that_blows_up_is_exit_5_and_leaves_no_best_checkpoint(
    command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    changes = settings(train__learning_rate="1e6", model__frozen_stages=0)
    result = command("train", write_config(tmp_path, tiny_photos), *changes)
    assert result.code == 5, result.err
    assert "diverged" in error_line(result.err)
    assert not (tmp_path / "runs" / "tiny" / "checkpoint").exists()


@pytest.fixture
def small_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a file system with the options of the test's parameter."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(small)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this sandbox does not mount: {mounted.stderr.strip()}")
    yield small
    subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("small_storage", ["size=60m", "size=400m,ro"], indirect=True)
def test_full_and_read_only_storage_are_named(
    small_storage: Path, command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    result = command("train", write_config(tmp_path, tiny_photos, storage=str(small_storage)))
    assert result.code == 2, result.err
    assert str(small_storage) in error_line(result.err)


@pytest.fixture
def photos_and_bad_ones(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Make 25 photos, one of them alone in its class, and add every case of the corpus. Returns what is bad and why."""
    photos = make_twenty_five_photos(tmp_path / "photos")
    bad: dict[str, str] = {}
    for index, (_, image) in enumerate(sorted(image_corpus().items())):
        path = photos / "glass" / f"case-{index:03d}.jpg"
        path.write_bytes(image.encoded)
        if image.code is not None:
            bad[f"glass/{path.name}"] = image.code
    return photos, bad


def test_bad_photos_are_named_and_counted_and_the_only_photo_of_a_class_is_trained_on(
    photos_and_bad_ones: tuple[Path, dict[str, str]], command: Command, tmp_path: Path
) -> None:
    photos, bad = photos_and_bad_ones
    result = command("train", write_config(tmp_path, photos), *settings(train__epochs=1))
    assert result.code == 0, result.err
    run = tmp_path / "runs" / "tiny"
    assert epochs(run) == [1]
    audit = json.loads((run / "audit.json").read_text())
    assert {entry["path"]: entry["reason"] for entry in audit["rejected"]} == bad
    counts = audit["counts"]
    assert counts["seen"] == counts["accepted"] + counts["rejected"] + counts["ignored"]
    assert counts["accepted"] == 25 + len(image_corpus()) - len(bad)
    assert "metal" in result.err
    assert audit["splits"]["train"]["per_class"]["metal"] == 1


def test_bad_photos_end_a_run_that_wants_none(
    photos_and_bad_ones: tuple[Path, dict[str, str]], command: Command, tmp_path: Path
) -> None:
    photos, bad = photos_and_bad_ones
    result = command("train", write_config(tmp_path, photos), *settings(data__on_bad_image="fail"))
    assert result.code == 3, result.err
    assert f"{len(bad)} bad photos" in error_line(result.err)
    run = tmp_path / "runs" / "tiny"
    assert epochs(run) == []
    audit = json.loads((run / "audit.json").read_text())
    assert {entry["path"]: entry["reason"] for entry in audit["rejected"]} == bad
    counts = audit["counts"]
    assert counts["seen"] == counts["accepted"] + counts["rejected"] + counts["ignored"]


def test_no_photos_and_a_class_of_bad_files_are_exit_3(command: Command, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = command("train", write_config(tmp_path, empty))
    assert result.code == 3
    photos = make_photos(tmp_path / "photos", 6)
    shutil.rmtree(photos / "paper")
    (photos / "paper").mkdir()
    (photos / "paper" / "bad.jpg").write_text("no photo")
    result = command("train", write_config(tmp_path, photos))
    assert result.code == 3
    assert "paper" in error_line(result.err)


def test_a_set_that_comes_split_is_trained_and_evaluated_as_it_is_and_its_own_run_in_it_is_no_part_of_it(
    command: Command, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for side, per_class in (("train", 8), ("test", 4)):
        make_photos(photos / side, per_class, seed=per_class)
    shutil.copy(photos / "train/glass/000.jpg", photos / "test/glass/leak.jpg")
    shutil.move(photos / "train/metal", tmp_path / "store")
    (photos / "train/me\u0301tal").symlink_to(tmp_path / "store")
    (photos / "test/metal").rename(photos / "test/m\u00e9tal")
    storage = photos / "runs"
    config, run = write_config(tmp_path, photos, storage=str(storage)), storage / "tiny"
    for n_epochs, more in ((1, []), (2, ["--resume"])):
        result = command("train", config, *settings(train__epochs=n_epochs), *more)
        assert result.code == 0, result.err
        assert epochs(run) == list(range(1, n_epochs + 1))
        audit = json.loads((run / "audit.json").read_text())
        sides = {side: summary["n"] for side, summary in audit["splits"].items()}
        assert sides["test"] == 13
        assert sides["train"] + sides["val"] == 24
        assert sides["val"]
        assert ["test/glass/leak.jpg", "train/glass/000.jpg"] in audit["splits"]["test"]["straddling_groups"]
    result = command("evaluate", run / "checkpoint", "--data", photos, "--out", run / "test", "--json")
    assert result.code == 0, result.err
    evaluation = json.loads(result.out)
    counts = evaluation["counts"]
    assert (evaluation["n"], counts["accepted"]) == (13, 37)
    assert evaluation["classes"] == ["glass", "m\u00e9tal", "paper"]
    assert counts["seen"] == counts["accepted"] + counts["ignored"]
    assert not any("not the photos the checkpoint was trained on" in warning for warning in evaluation["warnings"])
    flat = shutil.copytree(photos / "test", tmp_path / "flat")
    result = command("evaluate", run / "checkpoint", "--data", flat, "--out", tmp_path / "out")
    assert result.code == 3
    assert "split by folders train, val and test" in error_line(result.err)
    result = command(
        "evaluate", run / "checkpoint", "--data", flat, "--split", "all", "--out", tmp_path / "out", "--json"
    )
    assert json.loads(result.out)["confusion_matrix"] == evaluation["confusion_matrix"]
