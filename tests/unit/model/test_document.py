from __future__ import annotations

import json

import pytest

from ray_trash.errors import CheckpointError
from ray_trash.model.document import Golden, document_from_json, document_to_json


@pytest.fixture
def tree(make_document) -> dict:
    return json.loads(document_to_json(make_document(id="0123456789ab")))


def read(tree: dict):
    return document_from_json(json.dumps(tree).encode(), "c.json")


def test_document_is_the_same_after_json(make_document):
    document = make_document(id="0123456789ab", classes=("Bücher", "a b", "c"))
    assert document_from_json(document_to_json(document).encode(), "c.json") == document


def test_a_checkpoint_of_a_smaller_network_says_so(make_document):
    read_back = document_from_json(
        document_to_json(make_document(id="0123456789ab", network="resnet18")).encode(), "c.json"
    )
    assert read_back.network_name == "ResNet18"


def test_each_missing_field_is_named(tree):
    for key in tree:
        with pytest.raises(CheckpointError, match="format version" if key == "format_version" else key):
            read({name: value for name, value in tree.items() if name != key})
    for key in tree["architecture"]:
        parts = {name: value for name, value in tree["architecture"].items() if name != key}
        with pytest.raises(CheckpointError, match="architecture" if key == "network" else key):
            read({**tree, "architecture": parts})


def test_unknown_fields_are_refused(tree):
    for changed in (
        {**tree, "surprise": 1},
        {**tree, "architecture": {**tree["architecture"], "surprise": 1}},
        {**tree, "golden": {**tree["golden"], "surprise": 1}},
        {**tree, "preprocessing": {**tree["preprocessing"], "surprise": 1}},
    ):
        with pytest.raises(CheckpointError, match=r"surprise|preprocessing"):
            read(changed)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["paper"]),
        ("classes", ["paper", "paper", "metal"]),
        ("classes", ["paper", "", "metal"]),
        ("classes", ["paper", "glass"]),
        ("classes", "abc"),
        ("classes", [1, 2, 3]),
        ("views", 2),
        ("epoch", -1),
        ("epoch", 1.5),
        ("epoch", "4"),
        ("created_at", "yesterday"),
        ("created_at", "2026-01-02T03:04:05"),
        ("preprocessing", {"size_px": 0}),
        ("metrics", []),
        ("versions", {"torch": 2}),
        ("golden", {"png_base64": "AAAA", "probabilities": [0.5, 0.5]}),
        ("golden", {"png_base64": "AAAA", "probabilities": [0.5, 0.5, 0.5]}),
        ("golden", {"png_base64": "AAAA", "probabilities": [1.5, -0.5, 0.0]}),
        ("id", ""),
        ("id", 7),
        ("architecture", {"network": "vgg16"}),
        ("architecture", None),
        ("dropout", 0.5),
    ],
)
def test_a_wrong_value_is_refused(tree, key, value):
    with pytest.raises(CheckpointError, match=r"^c\.json: "):
        read({**tree, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_layers", [0]), ("hidden_layers", 8), ("dropout", 1.0), ("dropout", "0"), ("frozen_stages", 6)],
)
def test_a_wrong_architecture_is_refused(tree, key, value):
    with pytest.raises(CheckpointError, match=key):
        read({**tree, "architecture": {**tree["architecture"], key: value}})


@pytest.mark.parametrize(
    "change",
    [
        {"size_px": 0},
        {"size_px": "48"},
        {"size_px": True},
        {"stored_short_side_px": 1.5},
        {"fit": "pad"},
        {"mean": [0.5, 0.5]},
        {"mean": [0.5, 0.5, "0.5"]},
        {"std": [0.5, 0.5, 0]},
        {"std": None},
        {"gamma": 2.2},
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(tree, change):
    with pytest.raises(CheckpointError, match=f"preprocessing.{next(iter(change))}"):
        read({**tree, "preprocessing": {**tree["preprocessing"], **change}})


def test_a_preprocessing_that_misses_a_key_is_refused(tree):
    for key in ("size_px", "stored_short_side_px", "fit"):
        kept = {name: value for name, value in tree["preprocessing"].items() if name != key}
        with pytest.raises(CheckpointError, match=f"preprocessing.{key}"):
            read({**tree, "preprocessing": kept})


def test_numbers_that_are_not_finite_are_no_json(tree):
    preprocessing = {**tree["preprocessing"], "std": [0.5, 0.5, float("nan")]}
    for change in ({"metrics": {"val_loss": float("nan")}}, {"preprocessing": preprocessing}):
        with pytest.raises(CheckpointError, match="NaN is no number"):
            read({**tree, **change})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(CheckpointError, match=r"^c\.json: "):
        document_from_json(text.encode(), "c.json")


def test_a_document_that_cannot_be_is_not_made(make_document):
    with pytest.raises(ValueError, match="listed twice"):
        make_document(classes=("a", "a", "b"))
    with pytest.raises(ValueError, match="2 probabilities for 3 classes"):
        make_document(golden=Golden("AAAA", (0.5, 0.5)))
