"""The config tree: what is read, what is refused, and in which words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_trash.config import (
    Config,
    Section,
    config_from_tree,
    config_with,
    effective_tree,
    known_keys,
    load_config,
    override,
    parse_override,
    serve_config,
    to_json,
    to_yaml,
)
from ray_trash.config.reading import RENAMED
from ray_trash.errors import ConfigError

SERVE_DEPLOY = "serve-deploy.yaml"
"""Not a config of ours but Ray Serve's, with a test of its own."""
CONFIGS = sorted(path for path in (Path(__file__).parents[2] / "configs").glob("*.yaml") if path.name != SERVE_DEPLOY)
MINIMAL = "name: a\ndata:\n  root: photos\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_file_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert load_config(write(tmp_path, to_json(config))) == config
    assert load_config(write(tmp_path, to_yaml(config))) == config
    assert config_from_tree(effective_tree(config)) == config


def test_the_reference_config_writes_out_every_key_that_has_an_effect() -> None:
    path = next(path for path in CONFIGS if path.name == "trashnet.yaml")
    text = path.read_text(encoding="utf-8")
    leaves = {
        leaf
        for section, values in effective_tree(load_config(path)).items()
        for leaf in (values if isinstance(values, dict) else {section: values})
    }
    assert [leaf for leaf in sorted(leaves) if f"{leaf}:" not in text] == []


def test_every_reference_config_says_what_was_measured_or_that_nothing_was() -> None:
    headers = {path.name: path.read_text(encoding="utf-8").partition("name:")[0] for path in CONFIGS}
    assert [name for name, header in headers.items() if "# Measured:" not in header or "xpected" in header] == []


def sections(model: type[Section]) -> list[type[Section]]:
    below = [
        field.annotation
        for field in model.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    ]
    return [model, *(inner for section in below for inner in sections(section))]


