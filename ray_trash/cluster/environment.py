"""Settings of Ray and of torch's threads that this project relies on: environment variables, read on import."""

from __future__ import annotations

import os
import stat
import tempfile

from ray_trash.errors import StorageError

ENVIRONMENT = {
    # A thread that calls Ray after its end would otherwise start another one.
    "RAY_ENABLE_AUTO_CONNECT": "0",
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
    # After a second without work Ray ends a process beyond one for each CPU, and those that read photos for a training
    # would start anew, with two seconds of imports, whenever they were ahead of it.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    # Nobody reads the metrics of a cluster that lives as long as a command, and every process of Ray sends them.
    "RAY_enable_metrics_collection": "0",
    # Ray's log monitor keeps open what processes wrote that have long gone, up to 200 files, for nobody: with each
    # exchange of a served model two more.
    "RAY_LOG_MONITOR_MAX_OPEN_FILES": "32",
    # Serve's controller looks after its replicas ten times a second otherwise: 3 % of a core, for a replica that
    # is replaced a third of a second sooner.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # What an execution of Ray Data asked of an autoscaler stands for so long after its process was ended; by default
    # three minutes, in which machines wait for nothing.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "30",
    # These two took a quarter of the training speed of two cores: `python -m benchmarks.train_overhead` printed
    # 0.73 with them and 0.96 without. The driver looks for drained machines itself (`train/supervise.py`).
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
    # Ray Serve gives up a proxy after three looks in vain; at its ten seconds a dead one is missing for half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "3",
}
"""Name to value; a value the user has set stays."""


_CACHES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")
"""Where libraries keep what they download, compile and are told, unless it is in the home."""
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def prepare_environment() -> None:
    """Set what is not set, for this process and those it starts; before torch and Ray are imported.

    Raises:
        StorageError: There is neither a home nor a folder for temporary files that can be written.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _ask_this_machine_directly()
    _make_up_for_no_home()


def own_folder(parent: str) -> str:
    """Name a folder that is this user's alone, below one that all share."""
    return os.path.join(parent, f"ray-trash-{os.getuid()}")


def _ask_this_machine_directly() -> None:
    # Ray's parts ask one another over HTTP too, through whatever proxy is set.
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in excepted.split(",") if name.strip()]
    if "*" not in names:
        names += [name for name in _THIS_MACHINE if name not in names]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def _make_up_for_no_home() -> None:
    """Put what libraries keep in a home into the folder for temporary files, where there is no home to be written."""
    home = os.path.expanduser("~")
    if os.path.isabs(home) and os.access(home, os.W_OK | os.X_OK):
        return
    try:
        folder = own_folder(tempfile.gettempdir())
        os.makedirs(folder, mode=0o700, exist_ok=True)
        about = os.lstat(folder)
        if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode):
            folder = tempfile.mkdtemp(prefix="ray-trash-")
    except OSError as error:
        raise StorageError(
            f"neither a home ({home}) nor a folder for temporary files can be written: {error.strerror}; "
            "set HOME or TMPDIR to a folder that can"
        ) from error
    for name in _CACHES:
        os.environ.setdefault(name, folder)
    if not os.path.isabs(home) or not os.path.isdir(home):
        os.environ["HOME"] = folder
    # Whoever asks for the name of a user that has no entry in /etc/passwd gets an error.
    os.environ.setdefault("LOGNAME", str(os.getuid()))
