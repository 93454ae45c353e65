"""One scoring from a list of paths to a file of rows, by workers here or by an endpoint elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ray_trash.cluster.here import is_little, photos_of_224_px
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.score.chunks import Plan, Target, choose_chunk_rows, pending_chunks
from ray_trash.score.inputs import list_inputs
from ray_trash.score.remote import score_remotely
from ray_trash.score.rows import Outcomes, Tally, complete_rows, schema_with
from ray_trash.score.work import work_blocks
from ray_trash.serve.client import Client
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

Answering = Callable[[list[pa.Table]], Generator[Outcomes]]
"""Scores blocks of work."""


def score_here(
    checkpoint_uri: str,
    given: Sequence[str],
    out: str,
    *,
    workers: int | None = None,
    views: Literal[1, 8] | None = None,
    wait: float | Literal["auto"] = "auto",
    column: str | None = None,
    overwrite: bool = False,
    terminal: Terminal,
) -> dict[str, Any]:
    """Score with a checkpoint, on the Ray cluster that `RAY_ADDRESS` names or on this machine.

    Files, folders, URIs and tables become one file, local or at a URI, in the format that its suffix says (`formats`).
    Few photos are scored by this process, where no `workers` are asked for. Workers are processes with a network each,
    by default one per GPU, or one per machine where there is none.
    Machines for them are waited for `wait` seconds; `auto` is some minutes where the cluster grows.

    An answer is the mean over `views` symmetries of a photo, by default as many as the checkpoint says; with another
    number its temperature and thresholds stay as they are, which is said.

    Returns:
        The summary, JSON values only; `images_per_s` is the rate from the first answers to the last.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ClusterError: The cluster is too small, or answers nothing.
        ConfigError: The file is there already or has another suffix, or a column is not there.
        DataError: There is nothing to score, or a path does not exist.
        StorageError: The output's storage is full, read-only or out of reach.
    """
    target = _free_target(out, overwrite=overwrite)
    checkpoint = open_checkpoint(checkpoint_uri)
    document = checkpoint.document
    scoring = _Scoring(given, target, column, terminal)
    views = views or document.views
    if note := document.views_note(views):
        terminal.say(note)

    def answers(blocks: list[pa.Table]) -> Generator[Outcomes]:
        from ray_trash.score.pool import Computation, plan_here, score_blocks

        computation = Computation(checkpoint.uri, document.preprocessing, views=views)
        sources, size_px = scoring.inputs.sources, document.preprocessing.size_px
        # An int8 network is for CPUs, whatever else there is.
        device: Literal["auto", "cpu"] = "cpu" if document.is_int8 else "auto"
        n_photos = sum(map(len, blocks))
        if is_little(max(n_photos, photos_of_224_px(n_photos, size_px=size_px, views=views)), workers=workers):
            yield from score_blocks(computation, sources, blocks, plan_here(one_thread=False, device=device))
            return
        from ray_trash.cluster.connect import ray_session
        from ray_trash.cluster.growing import wait_for_scoring

        with ray_session(dashboard=False, terminal=terminal):
            plan = wait_for_scoring(workers, device, one_thread_each=False, wait=wait, say=terminal.say)
            yield from score_blocks(computation, sources, blocks, plan)

    return scoring.run(document.id, document.classes, views, answers)


def score_there(
    url: str,
    given: Sequence[str],
    out: str,
    *,
    api_key: str | None = None,
    column: str | None = None,
    overwrite: bool = False,
    terminal: Terminal,
) -> dict[str, Any]:
    """Score with the endpoint at a URL such as `http://127.0.0.1:8000`; else as `score_here`.

    Raises:
        CheckpointError: The endpoint changed its model.
        ClusterError: The endpoint cannot be reached, is full for too long, or answers nonsense.
        ConfigError: As for `score_here`, or the key is wrong.
    """
    scoring = _Scoring(given, _free_target(out, overwrite=overwrite), column, terminal)
    with Client(url, api_key=api_key) as client:
        with Bar(terminal, total=None, doing=f"waiting for {url} to say which model answers"):
            card = client.model()

        def answers(blocks: list[pa.Table]) -> Generator[Outcomes]:
            return score_remotely(client, card, scoring.inputs.sources, blocks)

        return scoring.run(card["id"], card["classes"], card.get("views"), answers)


def _free_target(out: str, *, overwrite: bool) -> Target:
    target = Target(out)
    target.require_free(overwrite=overwrite)
    return target


class _Scoring:
    """Inputs that become chunks, and chunks that become the file."""

    def __init__(self, given: Sequence[str], target: Target, column: str | None, terminal: Terminal) -> None:
        self._started_at = time.monotonic()
        self._terminal = terminal
        self._target = target
        not_ours = (target.folder, (target.name, target.chunks_name))
        self.inputs = list_inputs(given, column=column, leave_out=not_ours, terminal=terminal)
        self._engine = ""

    def run(self, model_id: str, classes: Sequence[str], views: int | None, answering: Answering) -> dict[str, Any]:
        n = len(self.inputs)
        self._plan = Plan(n, self.inputs.fingerprint(), model_id, choose_chunk_rows(n), views)
        self._classes = classes
        done, said = self._target.begin(self._plan)
        if said is not None:
            self._terminal.say(said)
        pending = pending_chunks(self._plan, done)
        left = sum(len(self._plan.chunk(number)) for number in pending)
        with Bar(self._terminal, total=self._plan.n, done=self._plan.n - left) as bar:
            self._make_chunks(pending, answering, bar)
        tally, engine = self._target.join(self._plan, self._engine)
        seconds = time.monotonic() - self._started_at
        self._terminal.say(f"{tally.scored} of {tally.n} photos scored, {_in_words(tally)}: {self._target.uri}")
        return {
            **tally.to_json(),
            "ignored": self.inputs.ignored,
            "seconds": round(seconds, 2),
            "images_per_s": round(bar.rate.per_s or left / seconds, 2),
            "model_id": model_id,
            "engine": engine,
            "views": views,
            "out": self._target.uri,
        }

    def _make_chunks(self, pending: Sequence[int], answering: Answering, bar: Bar) -> None:
        known = np.asarray(self.inputs.rows["error_code"].is_valid())
        missing = {number: int((~known[self._plan.chunk(number)]).sum()) for number in pending}
        gathered: defaultdict[int, list[pa.Table]] = defaultdict(list)
        for number in (number for number, count in missing.items() if not count):
            self._write(number, [])
        blocks = list(work_blocks(self.inputs, [self._plan.chunk(number) for number in pending]))
        if not blocks:
            return
        with closing(answering(blocks)) as answers:
            for outcomes in answers:
                self._engine = outcomes.engine
                bar.advance(len(outcomes.table))
                numbers = np.asarray(outcomes.table["position"]) // self._plan.chunk_rows
                for number in np.unique(numbers).tolist():
                    gathered[number].append(outcomes.table.filter(pa.array(numbers == number)))
                    missing[number] -= len(gathered[number][-1])
                    if not missing[number]:
                        self._write(number, gathered.pop(number))

    def _write(self, number: int, outcomes: Sequence[pa.Table]) -> None:
        chunk = self._plan.chunk(number)
        inputs = self.inputs.rows.slice(chunk.start, len(chunk))
        rows = complete_rows(inputs, chunk.start, outcomes, self._plan.model_id)
        self._target.write_chunk(number, rows.cast(schema_with(self._classes, self._engine, self._plan.views)))


def _in_words(tally: Tally) -> str:
    errors = ", ".join(f"{count} {code}" for code, count in sorted(tally.errors.items())) or "no errors"
    return f"{tally.abstained} of them not sure, {errors}"
