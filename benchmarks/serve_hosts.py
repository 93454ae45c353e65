"""What becomes of requests when a machine of an endpoint dies: `python -m benchmarks.serve_hosts`.

Three hosts of their own addresses, a head without CPUs and two that serve: a gateway and a replica on each, deployed by
`serve deploy`. From outside, requests arrive at both gateways in turn; what one does not answer is asked of the other,
once, as a balancer does. Then, `--times` each: a replica, a gateway, the process that keeps the models, or Ray's proxy
is killed; a machine is killed and comes back, and then the other one; a cable is cut, and nobody is told. Needs root
and `tests/`. Prints a table, and ends with 1 where a figure is beyond its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import Figure, conclude
from benchmarks.serving import Clients, Window, command_line, enter, loaded, progress
from ray_trash.config.yaml import from_yaml
from tests.e2e.hosts import Host, cluster_of, hosts, join, missing

CONFIG = Path(__file__).parents[1] / "configs" / "serve-deploy.yaml"
SERVE = Path(sys.executable).parent / "serve"
PORT = 8000
PROXY = "ProxyActor"
LONGEST_GAP_S, LONGEST_GAP_OF_A_CUT_S, BACK_S = 10.0, 20.0, 30.0
NOTICED_S = 45.0
"""How long a machine stays away."""
DEPLOYS = 5
"""How often it is tried: Ray has a deadline for its proxies that a busy machine misses."""
ENVIRONMENT = {
    "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "3",
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "ray_trash.serve.proxy:middlewares",
}
"""With which `docs/endpoint.md` has Ray started on every machine."""
CALM_S = 5.0
"""Between two disturbances."""
FULL_TIMEOUT_S = 300.0
TRY_TIMEOUT_S = 40.0
"""Longer than `serve.timeout_s`: whoever waits for a gateway hears from it."""


def main() -> None:
    """Disturb, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2, help="each disturbance (2)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--requests-per-s", type=float, default=5.0)
    parser.add_argument("--cpus", type=int, default=2, help="of each machine that serves (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=Path, help="folder into which the logs of all machines are copied")
    options = parser.parse_args()
    if lack := missing():
        sys.exit(f"error: {lack}")
    os.environ.update(ENVIRONMENT)
    figures = list[Figure]()
    with (
        tempfile.TemporaryDirectory() as folder,
        photos_of(None, 1) as (photo,),
        hosts(4) as (head, *serving, outside),
        copied_logs([head, *serving], options.logs),
        cluster_of([head, *serving], cpus=options.cpus),
    ):
        write_random_checkpoint(Path(folder) / "checkpoint", size_px=64)
        scene = Scene(head, serving, outside, options.cpus)
        scene.deploy(Path(folder))
        progress(f"full strength after {scene.seconds_until_full():.0f} s")
        urls = [f"http://{host.address}:{PORT}" for host in serving]
        asking = Clients(
            urls,
            photo.read_bytes(),
            requests_per_s=options.requests_per_s,
            try_timeout_s=TRY_TIMEOUT_S,
            namespace=Path("/run/netns") / outside.namespace,
        )
        draw = random.Random(options.seed)
        with asking as clients:
            for kind in options.only:
                for number in range(1, options.times + 1):
                    scene.settle()
                    began_s = time.monotonic()
                    back = KINDS[kind](scene, draw)
                    time.sleep(CALM_S)
                    figures += figures_of(f"{kind}, {number}", clients.since(began_s), back, is_cut=kind == "cut")
    conclude(figures)


def figures_of(what: str, asked: Window, seconds_until_full: list[float], *, is_cut: bool) -> list[Figure]:
    """Hold what a disturbance cost against the limits."""
    found = [
        Figure(f"{what}: lost of {len(asked.asked)}", asked.lost, "requests", 0),
        Figure(
            f"{what}: longest gap",
            asked.longest_gap_s,
            "s",
            LONGEST_GAP_OF_A_CUT_S if is_cut else LONGEST_GAP_S,
        ),
        Figure(f"{what}: slowest answer", asked.percentile_ms(100) / 1000, "s"),
        *(Figure(f"{what}: until full strength", seconds, "s", BACK_S) for seconds in seconds_until_full),
    ]
    for figure in found:
        progress(", ".join(filter(None, figure.cells())))
    progress(f"{asked.statuses}")
    return found


class Scene:
    """Two machines that serve, and whoever disturbs them."""

    def __init__(self, head: Host, serving: list[Host], outside: Host, cpus: int) -> None:
        """Take machines on which Ray runs, and one from which is asked."""
        self._head, self.serving, self._cpus = head, serving, cpus
        namespace = Path("/run/netns") / outside.namespace
        self._outside = ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,))

    def deploy(self, folder: Path) -> None:
        """Deploy the endpoint as its file says, for two machines."""
        tree = from_yaml(CONFIG.read_text(), str(CONFIG))
        tree["http_options"]["host"] = "0.0.0.0"
        (application,) = tree["applications"]
        application["args"]["replicas"] = len(self.serving)
        application["deployments"][0]["user_config"]["checkpoint"] = str(folder / "checkpoint")
        config = folder / "serve.yaml"
        config.write_text(json.dumps(tree))
        for _ in range(DEPLOYS):
            done = self._head.run(SERVE, "deploy", config)
            if done.returncode == 0:
                return
            progress(f"serve deploy: {done.stderr.strip().splitlines()[-1]}")
        sys.exit(f"serve deploy: {done.stdout}{done.stderr}")

    def kill_one(self, name: str, draw: random.Random) -> list[float]:
        """Kill one process of a deployment, and wait until there is another."""
        found = [(host, pid) for host in self.serving for pid in named(host, name)]
        if not found:
            sys.exit(f"no machine has a {name}")
        host, pid = draw.choice(found)
        progress(f"kill {command_line(pid)} on {host.name}")
        os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        return [1 + self.seconds_until_full()]

    def seconds_until_full(self) -> float:
        """Wait until each machine has a replica and a gateway that answers, and one of them what keeps the models."""
        return seconds_until(
            lambda: (
                any(loaded(host.pids(), "Models") for host in self.serving) and all(map(self._is_full, self.serving))
            )
        )

    def _is_full(self, host: Host) -> bool:
        if not all(loaded(host.pids(), name) for name in ("Model", "Gateway")):
            return False
        return self._outside.submit(is_ready, f"http://{host.address}:{PORT}").result()

    def settle(self) -> None:
        """Wait until all replicas are of one generation: before that, a machine may have all that answer.

        Replicas that had to share a machine are renewed, which spreads them, once another is there.
        """
        if seconds_until(lambda: len(self._generations()) <= 1) == math.inf:
            sys.exit("replicas of several generations stay")
        time.sleep(CALM_S)

    def _generations(self) -> set[str]:
        return {command_line(pid).split(":")[-2] for host in self.serving for pid in loaded(host.pids(), "Model")}

    def replace(self, host: Host) -> list[float]:
        """Have a machine join again, and wait until it serves."""
        host.mend()
        join(self._head, [host], cpus=self._cpus)
        progress(f"{host.name} is back")
        return [self.seconds_until_full()]


