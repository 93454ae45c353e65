from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.errors import ConfigError, DataError
from ray_trash.score.inputs import ScoreInputs, list_inputs
from ray_trash.score.work import BATCH_PHOTOS, work_blocks
from ray_trash.storage import Storage
from tests.packing import pack


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def write_table(path: Path, columns: dict, *, row_group_size: int | None = None) -> str:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return str(path)


def paths(inputs: ScoreInputs) -> list[str]:
    return inputs.rows["path"].to_pylist()


def test_a_folder_of_any_layout_is_listed_relative_to_itself_and_sorted(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", "b.jpg", "deep/er/a.png", "a.jpg", "train/a", "glass/train/a.jpg")
    inputs = list_inputs([f"{folder}/"])
    assert paths(inputs) == ["a.jpg", "b.jpg", "deep/er/a.png", "glass/train/a.jpg", "train/a"]
    assert inputs.rows["size_bytes"].to_pylist() == [5, 5, 13, 17, 7]


def test_what_is_no_photo_by_name_and_place_is_ignored_as_in_a_data_set_unless_named(tmp_path: Path) -> None:
    hidden = [".hidden.jpg", "__MACOSX/._a.jpg", ".ipynb_checkpoints/a.jpg", "Thumbs.db", "@eaDir/a.jpg"]
    folder = write(tmp_path, "a.jpg", *hidden, "a.json", "runs/tiny/run.json", "runs/tiny/audit.png")
    (tmp_path / "again").symlink_to(".")
    inputs = list_inputs([str(folder)])
    assert paths(inputs) == ["a.jpg"]
    assert inputs.ignored == 9
    assert len(list_inputs([str(folder / "a.json"), str(folder / "runs/tiny/audit.png")])) == 2


def test_what_can_be_refused_without_opening_it_is_a_row_with_its_code(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", "a.jpg")
    (folder / "c.jpg").mkdir()
    (folder / "d.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "e.jpg")
    inputs = list_inputs([str(folder)])
    codes = dict(zip(paths(inputs), inputs.rows["error_code"].to_pylist(), strict=True))
    assert codes == {
        "a.jpg": None,
        "c.jpg": "not_a_regular_file",
        "d.jpg": "unreadable",
        "e.jpg": "not_a_regular_file",
    }


def test_a_file_given_by_itself_is_called_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path, "here/a.jpg", "b.jpg"))
    inputs = list_inputs(["here/a.jpg", str(tmp_path / "b.jpg"), ".//b.jpg"])
    assert paths(inputs) == ["here/a.jpg", str(tmp_path / "b.jpg"), ".//b.jpg"]
    assert [source.root for source in inputs.sources] == [str(tmp_path / "here"), str(tmp_path), str(tmp_path)]


def test_folders_with_a_path_in_common_put_themselves_before_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path, "one/a.jpg", "two/a.jpg", "two/b.jpg", "three/c.jpg"))
    assert paths(list_inputs(["one", "three"])) == ["a.jpg", "c.jpg"]
    assert paths(list_inputs(["one", "two/"])) == ["one/a.jpg", "two/a.jpg", "two/b.jpg"]
    with pytest.raises(DataError, match=r"one/a\.jpg: given twice"):
        list_inputs(["one", "three", "one"])
    with pytest.raises(DataError, match=r"one/a\.jpg: given twice"):
        list_inputs(["one/a.jpg", "two", "one/a.jpg"])


@pytest.mark.parametrize("name", ["absent", "absent.jpg", "absent.parquet", "http://127.0.0.1/a.jpg", "s3:///"])
def test_what_does_not_exist_is_named(name: str, tmp_path: Path) -> None:
    given = name if "://" in name else str(tmp_path / name)
    with pytest.raises(DataError) as caught:
        list_inputs([given])
    assert given in str(caught.value)


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz", "photos.TAR"])
def test_an_archive_is_named_as_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}: is an archive; unpack it first"):
        list_inputs([str(write(tmp_path, name) / name)])


