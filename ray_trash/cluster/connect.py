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

from ray_trash.errors import ClusterError

ENVIRONMENT = {
    # A command run through `uv run` would otherwise upload the working directory to every worker.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Threads that spin while they wait for one another make training many times slower on cores that other
    # processes want too.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Some ten microseconds of it, for the thread that ends a moment earlier: training is 3 % faster.
    "GOMP_SPINCOUNT": "3000",
    # The controller acknowledges an epoch only when it looks, by default every 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    # Nobody reads the metrics of a cluster that lives as long as a command, and every process of Ray sends them.
    "RAY_enable_metrics_collection": "0",
    # Serve's controller looks after its replicas ten times a second otherwise: 3 % of a core, for a replica that
    # is replaced a third of a second sooner.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # These two took a quarter of the training speed of two cores: `python -m benchmarks.train_overhead` printed
    # 0.73 with them and 0.96 without.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Ray overrides CUDA_VISIBLE_DEVICES of actors without GPUs; its warning about that is not for users.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray Data's CPU-only notices go to the terminal of every command.
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Ray Tune's own tables and log files would say the same as ours, twice; and it would take Ctrl-C for itself.
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial that fails before its first epoch has no metric, and that is a result.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The process of a stopped trial takes the next one once it has put its things away.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "10",
    # A replica of Ray Serve that hangs has nothing to end in good order, and its requests wait for another.
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
}
"""Settings of Ray this project relies on; a value the user has set stays."""


@contextmanager
def ray_session(*, dashboard: bool) -> Iterator[None]:
    """Be connected to Ray inside the block; a cluster started here ends with it.

    Whoever has connected already, as a notebook has, keeps that connection: it is used, and left as it is.

    Args:
        dashboard: Whether a cluster started here runs Ray's dashboard, which Ray Tune needs to clean up
            after ended trials.

    Raises:
        ClusterError: The cluster at `RAY_ADDRESS` cannot be reached.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    silence_ray()
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ClusterError(
                f"RAY_ADDRESS={address}: cannot join the cluster: {reason}; start it with `ray start --head`, "
                "or unset RAY_ADDRESS to use this machine alone"
            ) from error
    else:
        keep_token_private()
        ray.init(
            address="local",
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    # Ray's start puts a handler of its own in place that aborts the process with a dump of its stack.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
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
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
    elif path.stat().st_uid == os.getuid() and path.stat().st_mode & 0o077:
        path.chmod(0o600)
