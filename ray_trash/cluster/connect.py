"""Join the Ray cluster that `RAY_ADDRESS` names, or start one on this machine for as long as a command runs."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
from ray._private import ray_constants

from ray_trash.cluster.ending import begin_cluster, remember_cluster_is_ours, stop_signals, threads_left
from ray_trash.cluster.environment import own_folder, prepare_environment
from ray_trash.cluster.growing import holding_machines
from ray_trash.cluster.head import lost_head, require_listener, watching_head
from ray_trash.cluster.shares import cpu_quota
from ray_trash.cluster.waiting import wait_in_thread
from ray_trash.cluster.way_on import way_on
from ray_trash.errors import ClusterError, ConfigError
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

JOIN_TIMEOUT_S = 30.0
"""How long it may take to join a cluster; Ray itself tries for ten minutes."""
_SEVERAL_MACHINES = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Variable that says whether a Ray may be one of several machines'; 0 has all its processes on loopback."""
_SOCKET_PATH_BYTES = 107
"""Of any socket's path, on Linux: `man 7 unix`."""
_LONGEST_SOCKET = "/ray/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store.1"
"""Of a session of Ray, below its folder."""


_LOSSES = (
    ray.exceptions.RayActorError,
    ray.exceptions.LocalRayletDiedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.RaySystemError,
    ray.exceptions.WorkerCrashedError,
)
"""Of processes, machines and what they held; they end a command where Ray does not make up for them."""


@contextmanager
def ray_session(
    *, dashboard: bool, worker_niceness: int | None = None, terminal: Terminal | None = None
) -> Iterator[None]:
    """Be connected to Ray inside the block; a cluster started here ends with it, or with this process.

    Whoever has connected already, as a notebook has, keeps that connection: it is used, and left as it is. A cluster at
    `RAY_ADDRESS` that cannot be joined is a `ClusterError`, and so is a machine on which none can be started; a current
    folder that Ray cannot name is a `ConfigError`. A command whose cluster loses its head gets SIGTERM.

    Args:
        dashboard: Whether a cluster started here runs Ray's dashboard, which Ray Tune needs to clean up after ended
            trials.
        worker_niceness: Of a cluster started here, 0 beside other programs as equals. Default: Ray's, 15.
        terminal: Is told what is waited for.
    """
    prepare_environment()
    silence_ray()
    if ray.is_initialized():
        with holding_machines():
            yield
        return
    if os.getcwdb().decode("utf-8", "replace").encode() != os.getcwdb():
        raise ConfigError("the name of the current folder is not UTF-8, and Ray knows no other; work in another folder")
    handlers = {number: signal.getsignal(number) for number in stop_signals()}
    address = os.environ.get("RAY_ADDRESS", "")
    is_own = address in ("", "local")
    # Ray's handler of failures would abort this process at a SIGTERM, with a dump of its stack; and as Ray goes it sets
    # the default, behind Python's back.
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    doing = "starting Ray" if is_own else f"joining the cluster at {address}"
    with Bar(terminal or Terminal.silent(), total=None, doing=doing):
        if is_own:
            _start(dashboard=dashboard, worker_niceness=worker_niceness)
        else:
            _join(address)
    # A Ray that is joined takes SIGTERM.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        with watching_head(ray.get_runtime_context().gcs_address), holding_machines():
            yield
        if lost := lost_head():
            raise lost
    except _LOSSES as error:
        raise ClusterError(
            f"the cluster has lost what this command needs: {_first_line(error)}; look at its head, and at its memory. "
            f"{way_on()}".rstrip()
        ) from error
    finally:
        if not threads_left() and lost_head() is None:
            ray.shutdown()


