"""What `run` does with a folder of photos in place of a config: it chooses the settings, says them, and trains."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray_trash.config import Config
    from ray_trash.terminal.say import Terminal


def names_photos(text: str) -> bool:
    """Say whether an argument of `run` names photos in place of a config file."""
    if text.endswith((".yaml", ".yml", ".json")):
        return False
    return "://" in text or text.endswith(".parquet") or Path(text).is_dir()


def run_photos(
    options: argparse.Namespace, terminal: Terminal, *, resume: bool, overwrite: bool, allow_changed_data: bool
) -> dict[str, Any]:
    """Choose, train once, evaluate, and report; a run that goes on has the settings it was begun with."""
    began = time.monotonic()
    from ray_trash.cluster.here import session_if
    from ray_trash.config import config_from_text, parse_override
    from ray_trash.plan.choose import run_name
    from ray_trash.run import run_all
    from ray_trash.storage import Storage
    from ray_trash.train.photos import needs_ray
    from ray_trash.train.run import prepare_run
    from ray_trash.train.run_directory import CONFIG_YAML

    overrides = dict(parse_override(text) for text in options.set)
    name, storage = overrides.get("name", run_name(options.config)), overrides.get("storage", "runs")
    run = Storage.at(storage).child(name)
    if resume and run.exists(CONFIG_YAML):
        text = run.read_bytes(CONFIG_YAML).decode()
        config = config_from_text(text, f"{run.uri}/{CONFIG_YAML}", overrides)
    else:
        config, text = _chosen(options, overrides, terminal, began)
    prepared = prepare_run(
        config, resume=resume, overwrite=overwrite, terminal=terminal, allow_changed_data=allow_changed_data
    )
    prepared = replace(prepared, written=text)
    with session_if(needs_ray(prepared), terminal=terminal):
        return run_all(prepared, text, terminal=terminal)


def _chosen(
    options: argparse.Namespace, overrides: Mapping[str, Any], terminal: Terminal, began: float
) -> tuple[Config, str]:
    from ray_trash.dataset.listing import list_photos, require_two_classes
    from ray_trash.model.imagenet import has_imagenet_file
    from ray_trash.plan.choose import choose
    from ray_trash.plan.room import find_room, inventory
    from ray_trash.plan.run import plan_run

    load_s = time.monotonic() - began
    listing = list_photos(options.config, labels_uri=overrides.get("data.labels"), terminal=terminal)
    require_two_classes(listing)
    with inventory() as there_is:
        chosen = choose(
            options.config,
            listing,
            there_is,
            has_weights=has_imagenet_file(),
            overrides=overrides,
            minutes=options.minutes,
            estimated=lambda config: plan_run(config, find_room(config, there_is), load_s=load_s, terminal=terminal),
        )
    for line in chosen.lines():
        terminal.say(line)
    return chosen.config, chosen.text
