"""What is said of a job's command before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.arguments import build_parser
from ray_trash.cluster.job_command import JobCommand, understand
from ray_trash.errors import ConfigError

CONFIG = "name: mine\nstorage: {storage}\ndata: {{root: {root}}}\n"


def look_at(root: Path, *words: str) -> JobCommand:
    return understand(words, build_parser().parse_args(words), root)


def write_config(root: Path, *, storage: str = "s3://bucket/runs", photos: str = "s3://bucket/photos") -> Path:
    path = root / "configs" / "mine.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG.format(storage=storage, root=photos))
    return path


def test_a_config_below_the_folder_is_needed_and_named_as_the_job_finds_it(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    for given in ("configs/mine.yaml", "./configs/../configs/mine.yaml", str(path)):
        command = look_at(tmp_path, "train", given, "--set", "train.epochs=1")
        assert list(command.words) == ["train", "configs/mine.yaml", "--set", "train.epochs=1"]
        assert command.needed == ["configs/mine.yaml"]
        assert not command.warnings


def test_a_config_elsewhere_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path)
    (tmp_path / "other").mkdir()
    for given in (str(path), "../configs/mine.yaml"):
        with pytest.raises(ConfigError, match=f"is not below {tmp_path}/other, the folder that is sent; copy it there"):
            look_at(tmp_path / "other", "train", given)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="paths of the command are relative to --working-dir"):
        look_at(tmp_path / "other", "train", "configs/mine.yaml")
    with pytest.raises(ConfigError, match=r"nothing.yaml: cannot read the config file: No such file"):
        look_at(tmp_path, "train", "nothing.yaml")


def test_a_mistake_in_a_config_is_said_here(tmp_path: Path) -> None:
    write_config(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean train.epochs\?"):
        look_at(tmp_path, "train", "configs/mine.yaml", "--set", "train.epoch=1")


def test_what_only_this_machine_has_is_a_warning_and_stays_here(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    write_config(tmp_path, storage="runs", photos="data/trashnet")
    relative = look_at(tmp_path, "run", "configs/mine.yaml")
    assert relative.data == ["data/trashnet", "runs"]
    root, storage = relative.warnings
    assert root.startswith("data.root=data/trashnet is not sent, and a relative path is in the job's own folder; give")
    assert storage.startswith("storage=runs is relative: it is written in the job's own folder, which Ray removes;")
    here = look_at(tmp_path, "audit", str(photos), "--out", "found")
    assert here.warnings[0].startswith(f"{photos} is on this machine; the job finds it only where the cluster has it")
    assert here.warnings[1].startswith("--out found is relative")
    assert not look_at(tmp_path, "audit", "/mnt/nowhere/photos", "--out", "/mnt/nowhere/out").warnings
    both = look_at(tmp_path, "score", "runs/mine/checkpoint", "s3://bucket/a", "--out", "s3://bucket/scored.csv")
    assert [text.partition(" is ")[0] for text in both.warnings] == ["runs/mine/checkpoint"]


def test_tables_that_a_command_names_are_taken_along(tmp_path: Path) -> None:
    write_config(tmp_path)
    for name in ("labels.parquet", "fold-1.csv"):
        (tmp_path / name).write_text("path,label")
    words = ("--set", "data.labels=labels.parquet", "--set", "data.split=fold-1.csv")
    command = look_at(tmp_path, "train", "configs/mine.yaml", *words)
    assert command.needed == ["configs/mine.yaml", "labels.parquet", "fold-1.csv"]
    assert not command.warnings
    audit = look_at(tmp_path, "audit", "s3://bucket/photos", "--labels", "labels.parquet")
    assert audit.needed == ["labels.parquet"]