def seconds_until(holds: Callable[[], bool]) -> float:
    """Wait until a condition holds; infinite where it does not within `FULL_TIMEOUT_S`."""
    began_s = time.monotonic()
    while not holds():
        if time.monotonic() - began_s > FULL_TIMEOUT_S:
            return math.inf
        time.sleep(0.5)
    return time.monotonic() - began_s


def named(host: Host, name: str) -> list[int]:
    """Return the processes of a deployment on a machine, or Ray's proxy there."""
    if name == PROXY:
        return [pid for pid in host.pids() if PROXY in command_line(pid)]
    return loaded(host.pids(), name)


def is_ready(url: str) -> bool:
    """Ask a gateway whether it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def kill_machines(scene: Scene, draw: random.Random) -> list[float]:
    """Kill a machine, have it come back, and kill the other."""
    back = []
    for host in draw.sample(scene.serving, 2):
        scene.settle()
        progress(f"kill all of {host.name}: {[command_line(pid) for pid in loaded(host.pids())]}")
        host.stop()
        time.sleep(NOTICED_S)
        back += scene.replace(host)
    return back


def cut_cable(scene: Scene, draw: random.Random) -> list[float]:
    """Cut a machine's cable, and have it come back."""
    host = draw.choice(scene.serving)
    progress(f"cut {host.name}: {[command_line(pid) for pid in loaded(host.pids())]}")
    host.cut()
    time.sleep(NOTICED_S)
    return scene.replace(host)


KINDS: dict[str, Callable[[Scene, random.Random], list[float]]] = {
    "replica": lambda scene, draw: scene.kill_one("Model", draw),
    "gateway": lambda scene, draw: scene.kill_one("Gateway", draw),
    "models": lambda scene, draw: scene.kill_one("Models", draw),
    "proxy": lambda scene, draw: scene.kill_one(PROXY, draw),
    "machines": kill_machines,
    "cut": cut_cable,
}


@contextlib.contextmanager
def copied_logs(machines: list[Host], to: Path | None) -> Iterator[None]:
    """Copy the logs of machines at the end, if somebody wants them."""
    try:
        yield
    finally:
        if to is not None:
            for host in machines:
                for logs in (host.folder.parent / host.name).glob("r/session_2*/logs"):
                    shutil.copytree(logs, to / host.name / logs.parent.name, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
