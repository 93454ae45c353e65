from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.errors import DataError, ImageError
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.score import reading
from ray_trash.score.inputs import ScoreInputs, list_inputs
from ray_trash.score.reading import PhotoReader, take_rows
from ray_trash.score.work import work_blocks
from tests.photos import make_photos

PREPROCESSING = Preprocessing(32, 48, "crop")


def taken(inputs: ScoreInputs, *wanted: range) -> list[pa.Table]:
    blocks = work_blocks(inputs, wanted or [range(len(inputs))])
    return [table for block in blocks for table in take_rows(block, sources=inputs.sources)]


def test_photos_come_in_order_and_bad_ones_as_the_reason(tmp_path: Path) -> None:
    folder = make_photos(tmp_path, 3, classes=("glass",))
    (folder / "glass" / "empty.jpg").touch()
    (folder / "glass" / "text.jpg").write_text("no photo")
    inputs = list_inputs([str(folder)])
    reader = PhotoReader(inputs.sources, decoders=2)
    (block,) = taken(inputs)
    prepared = reader.prepare(block, PREPROCESSING)
    for path, photo in zip(inputs.rows["path"].to_pylist()[:3], prepared[:3], strict=True):
        encoded = (folder / path).read_bytes()
        np.testing.assert_array_equal(photo, fit_photo(load_photo(encoded, PREPROCESSING), PREPROCESSING))
    assert [photo.code for photo in prepared[3:] if isinstance(photo, ImageError)] == [
        "empty_file",
        "unsupported_format",
    ]
    reader.close()


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct({"bytes": pa.binary(), "path": pa.string()})]
)
def test_wanted_rows_of_a_table_are_read_a_few_at_a_time(
    kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BATCH_PHOTOS", 4)
    photos = [f"photo {n}".encode() for n in range(25)]
    values = [{"bytes": photo, "path": None} for photo in photos] if pa.types.is_struct(kind) else photos
    table = pa.table({"image": pa.array([*values[:24], None], kind)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=10)
    inputs = list_inputs([str(tmp_path / "t.parquet")])
    tables = taken(inputs, range(3, 12), range(17, 25))
    assert max(map(len, tables)) <= 4
    read = pa.concat_tables(tables)
    assert read["position"].to_pylist() == [*range(3, 12), *range(17, 25)]
    assert read["encoded"].to_pylist() == [*photos[3:12], *photos[17:24], None]
    reader = PhotoReader(inputs.sources)
    last = list(reader.read(tables[-1]))[-1]
    reader.close()
    assert isinstance(last, ImageError)
    assert last.code == "empty_file"


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"photo": [b"a"]}), tmp_path / "t.parquet")
    inputs = list_inputs([str(tmp_path / "t.parquet")])
    (tmp_path / "t.parquet").unlink()
    with pytest.raises(DataError, match=r"t\.parquet"):
        taken(inputs)
