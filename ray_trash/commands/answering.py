"""What the commands that label photos do, and those of the endpoint."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from logging import ERROR, WARNING, getLogger
from typing import TYPE_CHECKING, Any

from ray_trash.commands import Ended
from ray_trash.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ray_trash.serve.client import Client
    from ray_trash.terminal.bar import Bar
    from ray_trash.terminal.say import Terminal


def score(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Label photos."""
    from ray_trash.terminal.text import counted

    summary = _score(options, terminal)
    if not summary["scored"]:
        count = counted(summary["n"], "input")
        raise DataError(f"none of {count} could be scored; the column error_message of {summary['out']} says why")
    return summary


def _score(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    given = {"column": options.column, "overwrite": options.overwrite, "terminal": terminal}
    if options.url is None:
        if options.api_key_file is not None:
            raise ConfigError("--api-key-file: has no effect without --url")
        checkpoint, *paths = options.paths
        if not paths:
            raise ConfigError(f"score {checkpoint}: no photos are named; give CHECKPOINT PATH..., or --url URL PATH...")
        from ray_trash.score.run import score_here

        here = {"workers": options.workers, "views": options.views, "wait": options.wait_for_workers_s}
        return score_here(checkpoint, paths, options.out, **here, **given)
    if options.workers is not None:
        raise ConfigError("--workers: has no effect with --url; the endpoint has replicas of its own")
    if options.views is not None:
        raise ConfigError("--views: has no effect with --url; the endpoint's serve.views says it")
    if options.wait_for_workers_s != "auto":
        raise ConfigError("--wait-for-workers-s: has no effect with --url; nothing is computed here")
    from ray_trash.score.run import score_there
    from ray_trash.serve.key import CLIENT_VARIABLE, read_key

    api_key = read_key(options.api_key_file, option="--api-key-file", variable=CLIENT_VARIABLE)
    return score_there(options.url, options.paths, options.out, api_key=api_key, **given)


def serve(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Serve a checkpoint until a signal ends it."""
    from ray_trash.config import parse_override, serve_config
    from ray_trash.serve.sockets import bind, is_open_to_others

    if options.checkpoint is None and options.watch is None:
        raise ConfigError("serve: name a checkpoint, or a run with --watch RUN")
    # Before anything is loaded: of two starts, one is told at once.
    taken = bind(options.host, options.port)

    from ray_trash.model.checkpoint import open_checkpoint
    from ray_trash.storage import Storage

    watched = None if options.watch is None else Storage.at(options.watch).child("checkpoint")
    checkpoint = open_checkpoint(options.checkpoint if watched is None or options.checkpoint else watched)
    changes = dict(parse_override(text) for text in options.set)
    if options.replicas is not None:
        changes["serve.replicas"] = options.replicas
    if options.shadow is None and "serve.shadow_share" in changes:
        raise ConfigError("serve.shadow_share: has no effect without --shadow")
    settings = serve_config(checkpoint.document.config, changes)

    from ray_trash.serve.log import start_log, tell

    start_log(settings.log_format)
    tell("loading", f"loading Ray, to serve {checkpoint.document.id}", model=checkpoint.document.id)
    import asyncio

    from ray_trash.cluster.connect import ray_session
    from ray_trash.serve.endpoint import run_endpoint
    from ray_trash.serve.key import keys_for

    with keys_for(settings, taken[0].getsockname()[1]) as keys:
        if keys.client is None and is_open_to_others(taken):
            tell(
                "open",
                f"whoever reaches {options.host} may ask for answers; set RAY_TRASH_API_KEY or serve.api_key_file to a "
                "key that clients must send",
                level=WARNING,
            )
        tell("starting", f"starting Ray, to serve {checkpoint.document.id}", model=checkpoint.document.id)
        if note := checkpoint.document.views_note(settings.views or checkpoint.document.views):
            tell("views", note, level=WARNING)
        # Whoever waits for an answer waits for the replica: it is 2 % faster where it need not step aside.
        with ray_session(dashboard=False, worker_niceness=0):
            running = run_endpoint(checkpoint, settings, taken, watched=watched, shadow=options.shadow, keys=keys)
            # All its bytes would stay here, through every exchange.
            del checkpoint
            asyncio.run(running)
    return {"stopped": True}


def roll_back(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Move an endpoint back to the model before."""
    with _operator("rollback", options) as client, _waiting(options.url, "load the model before", terminal):
        card = client.roll_back()
    terminal.say(f"answered by {card['id']} again")
    return card


def promote(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Let the model on trial answer at an endpoint."""
    with _operator("promote", options) as client, _waiting(options.url, "load the model on trial", terminal):
        card = client.promote()
    terminal.say(f"answered by {card['id']} now; `ray-trash rollback` goes back")
    return card


def _operator(command: str, options: argparse.Namespace) -> Client:
    from ray_trash.serve.client import Client
    from ray_trash.serve.key import OPERATOR_VARIABLE, find_operator_key, read_key

    key = read_key(options.operator_key_file, option="--operator-key-file", variable=OPERATOR_VARIABLE)
    key = key or find_operator_key(options.url)
    if key is None:
        raise ConfigError(
            f"{command} {options.url}: the operator's key is needed, and no endpoint of this user on this machine has "
            f"one there; name its file with --operator-key-file, or set {OPERATOR_VARIABLE}"
        )
    return Client(options.url, api_key=key)


def _waiting(url: str, for_what: str, terminal: Terminal) -> Bar:
    from ray_trash.terminal.bar import Bar

    return Bar(terminal, total=None, doing=f"waiting for {url} to {for_what} and move to it")


def deployment(options: argparse.Namespace, terminal: Terminal) -> Ended | dict[str, Any]:
    """Say what an application of a Serve config is doing, or take it away."""
    import ray

    if os.environ.get("RAY_ADDRESS", "") in ("", "local") and not ray.is_initialized():
        raise ConfigError(
            f"deployment {options.what}: of which cluster? On a machine of it set RAY_ADDRESS=auto; from elsewhere, "
            f"`ray-trash submit --address URL deployment {options.what}`"
        )
    from ray_trash.cluster.connect import ray_session
    from ray_trash.serve.deployment import look_at, take_down
    from ray_trash.terminal.text import counted

    getLogger("ray.serve").setLevel(ERROR)
    with ray_session(dashboard=False, terminal=terminal):
        if options.what == "down":
            take_down(options.name)
            terminal.say(f"{options.name}: taken away")
            return {"name": options.name, "down": True}
        found = look_at(options.name)
    by = f" by {found.model}" if found.model else ""
    processes = f"{counted(found.replicas, 'replica')}, {counted(found.gateways, 'gateway')}"
    terminal.say(f"{options.name}: {found.state}{by}, {processes}" + (f": {found.detail}" if found.detail else ""))
    return Ended({"name": options.name, **asdict(found)}, found.exit_code)
