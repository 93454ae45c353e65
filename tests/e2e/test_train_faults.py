"""Kills, damage and bad input through the real command."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.command import epochs, kill, run, start, wait_until, worker_pids, write_config
from tests.photos import make_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 24)


def test_a_killed_worker_is_replaced_and_training_goes_on(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    child = start(["train", str(config), "--set", "train.workers=2", "--set", "train.epochs=4"])
    runs = tmp_path / "runs" / "tiny"
    wait_until(lambda: epochs(runs) == [1] or child.poll() is not None, timeout_s=180, what="epoch 1")
    os.kill(worker_pids(child.pid)[-1], signal.SIGKILL)
    _, err = child.communicate(timeout=240)
    assert child.returncode == 0, err
    assert epochs(runs) == [1, 2, 3, 4]
    assert json.loads((runs / "run.json").read_text())["status"] == "done"


def kill_after(child: subprocess.Popen[str], runs: Path, *, new_epochs: int, delay_s: float) -> None:
    """Kill a driver so long after its next epoch, or after its start where no epoch is waited for."""
    target = len(epochs(runs)) + new_epochs
    if new_epochs:
        wait_until(lambda: len(epochs(runs)) >= target or child.poll() is not None, timeout_s=180, what="an epoch")
    try:
        child.wait(timeout=delay_s if new_epochs else 4 + 4 * delay_s)
    except subprocess.TimeoutExpired:
        kill(child)
    else:
        child.communicate()


def test_a_driver_killed_again_and_again_ends_with_every_epoch_once(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    runs, draw = tmp_path / "runs" / "tiny", random.Random(7)
    arguments = ["train", str(config), "--resume", "--set", "train.epochs=10"]
    for _ in range(10):
        # A random moment: during start-up, inside an epoch, or inside the write of a checkpoint.
        kill_after(start(arguments), runs, new_epochs=draw.choice([0, 0, 1]), delay_s=draw.uniform(0, 1.5))
    finished = run(*arguments)
    assert finished.returncode == 0, finished.stderr
    assert epochs(runs) == list(range(1, 11))


def test_a_truncated_newest_checkpoint_is_passed_over_by_name(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    first = run("train", config, "--set", "train.epochs=3")
    assert first.returncode == 0, first.stderr
    runs = tmp_path / "runs" / "tiny"
    newest = max((runs / "checkpoints").iterdir())
    weights = newest / "weights.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[: len(data) // 2])
    again = run("train", config, "--set", "train.epochs=4", "--resume")
    assert again.returncode == 0, again.stderr
    assert "passed over" in again.stderr
    assert newest.name in again.stderr
    assert epochs(runs) == [1, 2, 3, 4]


def test_a_kill_inside_a_checkpoint_s_write_leaves_the_one_before(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    child = start(["train", str(config), "--set", "train.epochs=6"])
    runs = tmp_path / "runs" / "tiny"

    def writing() -> bool:
        partial = list((runs / "checkpoints").glob(".epoch-003-*")) if (runs / "checkpoints").exists() else []
        return bool(partial) or child.poll() is not None

    wait_until(writing, timeout_s=180, what="the third checkpoint's write")
    for pid in worker_pids(child.pid):
        os.kill(pid, signal.SIGKILL)
    kill(child)
    finished = run("train", config, "--set", "train.epochs=4", "--resume")
    assert finished.returncode == 0, finished.stderr
    assert epochs(runs) == [1, 2, 3, 4]
    assert not list((runs / "checkpoints").glob(".epoch-*"))


def test_resume_on_one_worker_equals_an_unbroken_run_to_the_bit(photos: Path, tmp_path: Path) -> None:
    changes = [
        *("--set", "train.epochs=4", "--set", "train.ema_decay=0.9", "--set", "train.warmup_steps=3"),
        *(
            "--set",
            "model.frozen_stages=2",
            "--set",
            "model.dropout=0.3",
            "--set",
            "augment.mixup_alpha=0.5",
            "--set",
            "augment.preset=strong",
        ),
    ]
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for folder in (unbroken, broken):
        folder.mkdir()
    whole = run("train", write_config(unbroken, photos), *changes)
    assert whole.returncode == 0, whole.stderr
    config = write_config(broken, photos)
    child = start(["train", str(config), *changes])
    runs = broken / "runs" / "tiny"
    wait_until(lambda: len(epochs(runs)) >= 2 or child.poll() is not None, timeout_s=180, what="epoch 2")
    kill(child)
    assert len(epochs(runs)) < 4
    resumed = run("train", config, *changes, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    timing = ("seconds", "images_per_s")
    logs = []
    for folder in (unbroken, broken):
        lines = (folder / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()
        logs.append([{k: v for k, v in json.loads(line).items() if k not in timing} for line in lines])
    assert logs[0] == logs[1]
    names = [max(p.name for p in (f / "runs/tiny/checkpoints").iterdir()) for f in (unbroken, broken)]
    assert names[0] == names[1]
    for part in ("weights.safetensors", "trainer/state.safetensors"):
        files = [f / "runs" / "tiny" / "checkpoints" / names[0] / part for f in (unbroken, broken)]
        assert files[0].read_bytes() == files[1].read_bytes(), part


@pytest.mark.parametrize("workers", [2, 3])
def test_twenty_five_photos_train_on_more_than_one_worker(workers: int, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    for path in sorted((photos / "paper").iterdir())[1:]:
        path.unlink()
    finished = run(
        "train",
        write_config(tmp_path, photos),
        "--set",
        f"train.workers={workers}",
        "--set",
        "train.epochs=1",
    )
    assert finished.returncode == 0, finished.stderr
    assert epochs(tmp_path / "runs" / "tiny") == [1]


def test_sigterm_ends_the_command_and_every_process_it_started(photos: Path, tmp_path: Path) -> None:
    child = start(["train", str(write_config(tmp_path, photos)), "--set", "train.epochs=200"])
    runs = tmp_path / "runs" / "tiny"
    wait_until(lambda: bool(epochs(runs)) or child.poll() is not None, timeout_s=180, what="epoch 1")
    session = os.getsid(child.pid)
    os.kill(child.pid, signal.SIGTERM)
    _, err = child.communicate(timeout=15)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert "--resume" in err

    def all_gone() -> bool:
        alive = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and os.getsid(int(folder.name)) == session:
                    alive.append((folder / "stat").read_text().split(") ")[1][0])
            except (OSError, ProcessLookupError):
                continue
        return all(state == "Z" for state in alive)

    wait_until(all_gone, timeout_s=15, what="Ray's processes to end")
    assert json.loads((runs / "run.json").read_text())["status"] == "interrupted"


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def test_a_learning_rate_that_blows_up_is_exit_5_and_leaves_no_best_checkpoint(photos: Path, tmp_path: Path) -> None:
    result = run(
        "train", write_config(tmp_path, photos), "--set", "train.learning_rate=1e6", "--set", "model.frozen_stages=0"
    )
    assert result.returncode == 5, result.stderr
    assert "diverged" in one_line(result)
    assert not (tmp_path / "runs" / "tiny" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (["train.epoch=3"], 2, "did you mean train.epochs?"),
        (["train.momentum=0.5"], 2, "has no effect"),
        (["data.root=absent"], 3, "data.root"),
        (["train.workers=64"], 6, "the cluster has"),
        (["train.device=cuda"], 6, "GPU"),
        (["model.weights=absent.safetensors"], 4, "absent.safetensors"),
        (["data.split=absent.csv"], 2, "absent.csv"),
        (["data.split=official"], 3, "one-indexed"),
    ],
)
def test_a_mistake_is_one_line_and_its_exit_code(
    changes: list[str], code: int, words: str, photos: Path, tmp_path: Path
) -> None:
    options = [part for change in changes for part in ("--set", change)]
    result = run("train", write_config(tmp_path, photos), *options, environment={"RAY_TRASH_TRACEBACK": ""})
    assert result.returncode == code, result.stderr
    assert words in one_line(result)


def test_offline_imagenet_weights_say_where_to_put_the_file(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    # A proxy nobody listens on: the same refusal with and without a network.
    offline = {
        "TORCH_HOME": str(tmp_path / "torch"),
        "https_proxy": "http://127.0.0.1:9",
        "RAY_TRASH_TRACEBACK": "",
    }
    result = run("train", config, "--set", "model.weights=imagenet", environment=offline)
    assert result.returncode == 4, result.stderr
    assert str(tmp_path / "torch") in one_line(result)


def test_a_second_run_of_a_name_needs_resume_or_overwrite(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos)
    assert run("train", config, "--set", "train.epochs=1").returncode == 0
    refused = run("train", config, "--set", "train.epochs=1")
    assert refused.returncode == 2
    assert "--resume" in one_line(refused)
    assert "--overwrite" in one_line(refused)
    both = run("train", config, "--resume", "--overwrite")
    assert both.returncode == 2
    assert run("train", config, "--set", "train.epochs=1", "--overwrite").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("options", ["size=60m", "size=400m,ro"])
def test_full_and_read_only_storage_are_named(options: str, photos: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this sandbox does not mount: {mounted.stderr.strip()}")
    try:
        config = write_config(tmp_path, photos)
        result = run("train", config, "--set", f"storage={small}")
        assert result.returncode == 2, result.stderr
        assert str(small) in one_line(result)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.parametrize("policy", ["quarantine", "fail"])
def test_bad_photos_are_named_and_counted(policy: str, tmp_path: Path) -> None:
    from tests.corpus import image_corpus

    photos = make_photos(tmp_path / "photos", 12)
    expected = {}
    for index, (_, case) in enumerate(sorted(image_corpus().items())):
        path = photos / "glass" / f"case-{index:03d}.jpg"
        path.write_bytes(case[0])
        if case[1] is not None:
            expected[f"glass/{path.name}"] = case[1]
    result = run(
        "train",
        write_config(tmp_path, photos),
        "--set",
        "train.epochs=1",
        "--set",
        f"data.on_bad_image={policy}",
    )
    audit = json.loads((tmp_path / "runs" / "tiny" / "audit.json").read_text())
    assert {entry["path"]: entry["reason"] for entry in audit["rejected"]} == expected
    counts = audit["counts"]
    assert counts["seen"] == counts["accepted"] + counts["rejected"] + counts["ignored"]
    assert result.returncode == (0 if policy == "quarantine" else 3), result.stderr
    assert (epochs(tmp_path / "runs" / "tiny") == [1]) == (policy == "quarantine")


def test_a_class_with_one_photo_is_trained_and_warned_of(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    for path in sorted((photos / "metal").iterdir())[1:]:
        path.unlink()
    result = run("train", write_config(tmp_path, photos), "--set", "train.epochs=1")
    assert result.returncode == 0, result.stderr
    assert "metal" in result.stderr
    audit = json.loads((tmp_path / "runs" / "tiny" / "audit.json").read_text())
    assert audit["splits"]["train"]["per_class"]["metal"] == 1


def test_no_photos_and_a_class_of_bad_files_are_exit_3(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = run("train", write_config(tmp_path, empty))
    assert result.returncode == 3
    photos = make_photos(tmp_path / "photos", 6)
    shutil.rmtree(photos / "paper")
    (photos / "paper").mkdir()
    (photos / "paper" / "bad.jpg").write_text("no photo")
    result = run("train", write_config(tmp_path, photos))
    assert result.returncode == 3
    assert "paper" in one_line(result)
