from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from ray_trash.cluster import blocks
from ray_trash.model.checkpoint import open_checkpoint, write_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.score import chunks
from ray_trash.score.chunks import Target
from ray_trash.score.rows import ROW_SCHEMA, classes_of
from tests.corpus import image_corpus
from tests.e2e.command import kill, start, wait_until
from tests.models import write_model
from tests.photos import make_photos
from tests.processes import living
from tests.runs import Command, error_line
from tests.s3 import Bucket

PER_CLASS = 50


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return directory


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), PER_CLASS)


@pytest.fixture(scope="module")
def predicted(checkpoint: Path, photos: Path) -> dict[str, np.ndarray]:
    """What the predictor says of each photo by itself, by path."""
    predictor = Predictor.load(checkpoint, engine="auto", n_threads=1)
    paths = sorted(photos.rglob("*.jpg"))
    said = predictor.predict(np.stack([predictor.prepare(path.read_bytes()) for path in paths]))
    return {str(path.relative_to(photos)): row for path, row in zip(paths, said, strict=True)}


def require_predicted(table: pa.Table, predicted: dict[str, np.ndarray], checkpoint: Path) -> None:
    document = open_checkpoint(checkpoint).document
    assert table.schema.equals(ROW_SCHEMA)
    assert classes_of(table.schema) == list(document.classes)
    assert table["path"].to_pylist() == sorted(predicted)
    expected = np.stack([predicted[path] for path in table["path"].to_pylist()])
    said = np.stack(table["probabilities"].to_numpy())
    np.testing.assert_allclose(said, expected, atol=1e-6)
    assert table["label"].to_pylist() == [document.classes[n] for n in said.argmax(axis=1)]
    np.testing.assert_array_equal(table["confidence"].to_numpy(), said.max(axis=1))
    assert table["abstained"].to_pylist() == document.calibration.abstains(said).tolist()
    assert set(table["model_id"].to_pylist()) == {document.id}


def test_every_case_of_the_corpus_is_one_row_with_its_code(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in image_corpus().items():
        (folder / name).write_bytes(image.encoded)
    result = command("score", checkpoint, folder, "--out", tmp_path / "out.parquet", "--json")
    assert result.code == 0, result.err
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["path"] for row in rows] == sorted(image_corpus())
    assert {row["path"]: row["error_code"] for row in rows} == {n: case.code for n, case in image_corpus().items()}
    for row in rows:
        answer = [row[name] is None for name in ("label", "confidence", "probabilities", "abstained")]
        assert answer == [row["error_code"] is not None] * 4
        assert bool(row["error_message"]) == (row["error_code"] is not None)
    codes = [case.code for case in image_corpus().values() if case.code]
    assert json.loads(result.out)["errors"] == {code: codes.count(code) for code in sorted(set(codes))}


def test_photos_in_a_column_beside_photos_in_files_over_eight_views(
    command: Command, checkpoint: Path, photos: Path, predicted: dict, tmp_path: Path
) -> None:
    paths = sorted(predicted)
    encoded = [(photos / path).read_bytes() for path in paths]
    encoded[5], encoded[70] = b"", b"no photo"
    pq.write_table(pa.table({"path": paths, "photo": encoded}), tmp_path / "in.parquet", row_group_size=40)
    given = (tmp_path / "in.parquet", photos / "glass" / "001.jpg")
    options = ("--column", "photo", "--views", 8, "--out", tmp_path / "out.parquet", "--json")
    result = command("score", checkpoint, *given, *options)
    assert result.code == 0, result.err
    assert "answers are over 8 views" in result.err
    assert json.loads(result.out)["views"] == 8
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["path"].to_pylist() == [*paths, str(given[1])]
    codes = {n: code for n, code in enumerate(table["error_code"].to_pylist()) if code}
    assert codes == {5: "empty_file", 70: "unsupported_format"}
    assert table.schema.metadata[b"views"] == b"8"
    predictor = Predictor.load(checkpoint, engine="auto", n_threads=1, views=8)
    answered = [path for n, path in enumerate(paths) if n not in codes] + ["glass/001.jpg"]
    expected = predictor.predict(np.stack([predictor.prepare((photos / path).read_bytes()) for path in answered]))
    said = np.stack(table["probabilities"].drop_null().to_numpy())
    np.testing.assert_allclose(said, expected, atol=1e-6)


