"""Jobs of a cluster as seen from outside it: Ray's own client, with deadlines and with errors in our words."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from packaging.version import Version
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from ray_trash.errors import ClusterError
from ray_trash.terminal.text import shortened

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Where `ray start --head`, `ray dashboard` and `kubectl port-forward` offer a cluster's dashboard."""
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
LEAST_RAY = "2.60"
"""The oldest Ray whose interfaces this program uses, as `pyproject.toml` says."""
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 60.0
"""Of one request, between two of its bytes; the head itself waits 10 s for its job agent."""
_MOST_REASON = 300
"""Characters of what a cluster says that are repeated."""


class NotNowError(Exception):
    """The cluster does not answer this at the moment, and may in a while."""


@dataclass(frozen=True)
class Jobs:
    """The jobs of one cluster.

    Every method raises `ClusterError` where the cluster refuses, and `NotNowError` where it does not answer.
    """

    address: str
    client: JobSubmissionClient

    @classmethod
    def at(cls, address: str) -> Jobs:
        """Connect to a dashboard, once.

        Raises:
            ClusterError: Nobody answers there, or nobody who takes jobs of this version of Ray, or who wants another
                token.
        """
        # Ray has either variable overrule the address that it is given.
        os.environ[ADDRESS_VARIABLES[0]] = address
        for module in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.ERROR)
        try:
            with _in_our_words(address):
                client = _Client(address)
                version = client.ray_version()
        except NotNowError as error:
            raise ClusterError(f"{address}: {error}; {_ADVICE}") from error
        if Version(version) < Version(LEAST_RAY):
            raise ClusterError(f"{address}: the cluster has Ray {version}, and this needs {LEAST_RAY} or newer there")
        return cls(address, client)

    def start(self, job_id: str, entrypoint: str, package: str) -> None:
        """Send a package and start a job in it; one that was started already under this id is left as it is."""
        try:
            with _in_our_words(self.address):
                self.client.submit_job(
                    entrypoint=entrypoint, submission_id=job_id, runtime_env={"working_dir": package}
                )
        except ClusterError as error:
            if "already exists" not in str(error.__cause__):
                raise

    def details(self, job_id: str) -> JobDetails:
        """Return what has become of a job."""
        with _in_our_words(self.address):
            return self.client.get_job_info(job_id)

    def output(self, job_id: str) -> str:
        """Return all that a job has printed."""
        with _in_our_words(self.address):
            return self.client.get_job_logs(job_id)

    def following(self, job_id: str) -> AsyncGenerator[str, None]:
        """Follow what a job prints, from its beginning; ends with the job, or raises whatever cuts the connection."""
        return cast(AsyncGenerator[str, None], self.client.tail_job_logs(job_id))


def job_address(given: str | None) -> str:
    """Return the address of a cluster's dashboard: what `--address` says, else a variable of Ray, else this machine.

    Raises:
        ClusterError: It is no address of a dashboard.
    """
    named = [("--address ", given), *((f"{name}=", os.environ.get(name)) for name in ADDRESS_VARIABLES)]
    said, address = next(((said, value) for said, value in named if value), ("", DEFAULT_ADDRESS))
    if address in ("auto", "local"):
        return DEFAULT_ADDRESS
    scheme, _, rest = address.rpartition("://")
    try:
        parts = urlsplit(address if scheme else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if scheme in ("http", "https") and host and port != 6379:
        return address.rstrip("/")
    what = {"": "has no http:// in front", "ray": "is an address of Ray Client"}.get(scheme, "is no address of HTTP")
    if port == 6379:
        what = "is where machines join a cluster"
    rest = f"[{host}]" if host and ":" in host else host or "HOST"
    dashboard = 8265 if scheme or port in (None, 6379) else port
    raise ClusterError(f"{said}{address}: {what}; jobs are taken by the dashboard, such as http://{rest}:{dashboard}")


class _Client(JobSubmissionClient):
    def _do_request(self, method: str, endpoint: str, **given: Any) -> requests.Response:
        # Ray waits for an answer without end.
        answer: requests.Response = super()._do_request(
            method, endpoint, timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S), **given
        )
        return answer

    def ray_version(self) -> str:
        return str(self._server_ray_version)


_ADVICE = "is the cluster up, and the tunnel to its dashboard? `--address` says where it is"
_OTHERS = "something else than Ray's dashboard answers there"
_TOKEN = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to what the cluster has (default: "
    "~/.ray/auth_token)"
)


@contextmanager
def _in_our_words(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise ClusterError(f"{address}: the cluster wants its token: {_token_problem(str(error))}; {_TOKEN}") from error
    except requests.exceptions.JSONDecodeError as error:
        raise ClusterError(f"{address}: {_OTHERS}; {_ADVICE}") from error
    except (ConnectionError, requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        if any(isinstance(reason, requests.exceptions.SSLError) for reason in (error, error.__context__)):
            raise ClusterError(
                f"{address}: its certificate is not trusted here; set REQUESTS_CA_BUNDLE to the file of its authority"
            ) from error
        raise NotNowError("nobody answers there") from error
    except (KeyError, TypeError, requests.exceptions.RequestException) as error:
        raise ClusterError(f"{address}: {_OTHERS}; {_ADVICE}") from error
    except RuntimeError as error:
        # Ray's client knows one kind of error for whatever an answer says.
        text = str(error)
        if any(word in text for word in _NOT_YET):
            raise NotNowError("its job agent is still starting") from error
        if "Version check returned 404" in text:
            raise ClusterError(f"{address}: {_OTHERS}; {_ADVICE}") from error
        raise ClusterError(f"{address}: {_reason(text)}") from error


_NOT_YET = ("No available agent", "ClientConnectorError", "ServerDisconnectedError", "Connect call failed")
"""What a head answers whose job agent does not listen yet, or whose agent is just being replaced."""


def _token_problem(text: str) -> str:
    if "Missing authentication token" in text:
        return "none was sent"
    return "the one sent is another" if "Forbidden" in text else "there is none here that can be read"


def _reason(text: str) -> str:
    # The last line of a traceback is what happened.
    lines = [line for line in text.strip().splitlines() if line.strip(" .")]
    return shortened(lines[-1].strip().rstrip(".") if lines else "an error without words", _MOST_REASON)
