"""What the commands that train do, and those that look ahead at a training."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from ray_trash.commands.first_use import names_photos, run_photos
from ray_trash.errors import ConfigError

if TYPE_CHECKING:
    from ray_trash.config import Config
    from ray_trash.terminal.say import Terminal


def train(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Train once."""
    config = _load(options)
    from ray_trash.cluster.here import session_if
    from ray_trash.report.run import leave_report
    from ray_trash.train.photos import needs_ray
    from ray_trash.train.run import prepare_run, run_training

    prepared = prepare_run(config, **_start_of(options), terminal=terminal)
    with session_if(needs_ray(prepared), terminal=terminal):
        result = run_training(prepared, terminal=terminal)
    leave_report(result.run, terminal)
    terminal.say(f"best checkpoint {result.checkpoint.uri}")
    return {"run": result.run.uri, "checkpoint": result.checkpoint.uri, "best": dict(result.record)}


def tune(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Sweep."""
    config = _load(options)
    from ray_trash.cluster.connect import ray_session
    from ray_trash.report.run import leave_report
    from ray_trash.tune.sweep import prepare_sweep, run_sweep

    prepared = prepare_sweep(config, **_start_of(options), terminal=terminal)
    with ray_session(dashboard=_trials_have_workers(config), terminal=terminal):
        result = run_sweep(prepared, _source_of(options), terminal=terminal)
    leave_report(result.run, terminal)
    terminal.say(f"best checkpoint {result.checkpoint.uri}")
    return {
        "run": result.run.uri,
        "checkpoint": result.checkpoint.uri,
        "winner": {"trial": result.winner.trial, "params": dict(result.winner.params)},
        "verdict": dict(result.verdict),
        "trials": len(result.records),
    }


def run(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Catalogue, train or sweep, evaluate, and report."""
    if names_photos(options.config):
        return run_photos(options, terminal, **_start_of(options))
    if options.minutes is not None:
        raise ConfigError("--minutes: is for a folder of photos; a config has train.time_budget_min")
    config = _load(options)
    from ray_trash.cluster.here import session_if
    from ray_trash.run import run_all

    if config.tune.space is not None:
        from ray_trash.cluster.connect import ray_session
        from ray_trash.tune.sweep import prepare_sweep

        sweep = prepare_sweep(config, **_start_of(options), terminal=terminal)
        with ray_session(dashboard=_trials_have_workers(config), terminal=terminal):
            return run_all(sweep, _source_of(options), terminal=terminal)
    from ray_trash.train.photos import needs_ray
    from ray_trash.train.run import prepare_run

    prepared = prepare_run(config, **_start_of(options), terminal=terminal)
    with session_if(needs_ray(prepared), terminal=terminal):
        return run_all(prepared, _source_of(options), terminal=terminal)


def plan(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Say what a run or a sweep needs, and how long it takes."""
    config = _load(options)
    began = time.monotonic()
    from ray_trash.plan.room import find_room, inventory
    from ray_trash.terminal.plan_table import print_plan

    with inventory(terminal) as there_is:
        joined = time.monotonic()
        room = find_room(config, there_is)
        from ray_trash.plan.run import plan_run

        # What a cluster took to be joined is no loading.
        load_s = time.monotonic() - (joined if there_is.cluster else began)
        document = plan_run(config, room, load_s=load_s, terminal=terminal)
    print_plan(document, terminal)
    return document


def config(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any] | str:
    """Resolve a config, or describe what one may hold; to be printed."""
    from ray_trash.config import effective_tree, to_yaml
    from ray_trash.config.reference import config_schema, key_table, schema_text

    if (options.schema or options.keys) and (options.config or options.set or (options.schema and options.keys)):
        raise ConfigError("config: --schema and --keys describe what any config may hold; give one of them alone")
    if options.keys and options.json:
        raise ConfigError("config: --keys prints Markdown, no JSON object; leave out --json, or take --schema")
    if options.schema:
        return config_schema() if options.json else schema_text()
    if options.keys:
        return key_table()
    if options.config is None:
        raise ConfigError("config: name a config, or --schema, or --keys")
    config = _load(options)
    return effective_tree(config) if options.json else to_yaml(config)


def _load(options: argparse.Namespace) -> Config:
    from ray_trash.config import load_config, parse_override

    return load_config(options.config, dict(parse_override(text) for text in options.set))


def _start_of(options: argparse.Namespace) -> dict[str, bool]:
    return {"resume": options.resume, "overwrite": options.overwrite, "allow_changed_data": options.allow_changed_data}


def _trials_have_workers(config: Config) -> bool:
    # Ray Train then frees what an ended trial held by asking the dashboard.
    return config.train.workers not in ("auto", 0, 1)


def _source_of(options: argparse.Namespace) -> str:
    from ray_trash.config import config_with, parse_override, read_config_text

    text = read_config_text(options.config)
    return config_with(text, dict(parse_override(change) for change in options.set))
