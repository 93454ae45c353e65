from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console

from ray_trash.serve.demo import answers, kept_back, of_no_class


def test_photos_that_were_kept_back_are_shown_two_of_each_class(tmp_path: Path) -> None:
    rows = [(f"{label}/{number}.jpg", label) for label in ("paper", "glass") for number in (3, 1, 2)]
    paths, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"path": paths, "true_label": labels}), tmp_path / "predictions.parquet")
    assert kept_back(tmp_path) == ["glass/1.jpg", "glass/2.jpg", "paper/1.jpg", "paper/2.jpg"]


def test_what_is_of_no_class_are_pictures_that_can_be_read_with_names_that_say_so() -> None:
    for name, encoded in of_no_class():
        assert name.startswith("no class: ")
        assert Image.open(io.BytesIO(encoded)).size == (512, 384)


def test_the_table_says_what_is_sure_what_is_not_and_what_is_broken() -> None:
    said = io.StringIO()
    results: list[dict[str, Any]] = [
        {"name": "a.jpg", "status": "ok", "label": "glass", "confidence": 0.93, "abstained": False},
        {"name": "b.jpg", "status": "ok", "label": "metal", "confidence": 0.4, "abstained": True},
        {"name": "c.jpg", "status": "error", "error": {"code": "undecodable", "message": "no photo"}},
    ]
    Console(file=said, width=120).print(answers(results, title="a batch"))
    for part in ("glass", "93%", "not sure (metal?)", "undecodable: no photo"):
        assert part in said.getvalue()
