"""Probes call out what gives the class away, and keep quiet about what does not."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_trash.audit.learnt import learn, seal
from ray_trash.audit.probes import run_probes
from ray_trash.audit.suspects import find_outliers, find_suspects, suspects_of_conflicts
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.groups.sketches import SKETCH_SCHEMA

N = 240
LABELS = np.array(["glass", "paper", "metal"])[np.arange(N) % 3]
SIDES = ["val" if number % 4 == 3 else "train" for number in range(N)]
ALONE = np.arange(N)


def photos(**columns: object) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {
            "row": row,
            "path": f"{LABELS[row]}/{row:03d}.jpg",
            "label": str(LABELS[row]),
            "sha256": f"{row:064x}",
            "verdict": "accepted",
            "size_bytes": int(rng.integers(20_000, 40_000)),
            "width": 320,
            "height": 240,
        }
        for row in range(N)
    ]
    table = pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)
    for name, values in columns.items():
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
    return table


def sketches(corner_shift: float = 0.0, object_shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for row in range(N):
        shift = (np.arange(N)[row] % 3) - 1
        corners = np.clip(rng.normal(128 + corner_shift * shift, 20, (4, 3)), 0, 255)
        thumbnail = np.clip(rng.normal(128 + object_shift * shift, 40, (24, 32, 3)), 0, 255)
        rows.append(
            {
                "row": row,
                "points": np.zeros((20, 2), np.float32).tobytes(),
                "descriptors": b"",
                "corners": corners.astype(np.uint8).tobytes(),
                "thumbnail": thumbnail.astype(np.uint8).tobytes(),
                "sharpness": 200.0,
                "contrast": 40.0,
                "dark_share": 0.0,
                "bright_share": 0.0,
            }
        )
    return pa.Table.from_pylist(rows, schema=SKETCH_SCHEMA)


def test_a_border_colour_that_gives_the_class_away_is_flagged() -> None:
    probes = run_probes(photos(), sketches(corner_shift=60), SIDES, ALONE)
    assert probes["corners"]["flagged"]
    assert probes["corners"]["accuracy"] > 0.9
    assert "background" in probes["corners"]["verdict"]
    assert not probes["file"]["flagged"]


def test_without_a_shortcut_nothing_is_flagged() -> None:
    probes = run_probes(photos(), sketches(), SIDES, ALONE)
    assert set(probes) == {"corners", "thumbnail", "file"}
    assert not any(probe["flagged"] for probe in probes.values())
    for probe in probes.values():
        assert (probe["n"], probe["scored_on"]) == (60, "val")
        assert probe["accuracy_ci95"][0] < probe["majority"] + 0.05


def test_file_sizes_that_give_the_class_away_are_flagged() -> None:
    sizes = [20_000 + 10_000 * (row % 3) + row for row in range(N)]
    assert run_probes(photos(size_bytes=sizes), sketches(), SIDES, ALONE)["file"]["flagged"]


def test_photos_of_one_shot_are_not_learnt_from_and_scored() -> None:
    # Every photo of val has a twin in train, equal in everything: remembered, it would be a perfect score.
    table, remembered = photos(), sketches()
    twin_of = np.array([row - 1 if SIDES[row] == "val" else row for row in range(N)])
    labels = [str(LABELS[row]) for row in twin_of]
    table = table.set_column(2, table.schema.field("label"), pa.array(labels))
    probes = run_probes(table, remembered.take(twin_of), SIDES, twin_of)
    assert not probes["corners"]["flagged"]


def test_a_small_validation_side_is_replaced_by_folds_and_too_few_photos_by_nothing() -> None:
    assert run_probes(photos(), sketches(corner_shift=60), ["train"] * N, ALONE)["corners"]["scored_on"] == "folds"
    few = [side if row < 20 else None for row, side in enumerate(SIDES)]
    assert run_probes(photos(), sketches(), few, ALONE) == {}


def test_a_photo_that_looks_like_another_class_is_a_suspect_and_the_first_is_the_surest() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (N, 3)).astype(np.float32)
    features = np.eye(3, dtype=np.float32)[np.arange(N) % 3] * 5 + noise
    features[4] = (5, 0, 0)  # row 4 is labelled paper and looks like glass
    suspects = find_suspects(photos(), sketches(), ALONE, features)
    assert suspects[0]["path"] == "paper/004.jpg"
    assert suspects[0]["suggested"] == "glass"
    assert "glass" in suspects[0]["reason"]
    assert len(suspects) == 1


def test_both_photos_of_a_conflict_are_suspects_that_name_one_another() -> None:
    conflict = {"paths": ["a", "b"], "path_labels": ["glass", "metal"], "kind": "near"}
    first, second = suspects_of_conflicts([conflict])
    assert (first["path"], first["suggested"], second["suggested"]) == ("a", "metal", "glass")
    assert "same shot as b" in first["reason"]


def test_outliers_are_named_by_kind_the_furthest_out_first() -> None:
    table = sketches().to_pylist()
    table[0]["sharpness"], table[1]["sharpness"] = 9.0, 2.0
    table[2]["bright_share"], table[3]["dark_share"] = 0.97, 0.95
    table[5] |= {"contrast": 1.0, "sharpness": 0.0, "points": b""}
    widths = [320] * N
    widths[6] = 900
    found = find_outliers(photos(width=pa.array(widths, pa.int32())), pa.Table.from_pylist(table, schema=SKETCH_SCHEMA))
    assert [(entry["kind"], int(entry["path"][-7:-4])) for entry in found] == [
        ("near_empty", 5),
        ("blurred", 1),
        ("blurred", 0),
        ("dark", 3),
        ("bright", 2),
        ("odd_shape", 6),
    ]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an earlier audit learnt; from here on every learning has an outcome of its own."""
    outcomes = itertools.count()
    monkeypatch.setattr("ray_trash.audit.learnt.run_probes", lambda *_: {"corners": {"n": next(outcomes)}})
    monkeypatch.setattr("ray_trash.audit.learnt.find_suspects", lambda *_: [{"score": next(outcomes)}])
    learnt = learn(photos(), sketches(), SIDES, ALONE, [])
    document = {"probes": learnt.probes, "suspects": learnt.suspects}
    return json.loads(json.dumps({**document, "learnt_from": seal(learnt.source, *document.values())}))