def test_nothing_to_score_is_an_error_that_says_what_was_ignored(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no photos in {tmp_path}; 1 file.* ignored"):
        list_inputs([str(write(tmp_path, ".a.jpg"))])


def test_the_file_that_is_written_is_no_input(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg", "out/scores.parquet", "out/scores.parquet.parts/plan.json", "out/scores.parquet.jpg")
    out = (Storage.at(tmp_path / "out"), ("scores.parquet", "scores.parquet.parts"))
    assert paths(list_inputs([str(tmp_path)], leave_out=out)) == ["a.jpg", "out/scores.parquet.jpg"]
    assert paths(list_inputs([str(tmp_path / "out")], leave_out=out)) == ["scores.parquet.jpg"]


def test_the_only_binary_column_is_taken_and_rows_are_numbered(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", {"id": [1, 2], "photo": [b"a", b"b"]})
    inputs = list_inputs([table])
    assert paths(inputs) == [f"{table}#0", f"{table}#1"]
    assert inputs.sources[0].table is not None
    assert inputs.sources[0].table.column == "photo"


def test_several_binary_columns_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet", {"photo": [b"a"], "thumb": [b"b"], "image": [{"bytes": b"c", "n": 1}]})
    with pytest.raises(ConfigError, match=r"photo, thumb, image\.bytes; say --column"):
        list_inputs([table])
    inputs = list_inputs([table], column="image.bytes")
    assert inputs.sources[0].table is not None
    assert inputs.sources[0].table.column == "image.bytes"
    with pytest.raises(ConfigError, match=r"--column thumbs: .* there are photo, thumb"):
        list_inputs([table], column="thumbs")


def test_a_table_without_photos_and_what_is_no_table_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no binary column.* id"):
        list_inputs([write_table(tmp_path / "t.parquet", {"id": [1]})])
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as a Parquet file"):
        list_inputs([str(write(tmp_path, "b.parquet") / "b.parquet")])


def test_a_column_without_a_table_has_no_effect_and_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no effect"):
        list_inputs([str(write(tmp_path, "a.jpg"))], column="photo")


def test_a_column_of_paths_names_the_rows(tmp_path: Path) -> None:
    write(tmp_path / "photos", "x.jpg", "z.jpg")
    table = write_table(tmp_path / "t.parquet", {"path": ["x.jpg", "y.jpg", "y.jpg"], "photo": [b"a", b"b", None]})
    assert paths(list_inputs([table])) == ["x.jpg", "y.jpg", "y.jpg"]
    both = paths(list_inputs([str(tmp_path / "photos"), table]))
    assert both == [f"{tmp_path}/photos/x.jpg", f"{tmp_path}/photos/z.jpg", *(f"{table}/{n}.jpg" for n in "xyy")]
    holes = write_table(tmp_path / "u.parquet", {"path": ["x.jpg", None], "photo": [b"a", b"b"]})
    assert paths(list_inputs([holes])) == [f"{holes}#0", f"{holes}#1"]


def test_a_uri_is_shown_without_its_secrets_and_options(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg")
    assert paths(list_inputs([f"file://{tmp_path}/a.jpg"])) == [f"file://{tmp_path}/a.jpg"]
    with pytest.raises(DataError) as caught:
        list_inputs(["s3://key:secret@bucket/a.jpg?no_such_option=1"])
    assert "s3://bucket/a.jpg" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_fingerprint_is_of_names_sizes_and_order(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg", "b/2.jpg")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    before = list_inputs([a, b]).fingerprint()
    assert list_inputs([a, b]).fingerprint() == before
    assert list_inputs([b, a]).fingerprint() != before
    (tmp_path / "a" / "1.jpg").write_bytes(b"longer than it was")
    assert list_inputs([a, b]).fingerprint() != before


def test_work_covers_the_wanted_positions_once_in_blocks_of_one_source_and_chunk(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", *(f"{n:03d}.jpg" for n in range(150)))
    (folder / "007.jpg").unlink()
    (folder / "007.jpg").symlink_to("nowhere")
    table = write_table(tmp_path / "t.parquet", {"photo": [b"x"] * 100}, row_group_size=40)
    inputs = list_inputs([str(folder), table])
    blocks = list(work_blocks(inputs, [range(100), range(140, 250)]))
    positions = np.concatenate([np.asarray(block["position"]) for block in blocks])
    assert sorted(positions) == [n for n in range(250) if n != 7 and not 100 <= n < 140]
    files = [block for block in blocks if block["group"].null_count]
    assert max(map(len, files)) == BATCH_PHOTOS
    assert all(block["position"][-1].as_py() < 100 or block["position"][0].as_py() >= 140 for block in files)
    groups = [
        (block["group"][0].as_py(), block["row"].to_pylist()) for block in blocks if not block["group"].null_count
    ]
    assert groups == [(0, [*range(40)]), (1, [*range(40, 80)]), (2, [*range(80, 100)])]


def test_a_packed_set_is_scored_by_the_paths_of_its_folder_and_names_what_could_not_be_packed(tmp_path: Path) -> None:
    write(tmp_path / "photos", "glass/1.jpg", "paper/2.jpg", "notes.txt")
    (tmp_path / "photos" / "paper" / "3.jpg").write_bytes(b"")
    pack(tmp_path / "photos", tmp_path / "packed")
    inputs = list_inputs([str(tmp_path / "packed")])
    assert inputs.rows["place"].to_pylist() == ["glass/1.jpg", "paper/2.jpg", "paper/3.jpg"]
    assert inputs.rows["error_code"].to_pylist() == [None, None, "empty_file"]
    assert inputs.ignored == 1


def test_a_folder_of_tables_and_no_photos_is_each_of_these_tables(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data" / "a.parquet", {"image": [b"1"] * 11})
    write_table(tmp_path / "b.parquet", {"image": [b"2"]})
    write_table(tmp_path / "scores.parquet", {"path": ["x"], "label": ["a"]})
    write(tmp_path, "README.md")
    inputs = list_inputs([str(tmp_path)])
    assert paths(inputs) == ["b.parquet#0", *(f"data/a.parquet#{row:02d}" for row in range(11))]
    assert inputs.ignored == 2
    assert [source.table.name for source in inputs.sources if source.table] == ["b.parquet", "data/a.parquet"]