def test_three_workers_answer_as_the_predictor_alone_with_photos_checkpoint_and_output_on_s3(
    command: Command, checkpoint: Path, photos: Path, predicted: dict, bucket: Bucket
) -> None:
    for local, name in ((photos, "set"), (checkpoint, "model")):
        fs.copy_files(str(local), f"{bucket.name}/{name}", destination_filesystem=bucket.filesystem)
    arguments = (bucket.uri("model"), bucket.uri("set"), "--out", bucket.uri("out/scores.parquet"))
    result = command("score", *arguments, "--workers", 3)
    assert result.code == 0, result.err
    table = pq.read_table(f"{bucket.name}/out/scores.parquet", filesystem=bucket.filesystem)
    require_predicted(table, predicted, checkpoint)
    left = bucket.filesystem.get_file_info(fs.FileSelector(f"{bucket.name}/out", recursive=True))
    assert [info.base_name for info in left] == ["scores.parquet"]
    again = command("score", *arguments)
    assert again.code == 2
    assert "--overwrite" in error_line(again.err)


class CutShortError(Exception):
    pass


def test_a_scoring_that_was_cut_short_goes_on_and_no_row_is_there_twice(
    command: Command, checkpoint: Path, photos: Path, predicted: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MIN_CHUNK_ROWS", 64)
    arguments = ("score", checkpoint, photos, "--out", tmp_path / "out.parquet", "--json")
    whole = Target.write_chunk
    written: list[int] = []

    def write_or_fail(target: Target, number: int, rows: pa.Table) -> None:
        if len(written) == 1:
            raise CutShortError
        whole(target, number, rows)
        written.append(number)

    folder = tmp_path / "out.parquet.parts"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"n": 150, "model_id": "another"}))
    (folder / "000000.parquet").write_bytes(b"of another checkpoint")
    with monkeypatch.context() as failing:
        failing.setattr(Target, "write_chunk", write_or_fail)
        failed = command(*arguments)
    assert failed.code == 1
    assert "starting anew" in failed.err
    assert sorted(path.name for path in folder.iterdir()) == [f"{written[0]:06d}.parquet", "plan.json"]
    # The chunk that is there is not computed again: what it says is kept, whatever that is.
    (chunk,) = folder.glob("*.parquet")
    rows = pq.read_table(chunk)
    place = rows.schema.get_field_index("label")
    pq.write_table(rows.set_column(place, "label", pa.array(["kept"] * len(rows))), chunk)
    result = command(*arguments)
    assert result.code == 0, result.err
    assert "going on: 1 of 3 chunks" in result.err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["path"].to_pylist() == sorted(predicted)
    assert table["label"].to_pylist().count("kept") == len(rows)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    summary = json.loads(result.out)
    assert (summary["n"], summary["scored"], summary["errors"]) == (3 * PER_CLASS, 3 * PER_CLASS, {})
    assert summary["abstained"] == sum(table["abstained"].to_pylist())
    assert summary["engine"].endswith("on cpu")
    assert summary["images_per_s"] > 0


def test_a_killed_worker_is_replaced_and_a_killed_scoring_goes_on_with_no_row_twice(
    command: Command, joined: dict[str, str], tmp_path: Path
) -> None:
    write_model(tmp_path / "model", size_px=96)
    photos = make_photos(tmp_path / "photos", 500)
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    arguments = ("score", tmp_path / "model", photos, "--out", out, "--workers", 1)
    of_others = set(living("MapWorker", below=os.getpid()))
    child = start(*arguments, **joined)

    def wait_for_parts(n: int) -> None:
        def are_there() -> bool:
            return len(list(parts.glob("0*.parquet"))) >= n or child.poll() is not None

        wait_until(are_there, timeout_s=240, what=f"{n} parts")
        assert child.poll() is None, child.communicate()[1]

    wait_for_parts(1)
    (worker,) = set(living("MapWorker", below=os.getpid())) - of_others
    os.kill(worker, signal.SIGKILL)
    wait_for_parts(2)
    kill(child)
    made = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    assert 2 <= len(made) < 6
    assert not out.exists()
    finished = command(*arguments, "--json")
    assert finished.code == 0, finished.err
    assert f"going on: {len(made)} of 6 chunks" in finished.err
    assert json.loads(finished.out)["n"] == 1500
    expected = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    assert pq.read_table(out)["path"].to_pylist() == expected
    assert not parts.exists()


