"""Join the Ray cluster that `RAY_ADDRESS` names, or start one on this machine for as long as a command runs."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from ray_trash.cluster.ending import remember_cluster_is_ours, threads_left
from ray_trash.cluster.environment import prepare_environment
from ray_trash.errors import ClusterError, ConfigError


@contextmanager
def ray_session(*, dashboard: bool, worker_niceness: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block; a cluster started here ends with it, or with this process.

    Whoever has connected already, as a notebook has, keeps that connection: it is used, and left as it is. A cluster at
    `RAY_ADDRESS` that cannot be joined is a `ClusterError`, a current folder that Ray cannot name a `ConfigError`.

    Args:
        dashboard: Whether a cluster started here runs Ray's dashboard, which Ray Tune needs to clean up after ended
            trials.
        worker_niceness: Of a cluster started here, 0 beside other programs as equals. Default: Ray's, 15.
    """
    prepare_environment()
    silence_ray()
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    address = os.environ.get("RAY_ADDRESS")
    if os.getcwdb().decode("utf-8", "replace").encode() != os.getcwdb():
        raise ConfigError("the name of the current folder is not UTF-8, and Ray knows no other; work in another folder")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterError(
                f"RAY_ADDRESS={address}: cannot join the cluster: {str(error).splitlines()[0]}; start it with "
                "`ray start --head`, or unset RAY_ADDRESS to use this machine alone"
            ) from error
    else:
        keep_token_private()
        if worker_niceness is not None:
            os.environ.setdefault("RAY_worker_niceness", str(worker_niceness))
        ray.init(
            address="local",
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
        remember_cluster_is_ours()
    # Ray's start puts a handler of its own in place that aborts the process with a dump of its stack.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        if not threads_left():
            ray.shutdown()


def silence_ray() -> None:
    """Keep Ray's libraries from reporting every step of their own; what matters to a user is said by us."""
    for library in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(library).setLevel(logging.ERROR)


def keep_token_private() -> None:
    """Make Ray's token file, or close it to other users: Ray itself writes it readable for everyone."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    elif path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
