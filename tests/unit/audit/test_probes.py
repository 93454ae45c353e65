"""Probes call out what gives the class away, and keep quiet about what does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ray_trash.audit import probes
from ray_trash.audit.document import ProbeResult
from ray_trash.audit.probes import Probed, probed_positions, run_probe
from ray_trash.audit.suspects import find_outliers, find_suspects
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.groups.sketches import SUMMARY_SCHEMA, bytes_matrix

N = 240
LABELS = np.array(["glass", "paper", "metal"])[np.arange(N) % 3]
SIDES = ["val" if number % 4 == 3 else "train" for number in range(N)]
ALONE = np.arange(N)
SCHEMA = pa.schema([*SUMMARY_SCHEMA, pa.field("thumbnail", pa.large_binary())])


@pytest.fixture(autouse=True)
def small_forest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grow as many trees as tell these made-up photos apart."""
    monkeypatch.setattr(probes, "_TREES", 30)


def photos(sides: Sequence[str | None] = SIDES, **columns: object) -> pa.Table:
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
    return table.append_column("split", pa.array(sides, pa.string()))


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
                "n_points": 20,
                "corners": corners.astype(np.uint8).tobytes(),
                "thumbnail": thumbnail.astype(np.uint8).tobytes(),
                "sharpness": 200.0,
                "contrast": 40.0,
                "dark_share": 0.0,
                "bright_share": 0.0,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def probe(table: pa.Table, remembered: pa.Table, groups: np.ndarray) -> dict[str, ProbeResult]:
    probed = Probed(table, remembered, bytes_matrix(remembered["thumbnail"]), groups)
    results = {name: run_probe(name, probed) for name in probes.PROBES}
    return {name: result for name, result in results.items() if result}


def test_a_border_colour_that_gives_the_class_away_is_flagged() -> None:
    found = probe(photos(), sketches(corner_shift=60), ALONE)
    assert found["corners"]["flagged"]
    assert found["corners"]["accuracy"] > 0.9
    assert "background" in found["corners"]["verdict"]
    assert not found["file"]["flagged"]


def test_without_a_shortcut_nothing_is_flagged() -> None:
    found = probe(photos(), sketches(), ALONE)
    assert set(found) == {"corners", "thumbnail", "file"}
    assert not any(result["flagged"] for result in found.values())
    for result in found.values():
        assert (result["n"], result["scored_on"]) == (60, "val")
        assert result["accuracy_ci95"][0] < result["majority"] + 0.05


def test_file_sizes_that_give_the_class_away_are_flagged() -> None:
    sizes = [20_000 + 10_000 * (row % 3) + row for row in range(N)]
    assert probe(photos(size_bytes=sizes), sketches(), ALONE)["file"]["flagged"]


def test_photos_of_one_shot_are_not_learnt_from_and_scored() -> None:
    # Every photo of val has a twin in train, equal in everything: remembered, it would be a perfect score.
    table, remembered = photos(), sketches()
    twin_of = np.array([row - 1 if SIDES[row] == "val" else row for row in range(N)])
    labels = [str(LABELS[row]) for row in twin_of]
    table = table.set_column(2, table.schema.field("label"), pa.array(labels))
    found = probe(table, remembered.take(twin_of), twin_of)
    assert not found["corners"]["flagged"]


def test_a_small_validation_side_is_replaced_by_folds_and_too_few_photos_by_nothing() -> None:
    assert probe(photos(["train"] * N), sketches(corner_shift=60), ALONE)["corners"]["scored_on"] == "folds"
    few = [side if row < 20 else None for row, side in enumerate(SIDES)]
    assert probe(photos(few), sketches(), ALONE) == {}


def test_a_photo_that_looks_like_another_class_is_a_suspect_and_the_first_is_the_surest() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, (N, 3)).astype(np.float32)
    features = np.eye(3, dtype=np.float32)[np.arange(N) % 3] * 5 + noise
    features[4] = (5, 0, 0)  # row 4 is labelled paper and looks like glass
    suspects = find_suspects(photos(), ALONE, features, "features")
    assert suspects[0]["path"] == "paper/004.jpg"
    assert suspects[0]["suggested"] == "glass"
    assert "glass" in suspects[0]["reason"]
    assert len(suspects) == 1


def test_outliers_are_named_by_kind_the_furthest_out_first() -> None:
    table = sketches().to_pylist()
    table[0]["sharpness"], table[1]["sharpness"] = 9.0, 2.0
    table[2]["bright_share"], table[3]["dark_share"] = 0.97, 0.95
    table[5] |= {"contrast": 1.0, "sharpness": 0.0, "n_points": 0}
    widths = [320] * N
    widths[6] = 900
    found = find_outliers(photos(width=pa.array(widths, pa.int32())), pa.Table.from_pylist(table, schema=SCHEMA))
    assert [(entry["kind"], int(entry["path"][-7:-4])) for entry in found] == [
        ("near_empty", 5),
        ("blurred", 1),
        ("blurred", 0),
        ("dark", 3),
        ("bright", 2),
        ("odd_shape", 6),
    ]


def test_of_more_photos_than_are_worth_it_every_class_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_MAX_PHOTOS", 40)
    by_class = photos().sort_by("path")
    positions = probed_positions(by_class)
    chosen = by_class.take(pa.array(positions))
    assert sorted(positions.tolist()) == positions.tolist()
    assert chosen["split"].to_pylist().count("train") == chosen["split"].to_pylist().count("val") == 40
    assert set(chosen["label"].to_pylist()) == {"glass", "metal", "paper"}
    # Chosen once more from those, as each probe does, they are the same.
    assert probed_positions(chosen).tolist() == list(range(80))
