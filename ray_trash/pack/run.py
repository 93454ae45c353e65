"""A folder of photos made a packed set: written shard by shard, complete once its manifest is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from ray_trash.cluster.blocks import Tasks, map_blocks
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.dataset.catalog import SIDES
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.official import official_lists
from ray_trash.dataset.packed.form import (
    INDEX,
    INDEX_ROWS,
    INDEX_SCHEMA,
    LEFT_OUT,
    LEFT_OUT_SCHEMA,
    Manifest,
    shard_name,
)
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError
from ray_trash.pack.plan import Plan, plan_pack
from ray_trash.pack.shard import DONE_SCHEMA, write_shard
from ray_trash.pack.target import Target
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted, rejected_by_kind


@dataclass
class _Packed:
    """What is known of the set so far."""

    classes: tuple[str, ...]
    shards: list[tuple[str, int, int]] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    rejected: list[pa.Table] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, done: pa.Table) -> pa.Table:
        """Count a shard, and return the rows of the index for it."""
        photos = done.filter(pc.is_valid(done["offset"]))
        self.rejected.append(done.filter(pc.is_null(done["offset"])).select(["path", "reason", "message"]))
        self.shards.append((shard_name(done["shard"][0].as_py()), len(photos), done["shard_bytes"][0].as_py()))
        self.digest.update(json.dumps(photos.select(["path", "label", "split", "sha256"]).to_pydict()).encode())
        columns = {name: photos[name] for name in ("path", "shard", "offset")}
        numbers = {
            "label": pc.index_in(photos["label"], value_set=pa.array(self.classes, pa.string())),
            "split": pc.index_in(photos["split"], value_set=pa.array(SIDES, pa.string())).cast(pa.int8()),
            "size_bytes": photos["size_bytes"].cast(pa.int32()),
        }
        return pa.table([{**columns, **numbers}[name] for name in INDEX_SCHEMA.names], schema=INDEX_SCHEMA)


def pack_photos(listing: Listing, target: Target, *, split: str, terminal: Terminal) -> dict[str, Any]:
    """Pack what a listing says is to be read. Goes on where an earlier start was cut short.

    A file that cannot be read is left out and named; whether a photo can be decoded is found out where it is used.

    Returns:
        What `--json` prints.

    Raises:
        ConfigError: The split goes by content, or its file cannot be read.
        DataError: The split does not fit the photos, or no file can be read.
        StorageError: The set cannot be written.
    """
    plan = plan_pack(listing, split)
    target.begin()
    packed = _Packed(listing.classes)
    with target.storage.writing(INDEX) as sink, pa.ipc.new_file(sink, INDEX_SCHEMA) as index:
        for batch in _batches(map(packed.add, _done_shards(listing, target, plan, terminal))):
            packed.batches.append(batch["path"][0].as_py())
            index.write_batch(batch)
    rejected = pa.concat_tables(packed.rejected)
    n = sum(photos for _, photos, _ in packed.shards)
    if not n:
        first = rejected.slice(0, 1).to_pylist()[0]
        raise DataError(f"data.root: no photo can be read, such as {first['path']!r}: {first['message']}")
    left_out = _left_out(listing, rejected)
    with target.storage.writing(LEFT_OUT) as sink:
        pq.write_table(left_out, sink)
    lists = official_lists(listing)
    for name, content in lists.items():
        target.storage.write_bytes(name, content)
    n_rejected = pc.sum(pc.equal(left_out["verdict"], "rejected")).as_py() or 0
    counts = {
        "seen": n + len(left_out),
        "accepted": n,
        "rejected": n_rejected,
        "ignored": len(left_out) - n_rejected,
    }
    manifest = Manifest(
        id=packed.digest.hexdigest(),
        classes=listing.classes,
        split=plan.split,
        sides=listing.sides,
        shards=tuple(packed.shards),
        batches=tuple(packed.batches),
        counts=counts,
        warnings=listing.warnings,
    )
    target.finish(manifest.to_json(), {INDEX, LEFT_OUT, *lists, *(name for name, _, _ in packed.shards)})
    sides = {side: pc.sum(pc.equal(plan.photos["split"], side)).as_py() or 0 for side in SIDES} if plan.split else None
    return {
        "to": target.storage.uri,
        "id": manifest.id,
        "counts": counts,
        "classes": list(listing.classes),
        "shards": len(manifest.shards),
        "size_bytes": sum(size_bytes for _, _, size_bytes in manifest.shards),
        "split": plan.split,
        "sides": sides,
        "rejected": left_out.filter(pc.equal(left_out["verdict"], "rejected")).select(["path", "reason"]).to_pylist(),
        "warnings": [*listing.warnings, *plan.warnings],
    }


def say_packed(document: dict[str, Any], terminal: Terminal) -> None:
    """Say what was packed."""
    for warning in document["warnings"]:
        terminal.say(f"warning: {warning}")
    if document["rejected"]:
        first = document["rejected"][0]
        what = f"{rejected_by_kind(document['rejected'])}; such as {first['path']!r}"
        terminal.say(f"warning: left out, for they cannot be read: {what}")
    counts = document["counts"]
    size = f"{counted(document['shards'], 'shard')}, {document['size_bytes'] / 2**20:.1f} MiB"
    sides = "".join(f", {n} in {side}" for side, n in (document["sides"] or {}).items())
    terminal.say(f"{document['to']}: {counted(counts['accepted'], 'photo')} in {size}{sides}")


def _done_shards(listing: Listing, target: Target, plan: Plan, terminal: Terminal) -> Iterator[pa.Table]:
    folder = PhotoFolder.at(listing.root)
    write = Tasks(
        partial(write_shard, folder=folder, target=target.storage, plan=plan.id), DONE_SCHEMA, cpus=READ_TASK_CPUS
    )
    with Bar(terminal, total=len(plan.photos), doing="packing") as bar:
        for done in map_blocks(plan.shards(), write, what="the next shard"):
            yield done
            bar.advance(len(done))


def _batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    """Cut rows into batches of `INDEX_ROWS`, whatever the tables they come in."""
    waiting = INDEX_SCHEMA.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while len(waiting) >= INDEX_ROWS:
            yield waiting.slice(0, INDEX_ROWS).combine_chunks().to_batches()[0]
            waiting = waiting.slice(INDEX_ROWS)
    if len(waiting):
        yield waiting.combine_chunks().to_batches()[0]


def _left_out(listing: Listing, rejected: pa.Table) -> pa.Table:
    before = listing.entries.filter(pc.is_valid(listing.entries["verdict"])).select(LEFT_OUT_SCHEMA.names)
    verdicts = pa.repeat(pa.scalar("rejected"), len(rejected))
    now = rejected.append_column("verdict", verdicts).select(LEFT_OUT_SCHEMA.names).cast(LEFT_OUT_SCHEMA)
    return pa.concat_tables([before.cast(LEFT_OUT_SCHEMA), now]).sort_by("path").combine_chunks()
