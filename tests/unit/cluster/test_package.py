"""What a job takes along from the folder of whoever submits it, and what never leaves this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.cluster import package
from ray_trash.cluster.package import choose_files
from ray_trash.errors import ConfigError

ROOT = Path(__file__).parents[3]


def write(root: Path, *names: str, text: str = "x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def taken(root: Path, **given: list[str]) -> set[str]:
    return {name for name in choose_files(root, **given).files if not name.startswith("ray_trash/")}


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        "deep/er/.env",
        "token",
        "auth_token",
        "hf_token.txt",
        "server.key",
        "api_key",
        "tls/cert.pem",
        ".ssh/config",
        ".aws/credentials",
        ".git/config",
        ".venv/pyvenv.cfg",
        "__pycache__/a.pyc",
        "photos/glass/1.jpg",
        "photos/glass/2.HEIC.heic",
        "weights.safetensors",
        "scored.parquet",
        "archive.tar.gz",
    ],
)
def test_data_secrets_and_what_can_be_made_again_stay_here_whatever_git_says(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, "configs/mine.yaml", "key.d/key/code.py", "labels.csv")
    assert taken(tmp_path) == {"configs/mine.yaml", "key.d/key/code.py", "labels.csv"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.txt", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
        ("service.json", '{"type": "service_account", "private_key": "-----BEGIN"}'),
    ],
)
def test_a_key_is_known_by_what_is_in_it(name: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, name, text=text)
    write(tmp_path, "public.txt", text="-----BEGIN CERTIFICATE-----")
    assert taken(tmp_path) == {"public.txt"}
    assert name in choose_files(tmp_path).left_out["secrets"]


def test_runs_checkpoints_environments_and_named_data_are_left_out_whole(tmp_path: Path) -> None:
    write(tmp_path, "results/a/run.json", "results/a/metrics.jsonl", "model/COMPLETE", "model/checkpoint.json")
    write(tmp_path, "env311/pyvenv.cfg", "env311/bin/python", "tables/1.csv", "a.py")
    found = choose_files(tmp_path, data=["tables"])
    assert {name for name in found.files if "ray_trash" not in name} == {"a.py"}
    assert found.left_out["runs"] == ["results/a/"]
    assert found.left_out["checkpoints"] == ["model/"]
    assert found.left_out["data and runs"] == ["tables/"]
    assert "model/ (checkpoints)" in found.summary()


def test_ignore_files_hide_what_git_and_ray_leave_out_also_below_the_root(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.log", "sub/c.py", "sub/d.txt", "sub/kept.log", "big/1.csv", "big/2.csv")
    write(tmp_path, ".gitignore", text="*.log\n!kept.log\n/big/\n")
    write(tmp_path, "sub/.rayignore", text="/d.txt\n")
    assert taken(tmp_path) == {"a.py", ".gitignore", "sub/c.py", "sub/kept.log", "sub/.rayignore"}


@pytest.mark.parametrize(
    ("file", "pattern"), [(".gitignore", "configs/"), (".rayignore", "*.yaml"), ("configs/.gitignore", "/mine.yaml")]
)
def test_a_config_that_an_ignore_file_hides_is_taken_and_the_pattern_is_named(
    file: str, pattern: str, tmp_path: Path
) -> None:
    write(tmp_path, "configs/mine.yaml")
    write(tmp_path, file, text=f"# what git leaves out\nother\n{pattern}\n")
    assert "configs/mine.yaml" not in taken(tmp_path)
    found = choose_files(tmp_path, needed=["configs/mine.yaml"])
    assert "configs/mine.yaml" in found.files
    assert found.against_ignore == {"configs/mine.yaml": f"`{pattern}` in {file}"}


def test_a_folder_that_is_too_large_is_refused_with_its_largest_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MOST_BYTES", 3 * 2**20)
    write(tmp_path, "big/1.csv", "big/2.csv", text="x" * 2**20)
    write(tmp_path, "huge.txt", text="x" * 3 * 2**20)
    words = r"would be sent, at most 3.0 MiB are; the largest: huge.txt 3.0 MiB, big/ 2.0 MiB, ray_trash/ "
    with pytest.raises(ConfigError, match=words):
        choose_files(tmp_path)


def test_a_home_is_refused_before_all_of_it_was_looked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MOST_FILES", 3)
    write(tmp_path, "a.py", "mail/1.txt", "mail/2.txt", "mail/3.txt", "z.txt")
    with pytest.raises(ConfigError, match="more than 3 files would be sent, most of them in mail/; name what is not"):
        choose_files(tmp_path)


def test_the_same_files_make_the_same_package_so_that_the_cluster_keeps_one(tmp_path: Path) -> None:
    contents = []
    for folder in ("one", "two"):
        root = write(tmp_path / folder, "b.py", "a/c.yaml", "a/d.yaml")
        choose_files(root).write(tmp_path / f"{folder}.zip")
        contents.append((tmp_path / f"{folder}.zip").read_bytes())
    assert contents[0] == contents[1]


def test_the_program_is_sent_as_it_runs_here_unless_the_folder_has_its_own(tmp_path: Path) -> None:
    theirs = choose_files(write(tmp_path, "a.py")).files
    assert "ray_trash/serve/web/index.html" in theirs
    assert not [name for name in theirs if name.endswith(".pyc")]
    ours = choose_files(ROOT).files
    assert {name for name in theirs if name.startswith("ray_trash/")} <= set(ours)
    assert not [name for name in ours if name.startswith((".git/", "data/", "runs/"))]


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/data/1.txt", "elsewhere/labels.csv", "here/a.py")
    (tmp_path / "here" / "data").symlink_to(tmp_path / "elsewhere" / "data")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "here" / "labels.csv").symlink_to(tmp_path / "elsewhere" / "labels.csv")
    assert taken(tmp_path / "here") == {"a.py", "labels.csv"}


def test_a_folder_that_cannot_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cannot be listed: No such file or directory; name it in .rayignore"):
        choose_files(tmp_path / "nothing")
