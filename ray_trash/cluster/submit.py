"""A command as a job on a cluster: started, followed to its end whatever the connection does, and its outcome."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
from ray.job_submission import JobDetails, JobStatus

from ray_trash.cluster.jobs import Jobs, NotNowError
from ray_trash.cluster.package import CODE, Package
from ray_trash.cluster.way_on import remember_way_on
from ray_trash.errors import ClusterError
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import shortened

AGENT_TIMEOUT_S = 120.0
"""How long a cluster may take until its job agent takes jobs: seconds after `ray start`, a minute on a busy machine."""
LOST_TIMEOUT_S = 300.0
"""How long a cluster may be out of reach while a job is followed: a laptop changes networks, a head is restarted."""
SILENCE_S = 60.0
"""After it a connection that says nothing is made anew: one that was cut without a word looks the same."""
RETRY_EVERY_S = 1.0
NOT_FOUND = 127
"""What a shell returns for a program that it does not find."""

Status = Literal["submitted", "succeeded", "failed", "stopped"]


@dataclass(frozen=True)
class Outcome:
    """What has become of a job.

    Attributes:
        exit_code: The command's own; 143 where the job was stopped, as a command returns that gets SIGTERM.
    """

    job: str
    address: str
    status: Status
    exit_code: int

    def document(self) -> dict[str, Any]:
        """Return it as `--json` prints it; a job that goes on has no exit code yet."""
        return {**vars(self), "exit_code": None if self.status == "submitted" else self.exit_code}


def start_job(jobs: Jobs, words: Sequence[str], package: Package, *, terminal: Terminal) -> str:
    """Send a package and start a command of this program in it. Returns the job's id.

    Raises:
        ClusterError: The cluster refuses, or takes no job within `AGENT_TIMEOUT_S`.
    """
    job_id = f"ray-trash-{secrets.token_hex(6)}"
    # In its folder Python finds the program that was sent before one that is installed there.
    entrypoint = shlex.join(["python", "-m", CODE, *words])
    deadline, waiting = time.monotonic() + AGENT_TIMEOUT_S, False
    with tempfile.TemporaryDirectory(prefix="ray-trash-") as folder:
        path = Path(folder) / "package.zip"
        package.write(path)
        terminal.say(f"sending {package.summary()}")
        # The cluster may have taken the job before its answer arrives here.
        remember_way_on(way_on(jobs.address, job_id))
        while True:
            try:
                jobs.start(job_id, entrypoint, str(path))
                break
            except NotNowError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{jobs.address}: no job was taken within {AGENT_TIMEOUT_S:g} s: {error}; the head's "
                        "logs/dashboard_agent.log says why"
                    ) from error
                if not waiting:
                    terminal.say(f"waiting for the cluster, at most {AGENT_TIMEOUT_S:g} s: {error}")
                waiting = True
                time.sleep(RETRY_EVERY_S)
    terminal.say(f"job {job_id} at {jobs.address}")
    return job_id


def way_on(address: str, job_id: str) -> str:
    """Say how to follow and to stop a job that goes on without us."""
    # The variable holds whatever else is set, where `--address` does not.
    ray = f"RAY_API_SERVER_ADDRESS={address} ray job"
    return f"job {job_id} goes on. To follow it: {ray} logs --follow {job_id}. To stop it: {ray} stop {job_id}"


def follow_job(jobs: Jobs, job_id: str, *, terminal: Terminal) -> Outcome:
    """Print what a job prints until it has ended, and return what has become of it.

    Raises:
        ClusterError: The cluster has refused to run the command, or is out of reach for `LOST_TIMEOUT_S`.
    """
    printed = _Printed(terminal)
    lost_at: float | None = None
    while True:
        try:
            cut = asyncio.run(_follow(jobs, job_id, printed))
            details = jobs.details(job_id)
            if cut or details.status.is_terminal():
                # What a cut connection has swallowed; it is all there is where a proxy lets none through.
                printed.add_rest_of(jobs.output(job_id))
        except NotNowError as error:
            now = time.monotonic()
            if lost_at is None:
                terminal.say(f"the cluster is out of reach; trying again for {LOST_TIMEOUT_S:g} s")
                lost_at = now
            if now - lost_at > LOST_TIMEOUT_S:
                raise ClusterError(f"{jobs.address}: {error}; {way_on(jobs.address, job_id)}") from error
        else:
            lost_at = None
            if details.status.is_terminal():
                printed.end()
                return _outcome(jobs.address, job_id, details)
            printed.say_if_pending(details)
        time.sleep(RETRY_EVERY_S)


async def _follow(jobs: Jobs, job_id: str, printed: _Printed) -> bool:
    """Print while the connection holds. Returns whether it was cut."""
    printed.begin_again()
    async with contextlib.aclosing(jobs.following(job_id)) as chunks:
        while True:
            try:
                printed.add(await asyncio.wait_for(anext(chunks), SILENCE_S))
            except (StopAsyncIteration, TimeoutError):
                return False
            except (aiohttp.ClientError, OSError, RuntimeError):
                return True


class _Printed:
    """The lines of a job's output, each printed once however often the output is sent from its beginning."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._n_taken = self._n_to_skip = 0
        self._unfinished = self._pending_said = ""

    def begin_again(self) -> None:
        self._n_to_skip = self._n_taken

    def add(self, text: str) -> None:
        new = text[self._n_to_skip :]
        self._n_to_skip = max(0, self._n_to_skip - len(text))
        self._n_taken += len(new)
        *lines, self._unfinished = (self._unfinished + new).split("\n")
        for line in lines:
            self._terminal.say(line)

    def add_rest_of(self, whole: str) -> None:
        self.begin_again()
        self.add(whole)

    def end(self) -> None:
        if self._unfinished:
            self.add("\n")

    def say_if_pending(self, details: JobDetails) -> None:
        said = details.message or ""
        if details.status == JobStatus.PENDING and said != self._pending_said:
            self._terminal.say(f"waiting for the job to start, as long as the cluster allows: {said}")
            self._pending_said = said


def _outcome(address: str, job_id: str, details: JobDetails) -> Outcome:
    code = details.driver_exit_code
    if details.status == JobStatus.SUCCEEDED:
        return Outcome(job_id, address, "succeeded", 0)
    if details.status == JobStatus.STOPPED:
        return Outcome(job_id, address, "stopped", 143)
    if code is None:
        said = next(iter((details.message or "").strip().splitlines()), "it does not say why")
        raise ClusterError(f"job {job_id}: the cluster could not run the command: {shortened(said, 300)}")
    if code == NOT_FOUND:
        raise ClusterError(f"job {job_id}: the head finds no python; run its `ray start` where `python` is in the PATH")
    # A signal ended it.
    return Outcome(job_id, address, "failed", 128 - code if code < 0 else code)