def silence_ray() -> None:
    """Keep Ray's libraries from reporting every step of their own; what matters to a user is said by us."""
    for library in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _start(*, dashboard: bool, worker_niceness: int | None) -> None:
    keep_token_private()
    choose_folder()
    if worker_niceness is not None:
        os.environ.setdefault("RAY_worker_niceness", str(worker_niceness))
    begin_cluster(Path(_folder()))
    try:
        with _on_loopback(), _signals_stay_ours():
            started: Any = ray.init(
                address="local",
                include_dashboard=dashboard,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                # Ray rounds down, and nothing runs where there is no CPU.
                num_cpus=1 if cpu_quota() < 1 else None,
            )
    except Exception as error:
        with suppress(Exception):
            ray.shutdown()
        raise ClusterError(
            f"Ray does not start on this machine: {_first_line(error)}; it needs room in {_folder()} and in /dev/shm, "
            "and ports of its own"
        ) from error
    remember_cluster_is_ours(Path(started.address_info["session_dir"]))


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started inside the block listen on loopback alone, as it does on macOS and Windows.

    At an address of the machine its processes listen on every interface, though no other machine is asked in.
    """
    constant, variable = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(_SEVERAL_MACHINES)
    # The processes that are started read the variable; this one has read it.
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[_SEVERAL_MACHINES] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[_SEVERAL_MACHINES]
        else:
            os.environ[_SEVERAL_MACHINES] = variable


@contextmanager
def _signals_stay_ours() -> Iterator[None]:
    """Keep a Ray that is started inside the block from taking SIGTERM: it would end this process with 15 or 1."""
    taking = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda _: None
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = taking


def choose_folder() -> None:
    """Have Ray put its sessions where it can write, below a path that is short enough for its sockets.

    Raises:
        ClusterError: There is no such place, or the one that `RAY_TMPDIR` names is none.
    """
    places = [os.environ.get("TMPDIR") or "/tmp", "/tmp", own_folder("/tmp"), own_folder("/dev/shm")]
    if named := os.environ.get("RAY_TMPDIR"):
        places = [named]
    for place in places:
        path = place + _LONGEST_SOCKET
        if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and _can_write(os.path.join(place, "ray")):
            os.environ["RAY_TMPDIR"] = place
            return
    tried = ", ".join(dict.fromkeys(os.path.join(place, "ray") for place in places))
    most = _SOCKET_PATH_BYTES - len(_LONGEST_SOCKET)
    raise ClusterError(
        f"Ray needs a folder that can be written, tried {tried}; set RAY_TMPDIR to one of at most {most} bytes"
    )


def _folder() -> str:
    return os.path.join(os.environ["RAY_TMPDIR"], "ray")


def _can_write(folder: str) -> bool:
    with suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        return os.access(folder, os.W_OK | os.X_OK)
    return False


def _join(address: str) -> None:
    said = f"RAY_ADDRESS={address}"
    for scheme, what in (
        ("http", "the address of a cluster's dashboard, which takes jobs: `ray-trash submit ...`"),
        ("ray", "an address of Ray Client, by which this does not work"),
    ):
        if address.startswith((f"{scheme}://", f"{scheme}s://")):
            raise ClusterError(
                f"{said}: that is {what}; to join from a machine of the cluster, give its head, HOST:6379"
            )
    advice = "start it with `ray start --head`, or unset RAY_ADDRESS to use this machine alone"
    try:
        if address != "auto":
            require_listener(address)
    except OSError as error:
        raise ClusterError(f"{said}: nobody listens there: {error.strerror or error}; {advice}") from error
    except (ValueError, OverflowError) as error:
        raise ClusterError(f"{said}: not the address of a head, HOST:6379, nor auto or local") from error
    try:
        wait_in_thread(
            lambda: ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR),
            name="ray.init",
            timeout_s=JOIN_TIMEOUT_S,
        )
    except TimeoutError as error:
        raise ClusterError(
            f"{said}: no head of a cluster answers there within {JOIN_TIMEOUT_S:g} s; {advice}"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        if _is_about_token(error):
            raise ClusterError(
                f"{said}: the cluster wants another token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH to what its `ray start` had"
            ) from error
        raise ClusterError(f"{said}: cannot join the cluster: {_first_line(error)}; {advice}") from error


def _is_about_token(error: BaseException | None) -> bool:
    while error is not None:
        if any(word in str(error) for word in ("AuthToken", "AuthenticationError", "nauthenticated")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def keep_token_private() -> None:
    """Make Ray's token file, or close it to other users: Ray itself writes it readable for everyone.

    Where there is no home that can be written, the token is only this process's, and of those it starts.

    Raises:
        ClusterError: The file that `RAY_AUTH_TOKEN_PATH` names cannot be written or read.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_MODE") == "disabled":
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    try:
        path = Path(named or Path.home() / ".ray" / "auth_token")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Another command that starts at this moment makes it too, and both need the same one.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
        except FileExistsError:
            if path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
                path.chmod(0o600)
        path.open().close()
    except (OSError, RuntimeError) as error:  # the latter where there is no home at all
        if named:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ClusterError(f"RAY_AUTH_TOKEN_PATH={named}: cannot be used: {reason}") from error
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