def test_every_field_says_what_it_means() -> None:
    silent = [
        f"{section.__name__}.{name}"
        for section in sections(Config)
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.epoch=3", "unknown key train.epoch, did you mean train.epochs?"),
        ("trian.epochs=3", "unknown key trian.epochs, did you mean train.epochs?"),
        ("epochs=3", "did you mean train.epochs?"),
        ("train=3", "unknown key train, which is a section, with keys of its own such as train.workers"),
        ("name=null", "name is empty; write a word after it, in quotes where that is null"),
        ("data.classes=glass", "data.classes='glass': input should be a valid list, such as [a, b]"),
        ("data.classes=[e\u0301, \u00e9]", "a name is listed twice"),
        ("train.workers=-1", "train.workers=-1"),
        ("model.architecture=resnet10", "model.architecture=resnet10: there are no ImageNet weights of it"),
        ("train.workers=[4, 1]", "train.workers=[4, 1]: give the fewest, then the most"),
        ("train.workers=many", "train.workers='many': input should be 'auto' or"),
        ("train.learning_rate=-1", "train.learning_rate=-1: input should be 'auto' or greater than 0"),
        ("model.frozen_stages=6", "model.frozen_stages=6: input should be less than or equal to 5"),
        ("augment.preset=wild", "augment.preset='wild'"),
        ("name=../up", "name='../up'"),
        ("train.momentum=0.5", "train.momentum has no effect here, it needs train.optimizer=sgd"),
        ("train.monitor=val_loss", "train.monitor has no effect here"),
        ("data.val_fraction=0.95", "nothing is left to train on"),
        ("data.classes=[a, a]", "a name is listed twice"),
        ("data.classes=[caf\u00e9, cafe\u0301]", "a name is listed twice"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_the_key(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, MINIMAL), dict([parse_override(text)]))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_following_links_has_no_effect_where_there_are_none(tmp_path: Path) -> None:
    changes = {"data.follow_links": False}
    assert not load_config(write(tmp_path, MINIMAL), changes).data.follow_links
    assert not load_config(write(tmp_path, MINIMAL), changes | {"data.root": "file:///photos"}).data.follow_links
    with pytest.raises(ConfigError, match="needs a local data"):
        load_config(write(tmp_path, MINIMAL), changes | {"data.root": "s3://bucket/photos"})


def test_a_key_of_the_file_may_lose_its_effect_to_an_override_but_not_to_the_file(
    tmp_path: Path,
) -> None:
    augmented = write(tmp_path, MINIMAL + "augment:\n  crop_area_min: 0.5\n")
    assert load_config(augmented, {"augment.preset": "none"}).augment.preset == "none"
    inert = write(tmp_path, MINIMAL + "augment:\n  preset: none\n  crop_area_min: 0.5\n")
    with pytest.raises(ConfigError, match=r"augment\.crop_area_min has no effect"):
        load_config(inert)


def test_exponents_and_lists_are_read_as_yaml_means_them(tmp_path: Path) -> None:
    overrides = dict(
        parse_override(text)
        for text in ("train.learning_rate=1e-3", "model.hidden_layers=[64, 32]", "train.steps_per_epoch=null")
    )
    config = load_config(write(tmp_path, MINIMAL), overrides)
    assert config.train.learning_rate == 1e-3
    assert config.model.hidden_layers == (64, 32)
    assert config.train.steps_per_epoch is None


@pytest.mark.parametrize("form", ["file", "override"])
def test_words_are_taken_as_they_are_written_where_only_words_make_sense(tmp_path: Path, form: str) -> None:
    names = ["20241128", "2024-11-28", "1e5", "1.10", "no", "0o17"]
    classes = ["no", "yes", "01", "1", "null", "~", "true", "1_000", "2024-11-28"]
    for name in names:
        lines = {"name": name, "data.classes": f"[{', '.join(classes)}]"}
        if form == "file":
            config = load_config(
                write(tmp_path, f"name: {name}\ndata: {{root: 7, classes: {lines['data.classes']}}}\n")
            )
            assert config.data.root == "7"
        else:
            overrides = dict(parse_override(f"{key}={value}") for key, value in lines.items())
            config = load_config(write(tmp_path, MINIMAL), overrides)
        assert config.name == name
        assert config.data.classes == tuple(classes)
        assert load_config(write(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_config_is_read_as_windows_writes_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes("name: a\r\ndata:\r\n  root: f\u00f6tos\r\n".encode(encoding))
    assert load_config(path).data.root == "f\u00f6tos"


def test_a_config_in_an_old_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes("name: a\ndata: {root: f\u00f6tos}\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot read the config file: not UTF-8 text"):
        load_config(tmp_path / "config.yaml")


def test_all_mistakes_of_a_file_are_named_together(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: {epochs: 0, learning_rate: -1}\n")
    with pytest.raises(ConfigError, match=r"train\.epochs.*train\.learning_rate"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a mapping .*; found nothing"),
        ("- a\n", "expected a mapping .*; found a list"),
        ("name: a\ndata:\n  root: x\nseed: 1\ndata:\n  split: auto\n", "'data' stands twice, in lines 2 and 5"),
        ("train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "'epochs' stands twice, in lines 2 and 4"),
        ("data:\n\troot: x\n", "line 2 is not valid YAML: .* indent with spaces"),
        ('data: {root: "C:\\photos"}\n', "line 1 is not valid YAML: .* a backslash must stand twice"),
        ("[" * 1000, "nested too deeply"),
        ("name: [\n", "not valid YAML"),
        ("name: a\n", "data is missing"),
        ("name: a\ndata: {split: official}\n", "data.root is missing"),
    ],
)
def test_a_file_that_is_no_config_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_config(tmp_path / "absent.yaml")


def test_override_validates_the_whole_config_again(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert override(config, {"train.epochs": 3}).train.epochs == 3
    with pytest.raises(ConfigError, match="test_fraction"):
        override(config, {"data.val_fraction": 0.9})


def test_the_config_is_frozen(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3  # type: ignore[misc]


def test_every_known_key_can_be_set() -> None:
    assert "train.epochs" in known_keys()
    assert len(known_keys()) == len(set(known_keys()))


SEARCHED = {"model.dropout": {"uniform": [0, 0.5]}, "train.epochs": {"int": [2, 5]}}


def test_a_search_space_keeps_its_dotted_keys_through_reading_overriding_and_writing(tmp_path):
    config = load_config("configs/quickstart.yaml", {"tune.space": SEARCHED})
    changed = override(config, {"train.learning_rate": 0.01})
    assert changed.tune.space == config.tune.space
    again = tmp_path / "again.json"
    again.write_text(to_json(changed))
    assert load_config(again) == changed


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({}, "at least 1"),
        ({"model.dropout": {}}, "exactly one of"),
        ({"model.dropout": {"uniform": [0, 1], "choice": [0]}}, "exactly one of"),
        ({"model.dropout": {"uniform": [1, 0]}}, "the first bound must be below the second"),
        ({"train.learning_rate": {"loguniform": [0, 1]}}, "above 0"),
        ({"model.dropout": {"between": [0, 1]}}, "tune.space.model.dropout.between"),
    ],
)
def test_a_search_space_that_says_nothing_or_too_much_is_refused(space, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_config("configs/quickstart.yaml", {"tune.space": space})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.frozen_stages": 0}, "no stage is frozen"),
        ({"augment.views": None}, "set augment.views"),
        ({"augment.mixup_alpha": 0.2}, "mixed anew"),
        ({"augment.no_class_share": 0.1}, "in disorder anew"),
        ({"train.unfreeze_every_epochs": 2}, "freed on the way"),
    ],
)
def test_keeping_frozen_activations_is_refused_where_they_change_with_every_epoch(changes, says):
    fitting = {"model.frozen_stages": 3, "augment.views": 2, "augment.no_class_share": 0, "train.cache_frozen": "on"}
    load_config("configs/quickstart.yaml", fitting)
    with pytest.raises(ConfigError, match=says):
        load_config("configs/quickstart.yaml", {**fitting, **changes})


def test_changing_a_config_file_changes_nothing_else():
    text = Path("configs/trashnet-tune.yaml").read_text()
    changed = config_with(text, {"train.learning_rate": 0.00123, "evaluate.views": 8})
    before, after = text.splitlines(), changed.splitlines()
    assert [line for line in before if line not in after] == ["  learning_rate: 6.0e-4"]
    assert [line for line in after if line not in before] == ["  learning_rate: 0.00123", "evaluate:", "  views: 8"]
    assert config_with(text, {}) == text


def test_an_endpoint_takes_the_settings_of_its_checkpoint_and_changes_only_those_of_serving():
    stored = {"serve": {"max_batch_images": 7, "target_error": 0.1}}
    settings = serve_config(stored, {"serve.replicas": 2})
    assert (settings.max_batch_images, settings.target_error, settings.replicas) == (7, 0.1, 2)
    for key, says in (
        ("serve.replica", "did you mean serve.replicas"),
        ("train.epochs", "only keys of serve"),
        ("serve.target_error", "in the checkpoint"),
        ("serve.target_requests_per_replica", "needs serve.max_replicas"),
        ("serve.max_waiting_photos", "below max_batch_images"),
    ):
        with pytest.raises(ConfigError, match=says):
            serve_config(stored, {key: 3})


def test_on_and_off_are_words(tmp_path: Path) -> None:
    for word in ("on", "off"):
        assert parse_override(f"train.cache_frozen={word}")[1] == word
        text = f"{MINIMAL}augment: {{views: 2}}\nmodel: {{frozen_stages: 3}}\ntrain: {{cache_frozen: {word}}}\n"
        assert load_config(write(tmp_path, text)).train.cache_frozen == word


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_earlier_name_is_refused_with_the_new_one_and_understood_in_a_checkpoint(
    old: str, new: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"unknown key {old}, which is {new} now"):
        load_config(write(tmp_path, MINIMAL), {old: 8})
    section, _, leaf = old.partition(".")
    stored = {"name": "a", "data": {"root": "photos"}, section: {leaf: 8}}
    assert effective_tree(config_from_tree(stored))[section]["forward_batch_photos"] == 8
    if section == "serve":
        assert serve_config(stored, {}).forward_batch_photos == 8


def test_nothing_is_infinite(tmp_path: Path) -> None:
    for key in ("train.time_budget_min", "train.wait_for_workers_s", "train.learning_rate"):
        with pytest.raises(ConfigError, match=rf"{key}.*finite"):
            load_config(write(tmp_path, MINIMAL), dict([parse_override(f"{key}=.inf")]))


def test_batches_of_one_photo_are_refused_where_batch_norm_would_see_one_value() -> None:
    tree = {"name": "a", "data": {"root": "photos"}, "train": {"batch_size_per_worker": 1}}
    with pytest.raises(ConfigError, match=r"train\.batch_size_per_worker=1: of a photo of 32 pixels .*image\.size_px"):
        config_from_tree({**tree, "image": {"size_px": 32}})
    with pytest.raises(ConfigError, match="of a photo of 32 pixels"):
        config_from_tree({**tree, "augment": {"size_px": 32}})
    config_from_tree({**tree, "image": {"size_px": 33}})
    config_from_tree({**tree, "image": {"size_px": 32}, "model": {"frozen_stages": 5}})


def test_a_config_is_printed_as_utf_8_where_the_terminal_knows_ascii_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ndata:\n  root: 纸\n")
    command = [sys.executable, "-m", "ray_trash", "config", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True)
    assert "root: 纸" in result.stdout.decode()
