"""What is to be scored, cut into the blocks in which it is read, decoded and put to the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.dataset.columns import table_of
from ray_trash.score.inputs import ScoreInputs

WORK_SCHEMA = pa.schema(
    {
        "position": pa.int64(),
        "source": pa.int32(),
        "place": pa.string(),
        "row": pa.int64(),
        "group": pa.int32(),
        "sha256": pa.string(),
        "mask": pa.string(),
        "encoded": pa.large_binary(),
        "pixels": pa.large_binary(),
        "error_code": pa.string(),
        "error_message": pa.string(),
    }
)
"""A photo on its way to the network: `position` counts from 0, `group` is the row group of a table's row. `sha256` is
there where the photo must be that one, `mask` where a part of it is hidden (`image.mask`). Reading a table adds
`encoded`; decoding adds `pixels`, S x S x 3 uint8, or an error."""

BATCH_PHOTOS = 64
"""Photos that are scored together: enough that Ray's work for a batch does not count, few enough to be shared out."""
_WANTED_BLOCKS = 2048
"""Ray takes milliseconds to store a block; many photos are handed out many batches at a time."""


def work_blocks(inputs: ScoreInputs, chunks: Sequence[range]) -> Iterator[pa.Table]:
    """Cut what is to be read, ranges of positions, ascending, into blocks that are each read in one go.

    Yields:
        Tables of `WORK_SCHEMA`: files of one source and chunk, `BATCH_PHOTOS` or a multiple of it and the last fewer,
        or the wanted rows of one row group of a table.
    """
    block_rows = -(-len(inputs) // _WANTED_BLOCKS // BATCH_PHOTOS) * BATCH_PHOTOS
    known = np.asarray(inputs.rows["error_code"].is_valid())
    of_source = np.asarray(inputs.rows["source"])
    for number, source in enumerate(inputs.sources):
        start, end = (int(place) for place in np.searchsorted(of_source, [number, number + 1]))
        wanted = [np.arange(max(chunk.start, start), min(chunk.stop, end)) for chunk in chunks]
        wanted = [positions[~known[positions]] for positions in wanted if len(positions)]
        if source.table is None:
            for positions in wanted:
                for first in range(0, len(positions), block_rows):
                    yield _work(inputs, positions[first : first + block_rows], None)
        elif wanted:
            # A row group is read from its start, so all that is wanted of it is read in one go.
            positions, first = np.concatenate(wanted), start
            for group, n_rows in enumerate(source.table.group_rows):
                inside = positions[(positions >= first) & (positions < first + n_rows)]
                first += n_rows
                if len(inside):
                    yield _work(inputs, inside, group)


def _work(inputs: ScoreInputs, positions: NDArray[np.int64], group: int | None) -> pa.Table:
    rows = inputs.rows.take(pa.array(positions))
    columns = {name: rows[name] for name in ("source", "place", "row")}
    numbers = {"position": pa.array(positions), "group": pa.array([group] * len(rows), pa.int32())}
    return table_of(numbers | columns, WORK_SCHEMA).combine_chunks()
