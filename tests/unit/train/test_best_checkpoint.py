"""A run's checkpoints are put in place by what every file system can do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ray_trash.model.checkpoint import MARKER
from ray_trash.storage import Storage
from ray_trash.train.run_directory import BEST, CHECKPOINTS, publish, repair_best


@pytest.mark.parametrize("missing", [(), ("link", "chmod", "utime", "fsync", "symlink")])
def test_the_best_checkpoint_is_a_whole_copy_of_its_epoch_s(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    for name in missing:
        monkeypatch.setattr(os, name, refuse)
    run = Storage.at(tmp_path)
    for name in ("epoch-001-val_loss-0.5000", "epoch-002-val_loss-0.4000"):

        def write(folder: Path, name: str = name) -> None:
            (folder / "trainer").mkdir(parents=True)
            (folder / "trainer" / "state.pt").write_text(f"state of {name}")
            (folder / MARKER).write_text(name)

        publish(run, name, write)
        repair_best(run, name)
        files = {
            path.relative_to(tmp_path / BEST).as_posix() for path in (tmp_path / BEST).rglob("*") if path.is_file()
        }
        assert files == {"trainer/state.pt", MARKER}
        assert (tmp_path / BEST / MARKER).read_text() == name
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([BEST, CHECKPOINTS])
