"""The card of a checkpoint is what the hub reads, says where its figures are from, and shows names as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ray_trash.config.yaml import from_yaml
from ray_trash.model.card import card_is_of, model_card
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.limits import limits_of, weakest_class

HEADINGS = ["Intended use", "Data", "Figures", "Limits", "Calibration", "How to load it"]
HOSTILE = "gl|ass](http://x) <script>`*"


def evaluation(*, hits: int = 8) -> dict[str, Any]:
    def of_class(n: int, hits: int) -> dict[str, Any]:
        return {"n": n, "recall": hits / n, "recall_ci95": [0.1, 0.9], "precision": None, "f1": 0.5}

    return {
        "n": 30,
        "correct": 20 + hits,
        "accuracy": (20 + hits) / 30,
        "accuracy_ci95": [0.7, 0.95],
        "macro_f1": 0.9,
        "loss": 0.3,
        "ece": 0.02,
        "split": "test",
        "dataset_fingerprint": "f00d",
        "classes": ["paper", "glass", "metal"],
        "confusion_matrix": [[20, 0, 0], [0, hits, 10 - hits], [0, 0, 0]],
        "per_class": {
            "paper": of_class(20, 20),
            "glass": of_class(10, hits),
            "metal": {"n": 0, "recall": None, "recall_ci95": None, "precision": None, "f1": None},
        },
        "warnings": ["12 of these 30 photos were trained on"],
        "selective": {"error": None},
    }


@pytest.fixture
def written(document: CheckpointDocument) -> CheckpointDocument:
    config = {"name": "mine", "data": {"root": "/photos/trash/", "licence": "CC-BY-4.0"}}
    return dataclasses.replace(document, id="0123456789ab", config=config)


def front_matter(card: str) -> Any:
    _, metadata, _ = card.split("---\n", 2)
    return from_yaml(metadata, "card")


def test_the_hub_finds_its_metadata_and_a_reader_every_heading(written: CheckpointDocument) -> None:
    card = model_card(written, evaluation=evaluation())
    metadata = front_matter(card)
    assert (metadata["library_name"], metadata["pipeline_tag"]) == ("ray-trash", "image-classification")
    (index,) = metadata["model-index"]
    (result,) = index["results"]
    assert result["dataset"] == {"name": "trash", "type": "imagefolder", "split": "test", "revision": "f00d"}
    assert result["metrics"][0] == {"type": "accuracy", "name": "Accuracy", "value": 28 / 30}
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == HEADINGS
    assert "28/30 = 93.3 % right (95 % interval 70.0 to 95.0 %)" in card
    assert "licence of the photos: CC-BY-4.0" in card
    assert "| glass | 10 | 80.0 % | 10.0 to 90.0 % | - |" in card


def test_before_an_evaluation_it_says_that_its_figures_chose_it(written: CheckpointDocument) -> None:
    card = model_card(written)
    assert "model-index" not in front_matter(card)
    assert "On validation, which chose the epoch" in card
    assert "has not been evaluated on other photos yet" in card
    assert "None is known; none was looked for" in card


def test_a_card_knows_its_weights(written: CheckpointDocument) -> None:
    card = model_card(written).encode()
    assert card_is_of(card, written)
    assert not card_is_of(card, dataclasses.replace(written, id="ba9876543210"))


def test_names_are_shown_as_they_are_and_make_no_markup(written: CheckpointDocument) -> None:
    classes = (HOSTILE, *written.classes[1:])
    config = {"name": HOSTILE, "data": {"root": f"/x/{HOSTILE}", "licence": HOSTILE}}
    card = model_card(dataclasses.replace(written, classes=classes, config=config), evaluation=evaluation())
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "](http" not in body.replace("\\](http", "")
    assert front_matter(card)["model-index"][0]["name"] == HOSTILE


def test_what_speaks_against_a_model_is_named_and_what_does_not_is_left_out() -> None:
    found = evaluation(hits=8)
    assert weakest_class(found) == ("glass", 8, 10, "metal")
    found["masked"] = {
        "border": {"n": 30, "correct": 28, "accuracy": 0.93, "flagged": False, "verdict": "hardly matters"},
        "centre": {"n": 30, "correct": 25, "accuracy": 0.83, "flagged": True, "verdict": "the background tells"},
    }
    found["unknown"] = {"n": 100, "abstained": 50, "rate": 0.5}
    said = limits_of(found, None)
    assert said[0] == "12 of these 30 photos were trained on"
    assert "least good at glass: 8/10 recognised, most often taken for metal" in said
    assert "with the centre of every photo hidden 25/30 = 83.0 % are right: the background tells" in said
    assert "answers 50 of 100 drawn pictures that belong to no class" in said
    assert not [line for line in said if "hardly matters" in line]
    assert weakest_class({**evaluation(hits=10)}) is None
