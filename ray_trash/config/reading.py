"""Reading the tree: YAML files and `--set section.key=value` in, a valid `Config` or one line of complaint out.

Order: the defaults of the tree, then the file, then the overrides; nothing else. `load_config` is the one way
in and `override` the one way to change a config, for `--set` and for the trials of a sweep alike.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ray_trash.config.serve import ServeConfig
from ray_trash.config.tree import Config, known_keys, unmet_needs, word_keys
from ray_trash.config.yaml import from_yaml, render_yaml
from ray_trash.errors import ConfigError

RENAMED = {"evaluate.batch_size": "evaluate.forward_batch_photos", "serve.max_batch_size": "serve.forward_batch_photos"}
"""Keys by their earlier names: refused where a person writes them, understood where an older checkpoint holds them."""


def load_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a YAML or JSON config file and apply overrides, dotted key to value.

    Raises:
        ConfigError: The file cannot be read, or the result is not a valid config; every mistake is named.
    """
    return config_from_text(read_config_text(path), str(path), overrides)


def config_from_text(text: str, path: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read the text of a config file, as `load_config` does; `path` is for messages."""
    tree = from_yaml(text, path)
    if not isinstance(tree, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(tree), repr(tree)[:40])
        raise ConfigError(f"{path}: expected a mapping of sections such as data, model, train; found {found}")
    written = _with_words(by_dotted_key(tree), by_dotted_key(from_yaml(text, path, values="text")))
    overrides = overrides or {}
    _refuse_unknown_keys([*written, *overrides], path)
    config = _validate(_nest({**written, **overrides}), path)
    # A key of the file that only an override leaves without effect is no mistake of the file.
    try:
        alone = Config.model_validate(_nest(written))
    except ValidationError:
        alone = config
    _refuse_inert_keys(overrides, path, config)
    _refuse_inert_keys(written, path, config, alone)
    return config


def read_config_text(path: str | Path) -> str:
    """Read a config file in UTF-8 or UTF-16, with or without a mark in front, or raise `ConfigError`."""
    try:
        content = Path(path).read_bytes()
        # Named for JSON, but all it goes by is marks and zero bytes.
        return content.decode(json.detect_encoding(content))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text; save it as such"
        raise ConfigError(f"{path}: cannot read the config file: {reason}") from error


def override(config: Config, overrides: Mapping[str, Any]) -> Config:
    """Return the config with some dotted keys changed, validated again as a whole.

    Raises:
        ConfigError: A key is unknown, a value is refused, or an override has no effect.
    """
    _refuse_unknown_keys(overrides, "override")
    tree = by_dotted_key(config.model_dump(mode="json"))
    changed = _validate(_nest({**tree, **overrides}), "override")
    _refuse_inert_keys(overrides, "override", changed)
    return changed


def parse_override(text: str) -> tuple[str, Any]:
    """Split `section.key=value`; the value is YAML, so `1e-3`, `[64]`, `null` and `true` mean what they say.

    Where only words make sense, as in `name=2024-11-28`, they are taken as they are written.

    Raises:
        ConfigError: There is no `=`, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: expected section.key=value, such as train.epochs=3")
    key, where = key.strip(), f"--set {text!r}"
    typed, as_text = from_yaml(value, where), from_yaml(value, where, values="text")
    return key, _with_words({key: typed}, {key: as_text})[key]


def effective_tree(config: Config) -> dict[str, Any]:
    """Return the config as a nested dict of JSON values, without the keys that have no effect.

    `load_config` accepts what this returns and gives the same config back.
    """
    inert = unmet_needs(config)
    flat = by_dotted_key(config.model_dump(mode="json"))
    return _nest({key: value for key, value in flat.items() if key not in inert})


def config_from_tree(tree: Mapping[str, Any]) -> Config:
    """Rebuild a config from `effective_tree`, for instance the one stored in a checkpoint.

    Raises:
        ConfigError: The tree is not a valid config.
    """
    return _validate(_by_new_names(tree), "stored config")


def serve_config(stored: Mapping[str, Any], overrides: Mapping[str, Any]) -> ServeConfig:
    """Return the settings of an endpoint: those of the config in its checkpoint, with some dotted keys changed.

    Raises:
        ConfigError: A key is unknown, does not belong to serving, or is fixed in the checkpoint; or a value is refused.
    """
    _refuse_unknown_keys(overrides, "override")
    foreign = [key for key in overrides if not key.startswith("serve.")]
    if foreign:
        raise ConfigError(f"{', '.join(foreign)}: has no effect on a checkpoint; only keys of serve can be changed")
    if "serve.target_error" in overrides:
        raise ConfigError(
            "serve.target_error: the thresholds that keep it are in the checkpoint; set it in the config that trains"
        )
    # The other sections have no effect here, and need values only to make a tree.
    own = _by_new_names({"serve": dict(stored.get("serve", {}))})
    tree = {"name": "served", "data": {"root": "none"}, **own}
    return override(_validate(tree, "the checkpoint's config"), overrides).serve


def to_json(config: Config) -> str:
    """Render the resolved config as JSON text that `load_config` reads back."""
    return json.dumps(effective_tree(config), indent=2) + "\n"


def to_yaml(config: Config) -> str:
    """Render the resolved config as YAML text that `load_config` reads back."""
    return render_yaml(effective_tree(config))


def by_dotted_key(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what stands in a tree of settings by its dotted keys; an empty section holds nothing."""
    known = known_keys()
    sections = {key.rpartition(".")[0] for key in known} - {""}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and dotted not in known:
            flat.update(by_dotted_key(value, f"{dotted}."))
        elif value is None and dotted in sections:
            continue  # a section header with nothing under it
        else:
            flat[dotted] = value
    return flat


def _with_words(typed: Mapping[str, Any], as_text: Mapping[str, Any]) -> dict[str, Any]:
    words = word_keys()
    return {
        key: as_text.get(key, value) if key in words and value is not None else value for key, value in typed.items()
    }


def _by_new_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    return _nest({RENAMED.get(key, key): value for key, value in by_dotted_key(tree).items()})


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    return tree


def _refuse_unknown_keys(keys: Iterable[str], where: str) -> None:
    unknown = [key for key in keys if key not in known_keys()]
    if unknown:
        raise ConfigError(f"{where}: " + "; ".join(f"unknown key {key}, {_advice(key)}" for key in unknown))


def _advice(key: str) -> str:
    if key in RENAMED:
        return f"which is {RENAMED[key]} now"
    known = known_keys()
    below = [name for name in known if name.startswith(f"{key}.")]
    if below:
        return f"which is a section, with keys of its own such as {below[0]}"
    leaves = {name.rpartition(".")[2]: name for name in known}
    same_leaf = [leaves[leaf] for leaf in difflib.get_close_matches(key.rpartition(".")[2], list(leaves), n=1)]
    close = difflib.get_close_matches(key, known, n=1) or same_leaf or difflib.get_close_matches(key, known, 1, 0.0)
    return f"did you mean {close[0]}?"


def _validate(tree: dict[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        # A key that takes one of several types has a problem for each of them: one line, joined by "or".
        problems: dict[str, str] = {}
        for key, message in map(_describe, error.errors()):
            more = message.removeprefix("input should be ")
            problems[key] = f"{problems[key]} or {more}" if key in problems else message
        text = "; ".join(f"{key}{message}" for key, message in problems.items())
        raise ConfigError(f"{where}: {text}") from error


def _describe(problem: Any) -> tuple[str, str]:
    known = known_keys()
    parts = [str(part) for part in problem["loc"]]
    # Union branches add their own parts to the path; the key ends at the longest known prefix.
    key = next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in known), ".".join(parts))
    if key == "tune.space":
        key = ".".join(parts)  # the keys below it are the user's
    message = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "valid list, such as [a, b]")
    if problem["type"] == "missing":
        return key, f" is missing; set it in the file or with --set {key}=..."
    if problem["type"] == "string_type" and problem["input"] is None:
        return key, " is empty; write a word after it, in quotes where that is null"
    if problem["type"] == "value_error":
        return key, f".{message}" if key else message
    return f"{key}={problem['input']!r}: ", f"{message[0].lower()}{message[1:]}"


def _refuse_inert_keys(keys: Iterable[str], where: str, config: Config, *others: Config) -> None:
    # A key is allowed that has an effect in one of the others.
    unmet = unmet_needs(config)
    everywhere = set(unmet).intersection(*map(unmet_needs, others))
    inert = [f"{key} has no effect here, it needs {unmet[key]}" for key in keys if key in everywhere]
    if inert:
        raise ConfigError(f"{where}: " + "; ".join(inert))
