"""Configs of sweeps."""

from __future__ import annotations

from typing import Any

from ray_trash.config import Config, config_from_tree


def config_with(space: dict[str, Any] | None = None, **tree: Any) -> Config:
    tune = {**tree.pop("tune", {}), **({"space": space} if space is not None else {})}
    return config_from_tree({"name": "a", "data": {"root": "photos"}, "tune": tune, **tree})
