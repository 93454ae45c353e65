"""Packed sets in the place of folders, through the real command on the shared Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.training import history
from tests.photos import make_photos
from tests.runs import Command, error_line, settings, write_config
from tests.s3 import Bucket


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of each of three classes, two of them equal, and one that is broken."""
    root = make_photos(tmp_path_factory.mktemp("photos"), 12)
    (root / "glass" / "011.jpg").write_bytes((root / "glass" / "003.jpg").read_bytes())
    (root / "paper" / "broken.jpg").write_bytes((root / "paper" / "003.jpg").read_bytes()[:400])
    (root / "notes.txt").write_text("not a photo")
    return root


def test_a_packed_set_gives_the_same_training_to_the_bit_and_the_same_figures_and_answers(
    photos: Path, command: Command, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    made = command("pack", photos, "--to", packed, "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["counts"] == {"seen": 38, "accepted": 37, "rejected": 0, "ignored": 1}
    runs = {}
    for name, root, cache in (("folder", photos, "memory"), ("packed", packed, "memory"), ("stream", packed, "stream")):
        config = write_config(tmp_path, root)
        changes = settings(name=name, data__cache=cache, train__epochs=2)
        trained = command("train", config, *changes)
        assert trained.code == 0, trained.err
        runs[name] = tmp_path / "runs" / name
    folder = runs.pop("folder")
    for run in runs.values():
        assert history(run) == history(folder)
        for name in ("weights.safetensors", "catalog.parquet"):
            place = f"checkpoint/{name}" if name.startswith("weights") else name
            assert (run / place).read_bytes() == (folder / place).read_bytes()
    documents = []
    for root, out in ((photos, tmp_path / "a"), (packed, tmp_path / "b")):
        audited = command("audit", root, "--json")
        evaluated = command("evaluate", folder / "checkpoint", "--data", root, "--split", "all", "--out", out, "--json")
        scored = command("score", folder / "checkpoint", root, "--out", out / "scored.parquet")
        assert (audited.code, evaluated.code, scored.code) == (0, 0, 0), audited.err + evaluated.err + scored.err
        figures = json.loads(evaluated.out)
        assert figures.pop("data_root") == str(root)
        documents.append((json.loads(audited.out), figures, pq.read_table(out / "scored.parquet")))
    for of_folder, of_packed in zip(*documents, strict=True):
        assert of_folder == of_packed


def test_a_set_is_packed_to_an_object_store_and_read_from_it(
    photos: Path, command: Command, bucket: Bucket, tmp_path: Path
) -> None:
    uri = bucket.uri("sets/mine")
    assert command("pack", photos, "--to", uri).code == 0
    again = command("pack", photos, "--to", uri)
    assert again.code == 2
    assert "is a packed set already, complete" in error_line(again.err)
    assert command("pack", photos, "--to", uri, "--overwrite").code == 0
    local, remote = (command("audit", root, "--json") for root in (photos, uri))
    assert remote.code == 0, remote.err
    assert json.loads(remote.out) == json.loads(local.out)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_is_one_line_and_leaves_no_set(photos: Path, command: Command, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(small)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this sandbox does not mount: {mounted.stderr.strip()}")
    try:
        result = command("pack", photos, "--to", small / "packed")
        assert result.code == 2, result.err
        assert "No space left on device" in error_line(result.err)
        assert not (small / "packed" / "packed.json").exists()
        refused = command("audit", small / "packed")
        assert refused.code == 3, refused.err
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_pack_that_is_killed_leaves_no_set_and_the_next_one_goes_on(
    photos: Path, command: Command, joined: dict[str, str], tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    arguments = ["pack", str(photos), "--to", str(packed)]
    killed = "import ray_trash.pack.target as t, os; t.Target.finish = lambda *_: os.kill(os.getpid(), 9); "
    code = f"{killed}from ray_trash.cli import main; main({arguments!r})"
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, **joined}, check=False, timeout=300)
    assert child.returncode == -9
    assert command("audit", packed).code == 3
    assert command(*arguments).code == 0
    assert command("audit", packed).code == 0
