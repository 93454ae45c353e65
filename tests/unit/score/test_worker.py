from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_trash.cluster.carried import raise_carried_error
from ray_trash.errors import CheckpointError, DataError
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.score.inputs import Inputs, list_inputs, work_blocks
from ray_trash.score.rows import OUTCOME_SCHEMA
from ray_trash.score.worker import Scorer, prepare_block, take_block
from tests.models import write_model
from tests.photos import make_photos


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return directory


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Eighty photos in files, one of them bad, and their first ten in a table."""
    root = tmp_path_factory.mktemp("photos")
    files = sorted(make_photos(root / "photos", 80, classes=("glass",)).rglob("*.jpg"))
    pq.write_table(pa.table({"photo": [file.read_bytes() for file in files[:10]]}), root / "t.parquet")
    files[3].write_bytes(b"no photo")
    return list_inputs([str(root / "photos"), str(root / "t.parquet")])


@pytest.fixture(scope="module")
def scorer(checkpoint: Path, inputs: Inputs) -> Scorer:
    return Scorer(str(checkpoint), inputs.sources, "cpu", 1)


def as_on_cpus(block: pa.Table, inputs: Inputs, checkpoint: Path) -> list[pa.Table]:
    return [block] if block["group"].null_count else list(take_block(block, sources=inputs.sources))


def as_before_gpus(block: pa.Table, inputs: Inputs, checkpoint: Path) -> list[pa.Table]:
    preprocessing = open_checkpoint(checkpoint).document.preprocessing
    read = take_block(block, sources=inputs.sources)
    return [
        prepared
        for taken in read
        for prepared in prepare_block(taken, sources=inputs.sources, preprocessing=preprocessing)
    ]


@pytest.mark.parametrize("way", [as_on_cpus, as_before_gpus])
def test_outcomes_are_those_of_the_predictor_however_photos_come(
    way: Callable, scorer: Scorer, inputs: Inputs, checkpoint: Path
) -> None:
    blocks = [made for block in work_blocks(inputs, [range(90)]) for made in way(block, inputs, checkpoint)]
    scored = pa.concat_tables([scorer(block) for block in blocks]).sort_by("position")
    assert scored["position"].to_pylist() == [*range(90)]
    assert scored.select(OUTCOME_SCHEMA.names).schema.equals(OUTCOME_SCHEMA)
    assert [n for n, code in enumerate(scored["error_code"].to_pylist()) if code] == [3]
    predictor = Predictor.load(checkpoint, engine="auto", n_threads=1)
    root = Path(inputs.sources[0].root)
    good = [path for n, path in enumerate(inputs.rows["path"].to_pylist()[:80]) if n != 3]
    expected = predictor.predict(np.stack([predictor.prepare((root / path).read_bytes()) for path in good]))
    said = np.stack(scored["probabilities"].drop_null().to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(said[: len(good)], expected, atol=1e-6)
    np.testing.assert_allclose(said[len(good) : len(good) + 3], expected[:3], atol=1e-6)
    assert set(scored["engine"].to_pylist()) == {predictor.plan.name}


def test_what_ends_a_scoring_keeps_its_type_from_task_to_driver(
    scorer: Scorer, inputs: Inputs, checkpoint: Path, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"photo": [b"x"]}), tmp_path / "gone.parquet")
    gone = list_inputs([str(tmp_path / "gone.parquet")])
    (block,) = work_blocks(gone, [range(1)])
    (tmp_path / "gone.parquet").unlink()
    (taken,) = take_block(block, sources=gone.sources)
    preprocessing = open_checkpoint(checkpoint).document.preprocessing
    (prepared,) = prepare_block(taken, sources=gone.sources, preprocessing=preprocessing)
    for broken in (taken, scorer(taken), prepared, scorer(prepared)):
        with pytest.raises(DataError, match=r"gone\.parquet"):
            raise_carried_error(broken)
    (first, *_) = work_blocks(inputs, [range(90)])
    with pytest.raises(CheckpointError, match="absent"):
        raise_carried_error(Scorer(str(tmp_path / "absent"), inputs.sources, "cpu", 1)(first))
