"""Few photos are evaluated by this process, masks and pictures of no class included, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ray_trash.cluster.here import MOST_PHOTOS, is_connected
from ray_trash.evaluate.run import evaluate_checkpoint, most_work
from ray_trash.evaluate.sides import list_of_classes
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from tests.models import write_model
from tests.photos import make_photos


def test_few_photos_are_evaluated_without_a_cluster_and_torch_keeps_its_threads(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    checkpoint, threads = open_checkpoint(tmp_path / "model"), torch.get_num_threads()
    root, out = str(make_photos(tmp_path / "photos", 2)), tmp_path / "out"
    listed = list_of_classes(checkpoint.document, root, labels_uri=None, terminal=Terminal.silent())
    found = evaluate_checkpoint(checkpoint, root, split="all", out=Storage.at(out), with_masks=True, listed=listed)
    assert not is_connected()
    assert (found["n"], found["unknown"]["n"]) == (6, 100)
    assert json.loads((out / "evaluation.json").read_text())["confusion_matrix"] == found["confusion_matrix"]
    assert torch.get_num_threads() == threads
    work = {masks: most_work(checkpoint.document, listed, views=8, with_masks=masks) for masks in (False, True)}
    assert work[False] < MOST_PHOTOS
    # Eight views of 3 x 6 photos and 100 pictures, of 32 pixels instead of 224.
    assert work[True] == 8 * 118 * (32 / 224) ** 2
