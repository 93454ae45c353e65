from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ray_trash.cluster.capacity import ScoringPlan
from ray_trash.errors import CheckpointError, DataError
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.score.inputs import ScoreInputs, list_inputs
from ray_trash.score.pool import Computation, Scorer, prepare_block
from ray_trash.score.reading import take_rows
from ray_trash.score.rows import OUTCOME_SCHEMA
from ray_trash.score.work import work_blocks
from tests.models import write_model
from tests.photos import make_photos

ONE_THREAD = ScoringPlan(1, "cpu", 1, 0.4, 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def computation(tmp_path_factory: pytest.TempPathFactory) -> Computation:
    directory = tmp_path_factory.mktemp("model")
    write_model(directory)
    return Computation(str(directory), open_checkpoint(directory).document.preprocessing)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> ScoreInputs:
    """Eighty photos in files, one of them bad, and their first ten in a table."""
    root = tmp_path_factory.mktemp("photos")
    files = sorted(make_photos(root / "photos", 80, classes=("glass",)).rglob("*.jpg"))
    pq.write_table(pa.table({"photo": [file.read_bytes() for file in files[:10]]}), root / "t.parquet")
    files[3].write_bytes(b"no photo")
    return list_inputs([str(root / "photos"), str(root / "t.parquet")])


@pytest.fixture(scope="module")
def scorer(computation: Computation, inputs: ScoreInputs) -> Scorer:
    return Scorer(computation, inputs.sources, ONE_THREAD)


def as_on_cpus(block: pa.Table, inputs: ScoreInputs, computation: Computation) -> list[pa.Table]:
    return list(take_rows(block, sources=inputs.sources))


def as_before_gpus(block: pa.Table, inputs: ScoreInputs, computation: Computation) -> list[pa.Table]:
    return [
        prepared
        for taken in take_rows(block, sources=inputs.sources)
        for prepared in prepare_block(taken, sources=inputs.sources, computation=computation)
    ]


@pytest.mark.parametrize("way", [as_on_cpus, as_before_gpus])
def test_outcomes_are_those_of_the_predictor_however_photos_come(
    way: Callable, scorer: Scorer, inputs: ScoreInputs, computation: Computation
) -> None:
    blocks = [made for block in work_blocks(inputs, [range(90)]) for made in way(block, inputs, computation)]
    scored = pa.concat_tables([scorer(block) for block in blocks]).sort_by("position")
    assert scored["position"].to_pylist() == [*range(90)]
    assert scored.select(OUTCOME_SCHEMA.names).schema.equals(OUTCOME_SCHEMA)
    assert [n for n, code in enumerate(scored["error_code"].to_pylist()) if code] == [3]
    predictor = Predictor.load(computation.checkpoint_uri, engine="auto", n_threads=1)
    root = Path(inputs.sources[0].root)
    good = [path for n, path in enumerate(inputs.rows["path"].to_pylist()[:80]) if n != 3]
    expected = predictor.predict(np.stack([predictor.prepare((root / path).read_bytes()) for path in good]))
    said = np.stack(scored["probabilities"].drop_null().to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(said[: len(good)], expected, atol=1e-6)
    np.testing.assert_allclose(said[len(good) : len(good) + 3], expected[:3], atol=1e-6)
    assert set(scored["engine"].to_pylist()) == {predictor.plan.name}


def test_what_ends_a_scoring_is_an_error_of_its_type_wherever_it_happens(
    inputs: ScoreInputs, computation: Computation, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"photo": [b"x"]}), tmp_path / "gone.parquet")
    gone = list_inputs([str(tmp_path / "gone.parquet")])
    (block,) = work_blocks(gone, [range(1)])
    (tmp_path / "gone.parquet").unlink()
    with pytest.raises(DataError, match=r"gone\.parquet"):
        list(take_rows(block, sources=gone.sources))
    absent = Computation(str(tmp_path / "absent"), computation.preprocessing)
    with pytest.raises(CheckpointError, match="absent"):
        Scorer(absent, inputs.sources, ONE_THREAD)
