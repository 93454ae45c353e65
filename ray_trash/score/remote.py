"""Photos scored by an endpoint, over HTTP, without Ray here."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ray_trash.errors import CheckpointError, ClusterError, ImageError
from ray_trash.score.inputs import Source
from ray_trash.score.reading import PhotoReader, take_rows
from ray_trash.score.rows import Outcomes, answered, refused
from ray_trash.serve.client import Client, TooLargeError, TooSlowError

REQUEST_PHOTOS = 16
"""Photos of one request: the endpoint puts requests together, and small ones are quickly sent again."""
REQUEST_BYTES = 32 << 20
"""Photos of a request together, where it is more than one: a quarter of what an endpoint takes by default."""
REQUESTS = 4
"""Requests at a time: while the endpoint computes one, the next is read, one is on its way and one comes back."""
_POLL_S = 0.5
_Results = dict[int, dict[str, Any] | ImageError]


def score_remotely(
    client: Client, card: dict[str, Any], sources: Sequence[Source], blocks: Iterable[pa.Table]
) -> Generator[Outcomes]:
    """Score what is in blocks of work; `card` is what the endpoint said of its model when the scoring began.

    Raises:
        ClusterError: The endpoint cannot be reached, is full for too long, or answers nonsense.
        ConfigError: The key is wrong.
        CheckpointError: The endpoint has changed its model.
        DataError: A table cannot be read.
    """
    todo: queue.Queue[pa.Table | None] = queue.Queue()
    done: queue.Queue[pa.Table | Exception] = queue.Queue()
    reader, stopped = PhotoReader(sources), threading.Event()

    def work() -> None:
        while (block := todo.get()) is not None and not stopped.is_set():
            try:
                done.put(_score_block(block, client, card, reader))
            except Exception as error:
                # One ends the scoring, so nobody asks for more.
                stopped.set()
                done.put(error)

    # Daemons: whoever stops the command does not wait for answers that nobody wants.
    threads = [threading.Thread(target=work, name=f"request-{n}", daemon=True) for n in range(REQUESTS)]
    for thread in threads:
        thread.start()
    try:
        waiting = 0
        for block in _requests(blocks, sources):
            todo.put(block)
            waiting += 1
            if waiting == 2 * REQUESTS:
                yield Outcomes(_next(done, client.patience_s), str(card.get("engine", "")))
                waiting -= 1
        for _ in range(waiting):
            yield Outcomes(_next(done, client.patience_s), str(card.get("engine", "")))
    finally:
        stopped.set()
        for _ in threads:
            todo.put(None)
        reader.close()


def _requests(blocks: Iterable[pa.Table], sources: Sequence[Source]) -> Iterator[pa.Table]:
    for block in blocks:
        for taken in take_rows(block, sources=sources):
            for start in range(0, len(taken), REQUEST_PHOTOS):
                yield taken.slice(start, REQUEST_PHOTOS)


def _next(done: queue.Queue[pa.Table | Exception], patience_s: float) -> pa.Table:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            item = done.get(timeout=_POLL_S)
        except queue.Empty:
            if time.monotonic() >= deadline:
                raise ClusterError(f"the endpoint has answered nothing for {patience_s:g} s; try again") from None
            continue
        if isinstance(item, Exception):
            raise item
        return item


def _score_block(block: pa.Table, client: Client, card: dict[str, Any], reader: PhotoReader) -> pa.Table:
    results: _Results = {}
    request: list[tuple[int, bytes]] = []
    n_bytes = 0
    for position, photo in zip(block["position"].to_pylist(), reader.read(block), strict=True):
        if isinstance(photo, ImageError):
            results[position] = photo
            continue
        if request and n_bytes + len(photo) > REQUEST_BYTES:
            results |= _ask(request, client, card)
            request, n_bytes = [], 0
        request.append((position, photo))
        n_bytes += len(photo)
    if request:
        results |= _ask(request, client, card)
    return _outcomes(results, card["classes"])


def _ask(photos: list[tuple[int, bytes]], client: Client, card: dict[str, Any]) -> _Results:
    try:
        # Called by their numbers: names of files are nobody else's business.
        answers = client.score([(str(position), photo) for position, photo in photos])
    except (TooLargeError, TooSlowError) as error:
        if len(photos) == 1:
            if isinstance(error, TooSlowError):
                raise
            return {photos[0][0]: ImageError("too_large", str(error))}
        half = len(photos) // 2
        return _ask(photos[:half], client, card) | _ask(photos[half:], client, card)
    for answer in answers:
        if answer["model_id"] != card["id"]:
            raise CheckpointError(
                f"{client.url}: checkpoint {answer['model_id']} answers there now, {card['id']} did when the scoring "
                "began; run the command again to score everything with the new one"
            )
    return {position: answer for (position, _), answer in zip(photos, answers, strict=True)}


def _outcomes(results: _Results, classes: Sequence[str]) -> pa.Table:
    good = {n: result for n, result in results.items() if isinstance(result, dict) and result.get("status") == "ok"}
    bad = {n: _refusal(result) for n, result in results.items() if n not in good}
    try:
        said = [[result["probabilities"][name] for name in classes] for result in good.values()]
        abstained = np.array([bool(result["abstained"]) for result in good.values()], bool)
    except (KeyError, TypeError) as error:
        raise ClusterError("the endpoint answers in words of another version; use one version on both sides") from error
    probabilities = np.array(said, np.float32).reshape(len(good), len(classes))
    codes, messages = [code for code, _ in bad.values()], [message for _, message in bad.values()]
    answers = answered(np.array(list(good), np.int64), probabilities, abstained, classes)
    return pa.concat_tables([answers, refused(list(bad), codes, messages)])


def _refusal(result: dict[str, Any] | ImageError) -> tuple[str, str]:
    if isinstance(result, ImageError):
        return result.code, str(result)
    error = result.get("error")
    error = error if isinstance(error, dict) else {}
    return str(error.get("code", "undecodable")), str(error.get("message", "refused without a reason"))