def test_what_was_learnt_of_the_same_photos_is_taken_over(known: dict[str, Any]) -> None:
    again = learn(photos(), sketches(), SIDES, ALONE, [], known=known)
    assert again.probes == {"corners": {"n": 0}}
    assert list(again.suspects) == [{"score": 1}]


CHANGES: dict[str, dict[str, Any]] = {
    "size": {"photos": photos(size_bytes=[20_000 + row for row in range(N)])},
    "place": {"photos": photos(path=[f"glass/{row}.jpg" for row in range(N)])},
    "label": {"photos": photos(label=["glass"] * N)},
    "shape": {"photos": photos(width=[321] * N)},
    "object": {"sketches": sketches(object_shift=1)},
    "background": {"sketches": sketches(corner_shift=1)},
    "side": {"sides": ["val", *SIDES[1:]]},
    "group": {"groups": np.array([1, *ALONE[1:]])},
    "relation": {"relations": [Relation(0, 1, "near")]},
    "features": {"features": np.eye(3, dtype=np.float32)[np.arange(N) % 3]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_learnt_of_something_else_is_learnt_again(change: str, known: dict[str, Any]) -> None:
    same = {"photos": photos(), "sketches": sketches(), "sides": SIDES, "groups": ALONE, "relations": []}
    again = learn(**{**same, **CHANGES[change]}, known=known)
    assert again.probes == {"corners": {"n": 2}}
    assert list(again.suspects) == [{"score": 3}]


@pytest.mark.parametrize(
    "edit", [{"learnt_from": None}, {"probes": None}, {"probes": {}}, {"suspects": []}, {"suspects": [{"score": 9}]}]
)
def test_what_somebody_changed_in_the_file_is_learnt_again(edit: dict[str, Any], known: dict[str, Any]) -> None:
    again = learn(photos(), sketches(), SIDES, ALONE, [], known={**known, **edit})
    assert again.probes == {"corners": {"n": 2}}
    assert list(again.suspects) == [{"score": 3}]
