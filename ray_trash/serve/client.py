"""Asking the endpoint for answers, patiently: what may work a moment later is tried again.

Encoded photos in, the endpoint's answers out. Knows nothing of how they are computed.
"""

from __future__ import annotations

import contextlib
import email.utils
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx

from ray_trash.errors import ClusterError, ConfigError, RayTrashError
from ray_trash.outbound import open_client, way_to

FIRST_WAIT_S = 0.5
"""How long the first retry waits, about; each further one twice as long."""
MAX_WAIT_S = 30.0
"""How long any retry waits, whatever the endpoint asks for."""
_BUSY = (429, 502, 503)
_LATE = 504
_REFUSED = {
    400: "it does not understand the request",
    401: "it wants another key; give the right one with --api-key-file, or --operator-key-file to exchange the model",
    404: "it has no such address; give the address of a ray-trash endpoint, such as http://127.0.0.1:8000",
    415: "it takes no such request",
}
ROLL_BACK_TIMEOUT_S = 400.0
"""How long a rollback or a promotion may take: a move that is under way ends first, then replicas load the model."""


class TooLargeError(ConfigError):
    """The endpoint takes no request of so many photos or bytes."""


class TooSlowError(ClusterError):
    """The request did not arrive in the time that the endpoint gives it."""


class Client:
    """Talks to one endpoint; one client may be used by several threads at a time.

    What asks raises `ConfigError` where the address or the key is wrong, and `ClusterError` where the endpoint cannot
    be reached, is full, too slow, or answers nonsense.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout_s: float = 60.0, retries: int = 5) -> None:
        """Remember whom to ask, such as `http://127.0.0.1:8000`; nothing is contacted.

        `timeout_s` is for an attempt to connect, and then between two pieces of the answer. `retries` is how often a
        request is tried again; one that was too late, once.
        """
        self.url = url.rstrip("/")
        self.patience_s = (retries + 1) * (4 * timeout_s + MAX_WAIT_S)
        """An upper bound of what one request takes, retries and all."""
        self._retries = retries
        self._closed = threading.Event()
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        try:
            self._http = open_client(self.url, base_url=self.url, headers=headers, timeout_s=timeout_s)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            raise ConfigError(f"{url}: not the address of an endpoint, such as http://127.0.0.1:8000") from error
        self._place = self.url + way_to(self.url)

    def __enter__(self) -> Client:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections; a request that waits for its next attempt gives up."""
        self._closed.set()
        self._http.close()

    def model(self) -> dict[str, Any]:
        """Ask which model answers."""
        card = self._ask("GET", "/v1/model")
        if not isinstance(card.get("id"), str) or not isinstance(card.get("classes"), list):
            raise self._nonsense()
        return card

    def score(self, photos: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
        """Ask for the answers to photos, given as name and encoded bytes.

        A result for each, in order, is as `POST /v1/score` gives it, with the `model_id` of who answered.

        Raises:
            TooLargeError, TooSlowError: Fewer photos may do.
        """
        files = [("images", (name, encoded, "application/octet-stream")) for name, encoded in photos]
        answer = self._ask("POST", "/v1/score", files=files)
        try:
            model_id, results = str(answer["model"]["id"]), [dict(result) for result in answer["results"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense() from error
        if len(results) != len(photos):
            raise self._nonsense()
        return [{**result, "model_id": model_id} for result in results]

    def roll_back(self) -> dict[str, Any]:
        """Ask for the model before this one, once: a second time would be another step back. Returns what answers now.

        The client's key must be the operator's.

        Raises:
            RayTrashError: It refuses; there may be no model before this one.
        """
        return self._ask("POST", "/v1/model/rollback", retries=0, timeout=ROLL_BACK_TIMEOUT_S)

    def promote(self) -> dict[str, Any]:
        """Ask for the model on trial to answer, once, as for `roll_back`. Returns what answers now."""
        return self._ask("POST", "/v1/model/promote", retries=0, timeout=ROLL_BACK_TIMEOUT_S)

    def _ask(self, method: str, path: str, *, retries: int | None = None, **content: Any) -> dict[str, Any]:
        attempt, was_late = 0, False
        retries = self._retries if retries is None else retries
        while True:
            retry_after_s = 0.0
            try:
                response = self._http.request(method, path, **content)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise ConfigError(f"{self._place}: {error}; give an address such as http://127.0.0.1:8000") from error
            except httpx.TimeoutException as error:
                late, failure = True, f"no answer in time ({type(error).__name__})"
            except httpx.TransportError as error:
                late, failure = False, f"cannot be reached: {error}"
            else:
                if response.status_code not in (*_BUSY, _LATE):
                    return self._answer_of(response)
                late = response.status_code == _LATE
                failure = f"status {response.status_code}: {_message_of(response)}"
                retry_after_s = _retry_after_s(response)
            if attempt >= retries or (late and was_late) or self._closed.is_set():
                raise ClusterError(
                    f"{self._place}: {failure}; {attempt + 1} attempts; try again when it is up and free"
                )
            was_late = was_late or late
            # Clients that were turned away together should not come back together.
            backoff_s = FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0)
            self._closed.wait(min(MAX_WAIT_S, max(retry_after_s, backoff_s)))
            attempt += 1

    def _answer_of(self, response: httpx.Response) -> dict[str, Any]:
        status = response.status_code
        if status == 413:
            raise TooLargeError(f"{self._place}: the request is too large: {_message_of(response)}")
        if status == 408:
            raise TooSlowError(f"{self._place}: the request took too long to arrive: {_message_of(response)}")
        if status in _REFUSED:
            raise ConfigError(f"{self._place}: {_REFUSED[status]} (status {status}: {_message_of(response)})")
        if status != 200:
            raise RayTrashError(f"{self._place}: answers with status {status}: {_message_of(response)}")
        with contextlib.suppress(ValueError):
            if isinstance(answer := response.json(), dict):
                return answer
        raise self._nonsense()

    def _nonsense(self) -> ClusterError:
        return ClusterError(f"{self._place}: what answers there is no ray-trash endpoint, or one of another version")


def _message_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase or "no reason given"


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0
