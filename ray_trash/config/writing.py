"""Changing a config file's text, so that what changed is all that differs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap


def config_with(text: str, changes: Mapping[str, Any]) -> str:
    """Return the text of a config file with some keys changed or added; comments and order stay.

    Args:
        text: YAML or JSON that `load_config` accepts.
        changes: Dotted key to value.
    """
    yaml = YAML()
    yaml.width = 4096  # long lines stay as they are
    yaml.preserve_quotes = True
    tree = yaml.load(text)
    for key, value in changes.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            if node.get(section) is None:
                node[section] = CommentedMap()
            node = node[section]
        node[leaf] = value
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
