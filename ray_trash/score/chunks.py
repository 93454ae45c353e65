"""The finished stretches of a scoring that is under way, so that one that is cut short goes on.

```
FILE.parquet                       there once everything is done
FILE.parquet.parts/plan.json       what is being scored by what
FILE.parquet.parts/000007.parquet  the rows of the inputs of stretch 7, whole or not there
```

Rows in, one file out. Knows nothing of how rows come about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.errors import ConfigError, StorageError
from ray_trash.score.rows import Tally, classes_of, engine_of, schema_with
from ray_trash.storage import Storage

PLAN_FILE = "plan.json"
MIN_PART_ROWS, MAX_PART_ROWS = 256, 4096
"""A part is so much work as may be lost, and at most a file's worth of memory when the parts are joined."""
_WANTED_PARTS = 256
_STEP_ROWS = 64
"""Parts are multiples of a batch, so that photos share a batch with the same others after a restart."""


@dataclass(frozen=True)
class Plan:
    """What makes two scorings the same.

    Attributes:
        n: Inputs in all.
        inputs: Their fingerprint.
        model_id: The checkpoint's id.
        part_rows: Inputs of one part; the last has the rest.
    """

    n: int
    inputs: str
    model_id: str
    part_rows: int

    def part(self, number: int) -> range:
        """Return the positions of one part."""
        return range(number * self.part_rows, min(self.n, (number + 1) * self.part_rows))

    @property
    def n_parts(self) -> int:
        """Count the parts."""
        return -(-self.n // self.part_rows)


def choose_part_rows(n: int) -> int:
    """Choose the rows of a part for so many inputs."""
    wanted = -(-n // _WANTED_PARTS // _STEP_ROWS) * _STEP_ROWS
    return min(MAX_PART_ROWS, max(MIN_PART_ROWS, wanted))


class Target:
    """The file to be written, and the folder of parts beside it."""

    def __init__(self, uri: str) -> None:
        """Resolve the file's path or URI; nothing is written.

        Raises:
            StorageError: It names no file.
        """
        self.folder, self.name = Storage.of_file(uri)
        self.parts_name = f"{self.name}.parts"
        self.uri = self.folder.child(self.name).uri
        self._parts = self.folder.child(self.parts_name)

    def require_free(self, *, overwrite: bool) -> None:
        """Refuse a file that is there already.

        Raises:
            ConfigError: It is there and not to be replaced, or is a folder.
            StorageError: The storage cannot be asked.
        """
        if self.folder.is_local and (self.folder.local_path() / self.name).is_dir():
            raise ConfigError(f"--out {self.uri}: is a folder; name a file in it")
        if not overwrite and self.folder.exists(self.name):
            raise ConfigError(f"--out {self.uri}: is there already, complete; add --overwrite or name another file")

    def begin(self, plan: Plan) -> tuple[set[int], str | None]:
        """Find the parts of the same plan, and remove those of another.

        Returns:
            The numbers of finished parts, and a sentence about parts that were found.

        Raises:
            StorageError: The storage is full, read-only or out of reach.
        """
        names = set(self._parts.list_names())
        before = self._read_plan() if PLAN_FILE in names else None
        if before == asdict(plan):
            done = {number for number in range(plan.n_parts) if _part_file(number) in names}
            return done, f"going on: {len(done)} of {plan.n_parts} parts of {self.uri} are there" if done else None
        said = None
        if names:
            changed = before is not None and {key for key, value in asdict(plan).items() if before.get(key) != value}
            what = "checkpoint" if changed and "model_id" in changed else "input"
            said = f"starting anew: the parts in {self._parts.uri} are of another {what}"
            self.folder.remove(self.parts_name)
        self._parts.write_bytes(PLAN_FILE, (json.dumps(asdict(plan), indent=2) + "\n").encode())
        return set(), said

    def write_part(self, number: int, rows: pa.Table) -> None:
        """Write the rows of a part whole or not at all.

        Raises:
            StorageError: The storage is full, read-only or out of reach.
        """
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink)
        self._parts.write_bytes(_part_file(number), sink.getvalue().to_pybytes())

    def join(self, plan: Plan, engine: str) -> tuple[Tally, str]:
        """Make one file of all parts, a part at a time, and remove them.

        Args:
            plan: What the parts are of.
            engine: What computed the last of them; empty where nothing was left to compute.

        Returns:
            Counts over all rows, and what computed.

        Raises:
            StorageError: A part is gone or damaged, or the storage is full, read-only or out of reach.
        """
        tally = Tally()
        schema = self._read_part(plan, 0).schema
        engine = engine or engine_of(schema)
        schema = schema_with(classes_of(schema), engine)
        with self.folder.writing(self.name) as sink, pq.ParquetWriter(sink, schema) as writer:
            for number in range(plan.n_parts):
                rows = self._read_part(plan, number)
                tally.add(rows)
                # What computed may be another since the scoring went on on another machine.
                writer.write_table(rows.replace_schema_metadata(schema.metadata))
        self.folder.remove(self.parts_name)
        return tally, engine

    def _read_plan(self) -> dict[str, Any] | None:
        try:
            plan = json.loads(self._parts.read_bytes(PLAN_FILE))
        except ValueError:
            return None
        return plan if isinstance(plan, dict) else None

    def _read_part(self, plan: Plan, number: int) -> pa.Table:
        name = _part_file(number)
        try:
            rows = pq.read_table(pa.BufferReader(self._parts.read_bytes(name)))
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self._parts.uri}/{name}: is damaged; remove it and run the command again") from error
        if len(rows) != len(plan.part(number)):
            raise StorageError(f"{self._parts.uri}/{name}: has {len(rows)} rows; remove it and run the command again")
        return rows


def pending_parts(plan: Plan, done: set[int]) -> Sequence[int]:
    """Return the numbers of parts that are still to be made, ascending."""
    return [number for number in range(plan.n_parts) if number not in done]


def _part_file(number: int) -> str:
    return f"{number:06d}.parquet"
