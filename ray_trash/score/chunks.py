"""The finished chunks of a scoring that is under way, so that one that is cut short goes on.

```
FILE                       there once everything is done
FILE.parts/plan.json       what is being scored by what
FILE.parts/000007.parquet  the rows of the inputs of chunk 7, whole or not there
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.errors import ConfigError, StorageError
from ray_trash.score.formats import FORMATS, row_writer
from ray_trash.score.rows import Tally, classes_of, engine_of, parquet_bytes, schema_with
from ray_trash.score.work import BATCH_PHOTOS
from ray_trash.storage import Storage

PLAN_FILE = "plan.json"
MIN_CHUNK_ROWS, MAX_CHUNK_ROWS = 256, 4096
"""A chunk is as much work as may be lost, and bounds the memory in which chunks are joined."""
_WANTED_CHUNKS = 256
_CHANGES = {"model_id": "checkpoint", "inputs": "input", "views": "number of views"}
"""What a plan differs in, the most telling first."""


@dataclass(frozen=True)
class Plan:
    """What makes two scorings the same: how many inputs of which fingerprint, the checkpoint's id, rows of a chunk.

    And the views of a photo that an answer is over; None where an endpoint does not say.
    """

    n: int
    inputs: str
    model_id: str
    chunk_rows: int
    views: int | None = None

    def chunk(self, number: int) -> range:
        """Return the positions of one chunk."""
        return range(number * self.chunk_rows, min(self.n, (number + 1) * self.chunk_rows))

    @property
    def n_chunks(self) -> int:
        """Count the chunks."""
        return -(-self.n // self.chunk_rows)


def choose_chunk_rows(n: int) -> int:
    """Choose the rows of a chunk: whole batches, so that photos share a batch with the same others after a restart."""
    wanted = -(-n // _WANTED_CHUNKS // BATCH_PHOTOS) * BATCH_PHOTOS
    return min(MAX_CHUNK_ROWS, max(MIN_CHUNK_ROWS, wanted))


class Target:
    """The file to be written, and the folder of chunks beside it."""

    def __init__(self, uri: str) -> None:
        """Resolve the file's path or URI, or raise `StorageError` where it names no file; nothing is written."""
        self.folder, self.name = Storage.of_file(uri)
        self.chunks_name = f"{self.name}.parts"
        self.uri = self.folder.child(self.name).uri
        self._chunks = self.folder.child(self.chunks_name)

    def require_free(self, *, overwrite: bool) -> None:
        """Refuse, as a `ConfigError`, a folder, another suffix, and a file that is there and not to be replaced."""
        if self.folder.is_local and (self.folder.local_path() / self.name).is_dir():
            raise ConfigError(f"--out {self.uri}: is a folder; name a file in it")
        if not self.name.lower().endswith(FORMATS):
            raise ConfigError(f"--out {self.uri}: the name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
        if not overwrite and self.folder.exists(self.name):
            raise ConfigError(f"--out {self.uri}: is there already, complete; add --overwrite or name another file")

    def begin(self, plan: Plan) -> tuple[set[int], str | None]:
        """Find the chunks of the same plan, and remove those of another.

        Returns:
            The numbers of finished chunks, and a sentence about chunks that were found.
        """
        names = set(self._chunks.list_names())
        before = self._read_plan() if PLAN_FILE in names else None
        if before == asdict(plan):
            done = {number for number in range(plan.n_chunks) if _chunk_file(number) in names}
            return done, f"going on: {len(done)} of {plan.n_chunks} chunks of {self.uri} are there" if done else None
        said = None
        if names:
            changed = before is not None and {key for key, value in asdict(plan).items() if before.get(key) != value}
            what = next((what for key, what in _CHANGES.items() if changed and key in changed), "input")
            said = f"starting anew: the chunks in {self._chunks.uri} are of another {what}"
            self.folder.remove(self.chunks_name)
        self._chunks.write_bytes(PLAN_FILE, (json.dumps(asdict(plan), indent=2) + "\n").encode())
        return set(), said

    def write_chunk(self, number: int, rows: pa.Table) -> None:
        """Write the rows of a chunk whole or not at all."""
        self._chunks.write_bytes(_chunk_file(number), parquet_bytes(rows))

    def join(self, plan: Plan, engine: str) -> tuple[Tally, str]:
        """Make one file of all chunks, a chunk at a time, and remove them; count all rows, and say what computed.

        `engine` computed the last of them; empty where nothing was left to compute. A chunk that is gone or damaged is
        a `StorageError`.
        """
        tally = Tally()
        schema = self._read_chunk(plan, 0).schema
        engine = engine or engine_of(schema)
        schema = schema_with(classes_of(schema), engine, plan.views)
        with self.folder.writing(self.name) as sink, row_writer(sink, self.name, schema) as write:
            for number in range(plan.n_chunks):
                rows = self._read_chunk(plan, number)
                tally.add(rows)
                # What computed may be another since the scoring went on on another machine.
                write(rows.replace_schema_metadata(schema.metadata))
        self.folder.remove(self.chunks_name)
        return tally, engine

    def _read_plan(self) -> dict[str, Any] | None:
        try:
            plan = json.loads(self._chunks.read_bytes(PLAN_FILE))
        except ValueError:
            return None
        return plan if isinstance(plan, dict) else None

    def _read_chunk(self, plan: Plan, number: int) -> pa.Table:
        name = _chunk_file(number)
        try:
            rows = pq.read_table(pa.BufferReader(self._chunks.read_bytes(name)))
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self._chunks.uri}/{name}: is damaged; remove it and run the command again") from error
        if len(rows) != len(plan.chunk(number)):
            raise StorageError(f"{self._chunks.uri}/{name}: has {len(rows)} rows; remove it and run the command again")
        return rows


def pending_chunks(plan: Plan, done: set[int]) -> Sequence[int]:
    """Return the numbers of chunks that are still to be made, ascending."""
    return [number for number in range(plan.n_chunks) if number not in done]


def _chunk_file(number: int) -> str:
    return f"{number:06d}.parquet"
