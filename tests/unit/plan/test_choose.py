from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ray_trash.cluster.inventory import Inventory
from ray_trash.cluster.machines import Machine
from ray_trash.config import Config, config_from_text
from ray_trash.dataset.listing import list_photos
from ray_trash.errors import ConfigError
from ray_trash.plan.choose import FEWEST_EPOCHS, Chosen, choose, run_name
from tests.photos import make_photos

GIB = 1 << 30


def never(config: Config) -> Mapping[str, Any]:
    raise AssertionError("nothing has to be measured where there is no limit")


def taking(epoch_s: Mapping[int, float], rest_s: float):
    """Estimate an epoch by the number of frozen stages."""

    def estimated(config: Config) -> Mapping[str, Any]:
        seconds = epoch_s[config.model.frozen_stages]
        epochs = config.train.epochs
        return {
            "measured": {"epoch": {"training_s": seconds, "validation_s": 0.0, "checkpoint_s": 0.0}},
            "estimate": {"seconds": rest_s + epochs * seconds},
            "training": {"epochs": epochs},
        }

    return estimated


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos") / "my photos", 10)


def chosen(root: Path, *, gpus: float = 0, cluster: str = "", **changes: Any) -> Chosen:
    there_is = Inventory(cluster, (Machine("a", 2, gpus, 16 * GIB, 4 * GIB),))
    given = {"has_weights": True, "overrides": {}, "minutes": None, "estimated": never, **changes}
    return choose(str(root), list_photos(str(root)), there_is, **given)


def whys(found: Chosen) -> dict[str, str]:
    return {one.key: one.why for one in found.settings}


def test_without_a_gpu_most_of_the_network_keeps_its_weights_and_this_process_trains(root: Path) -> None:
    found = chosen(root)
    assert found.config.model.weights == "imagenet"
    assert found.config.model.frozen_stages == 3
    assert found.config.augment.views == 4
    assert found.config.train.workers == 0
    assert "no GPU" in whys(found)["model.frozen_stages"]


def test_a_gpu_trains_nearly_all_of_the_network(root: Path) -> None:
    found = chosen(root, gpus=1)
    assert (found.config.model.frozen_stages, found.config.augment.views) == (1, None)
    assert found.config.train.workers == "auto"
    assert chosen(root, gpus=1, overrides={"train.device": "cpu"}).config.train.workers == 0


def test_machines_of_a_cluster_each_have_a_worker(root: Path) -> None:
    assert chosen(root, cluster="head:6379").config.train.workers == "auto"


def test_without_weights_nothing_is_frozen_and_it_is_said_how_to_get_some(root: Path) -> None:
    found = chosen(root, has_weights=False)
    assert (found.config.model.weights, found.config.model.frozen_stages) == ("none", 0)
    assert found.config.image.size_px == 64
    assert "--set model.weights=imagenet downloads them" in whys(found)["model.weights"]
    assert chosen(root, has_weights=False, gpus=1).config.image.size_px == 128


def test_weights_that_are_asked_for_are_taken_to_be_there(root: Path) -> None:
    assert chosen(root, has_weights=False, overrides={"model.weights": "imagenet"}).config.model.frozen_stages == 3
    assert chosen(root, overrides={"model.weights": "none"}).config.model.frozen_stages == 0


def test_small_sets_have_small_batches_so_that_an_epoch_has_some_steps(root: Path) -> None:
    assert chosen(root).config.train.batch_size_per_worker == 8


def test_keys_that_were_given_stay_and_are_not_explained(root: Path) -> None:
    found = chosen(root, overrides={"train.epochs": 3, "name": "mine", "augment.preset": "none"})
    assert (found.config.train.epochs, found.config.name) == (3, "mine")
    assert not whys(found).keys() & {"train.epochs", "augment.views"}
    with pytest.raises(ConfigError, match=r"unknown key train\.epoch"):
        chosen(root, overrides={"train.epoch": 3})


def test_the_text_gives_the_same_config_and_says_why(root: Path) -> None:
    found = chosen(root, overrides={"seed": 7})
    assert config_from_text(found.text, "config.yaml") == found.config
    assert f"# train.workers: {whys(found)['train.workers']}" in found.text
    assert found.lines()[0].startswith(f"settings for {root}")
    assert any(line.strip().startswith("train.learning_rate=0.0006: ") for line in found.lines())


def test_epochs_fill_the_time_that_the_estimate_leaves(root: Path) -> None:
    found = chosen(root, minutes=10, estimated=taking({3: 20.0}, rest_s=100.0))
    assert found.config.train.epochs == 25
    assert found.config.train.time_budget_min == pytest.approx(10 - 100 / 60, abs=0.01)
    assert found.lines()[-1] == "  all of it takes about 10 min"


def test_where_too_few_epochs_fit_a_cheaper_training_is_chosen(root: Path) -> None:
    found = chosen(root, minutes=2, estimated=taking({3: 50.0, 4: 4.0}, rest_s=60.0))
    assert found.config.model.frozen_stages == 4
    assert found.config.train.epochs == 15


def test_a_time_in_which_nothing_can_be_trained_is_refused_with_what_it_takes(root: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--minutes 1: {FEWEST_EPOCHS} epochs .* take about 1\.8 minutes here"):
        chosen(root, minutes=1, estimated=taking({3: 50.0, 4: 20.0, 5: 10.0}, rest_s=60.0))


def test_epochs_that_were_asked_for_are_not_changed_to_fit(root: Path) -> None:
    found = chosen(root, minutes=2, overrides={"train.epochs": 2}, estimated=taking({3: 20.0}, rest_s=60.0))
    assert found.config.train.epochs == 2
    slow = taking({3: 50.0, 4: 50.0, 5: 50.0}, rest_s=60.0)
    with pytest.raises(ConfigError, match="--minutes 2"):
        chosen(root, minutes=2, overrides={"train.epochs": 9}, estimated=slow)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("my photos/", "my-photos"),
        ("s3://bucket/trash", "trash"),
        ("..", "photos"),
        ("a/été 2024.parquet", "t-2024.parquet"),
    ],
)
def test_a_run_is_named_after_the_folder(root: str, name: str) -> None:
    assert run_name(root) == name
