"""The configuration: one frozen, typed tree, read from YAML and overrides. Knows neither ray nor torch.

A key that is unknown, out of range, or that the rest of the config leaves without effect is refused.
"""

from ray_trash.config.reading import (
    by_dotted_key,
    config_from_text,
    config_from_tree,
    effective_tree,
    load_config,
    override,
    parse_override,
    read_config_text,
    serve_config,
    to_json,
    to_yaml,
)
from ray_trash.config.section import Section
from ray_trash.config.serve import ServeConfig
from ray_trash.config.tree import (
    AugmentConfig,
    Config,
    ImageConfig,
    TrainConfig,
    known_keys,
    unmet_needs,
    why_no_batch_of_one,
    why_not_cached,
)
from ray_trash.config.tune import Dimension, TuneConfig
from ray_trash.config.yaml import config_with

__all__ = [
    "AugmentConfig",
    "Config",
    "Dimension",
    "ImageConfig",
    "Section",
    "ServeConfig",
    "TrainConfig",
    "TuneConfig",
    "by_dotted_key",
    "config_from_text",
    "config_from_tree",
    "config_with",
    "effective_tree",
    "known_keys",
    "load_config",
    "override",
    "parse_override",
    "read_config_text",
    "serve_config",
    "to_json",
    "to_yaml",
    "unmet_needs",
    "why_no_batch_of_one",
    "why_not_cached",
]