def test_files_that_can_be_refused_without_a_look_need_no_worker(
    command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").symlink_to("nowhere")
    result = command("score", checkpoint, tmp_path / "photos", "--out", tmp_path / "out.jsonl", "--json")
    assert result.code == 3, result.err
    assert "none of 1 input could be scored" in error_line(result.err)
    assert json.loads((tmp_path / "out.jsonl").read_text())["error_code"] == "unreadable"


def test_a_mistake_is_one_line_and_its_exit_code(
    command: Command, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    out = ("--out", tmp_path / "out.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.parquet").write_bytes(b"")
    mistakes = [
        ((checkpoint, *out), 2, "no photos are named"),
        ((checkpoint, photos, "--out", tmp_path / "there.parquet"), 2, "--overwrite"),
        ((checkpoint, photos, "--out", tmp_path / "out.xlsx"), 2, "must end in .parquet, .csv or .jsonl"),
        ((checkpoint, photos, "--api-key-file", "key", *out), 2, "--url"),
        ((photos, "--url", "http://127.0.0.1:9", "--workers", 2, *out), 2, "--workers"),
        ((checkpoint, tmp_path / "absent", *out), 3, "absent: does not exist"),
        ((checkpoint, tmp_path / "empty", *out), 3, "no photos in"),
        ((tmp_path / "absent", photos, *out), 4, "absent: no checkpoint"),
        ((checkpoint, photos, "--workers", 64, *out), 6, "available"),
    ]
    for arguments, code, words in mistakes:
        result = command("score", *arguments)
        assert result.code == code, result.err
        assert words in error_line(result.err)
    assert not (tmp_path / "out.parquet").exists()


def test_an_error_inside_a_worker_keeps_its_type(
    command: Command, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    opened = open_checkpoint(checkpoint)
    golden = opened.document.golden
    turned = dataclasses.replace(golden, probabilities=tuple(reversed(golden.probabilities)))
    wrong = dataclasses.replace(opened.document, golden=turned)
    write_checkpoint(tmp_path / "wrong", opened.weights(), wrong)
    result = command("score", tmp_path / "wrong", photos, "--out", tmp_path / "out.parquet")
    assert result.code == 4, result.err
    assert "wrong" in error_line(result.err)


def test_a_cluster_that_answers_nothing_ends_the_scoring(
    command: Command, checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than any answer takes.
    monkeypatch.setattr(blocks, "NO_ANSWER_S", 0.01)
    defaults = blocks.map_blocks.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "no_answer_s", 0.01)
    result = command("score", checkpoint, photos, "--out", tmp_path / "out.parquet")
    assert result.code == 6, result.err
    assert "waited 0.01 s for scored photos in vain" in error_line(result.err)


def test_a_table_that_changes_under_the_scoring_is_a_data_error(
    command: Command, checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "in.parquet"
    pq.write_table(pa.table({"photo": [(photos / "glass" / "001.jpg").read_bytes()]}), table)
    begin = Target.begin

    def begin_and_lose(target: Target, plan: chunks.Plan):
        shutil.move(table, tmp_path / "elsewhere")
        return begin(target, plan)

    monkeypatch.setattr(Target, "begin", begin_and_lose)
    result = command("score", checkpoint, table, "--out", tmp_path / "out.parquet")
    assert result.code == 3, result.err
    assert "in.parquet" in error_line(result.err)
