"""What is said of keys and codes is what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from ray_trash import errors
from ray_trash.cli import main
from ray_trash.config import known_keys
from ray_trash.config.reference import config_schema, key_table, schema_text
from ray_trash.config.yaml import from_yaml
from ray_trash.errors import RayTrashError, ReasonCode

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.name != "serve-deploy.yaml")


def test_the_shipped_schema_and_the_documented_keys_are_those_of_the_tree() -> None:
    # To mend: ray-trash config --schema > configs/schema.json, ray-trash config --keys > docs/config.md.
    assert json.loads((ROOT / "configs" / "schema.json").read_text(encoding="utf-8")) == config_schema()
    assert (ROOT / "configs" / "schema.json").read_text(encoding="utf-8") == schema_text()
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == key_table()


def test_every_key_has_its_default_its_range_and_its_sentence() -> None:
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \| (.*) \|$", key_table(), re.M)}
    assert sorted(rows) == sorted(known_keys())
    assert not [key for key, (_, takes, meaning) in rows.items() if not meaning.endswith(".") or "value" in takes]
    assert rows["train.workers"][:2] == (
        '`"auto"`',
        "`auto` or whole number, at least 0 or list of: whole number, at least 1",
    )
    assert rows["image.size_px"][:2] == ("`224`", "whole number, at least 32 and at most 1024")
    assert rows["train.momentum"][2].endswith("Needs train.optimizer=sgd.")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_names_the_schema_and_is_as_it_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    (schema,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", text, re.M)
    tree = from_yaml(text, path.name)
    found = json.loads((path.parent / schema).read_text(encoding="utf-8"))
    jsonschema.validate(tree, found)
    for spoilt in ({**tree, "trian": {}}, {**tree, "image": {"size_px": 7}}, {**tree, "train": {"optimizer": "sdg"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, found)


def test_the_command_prints_both_and_wants_to_know_what_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config_schema()
    assert main(["config", "--keys"]) == 0
    assert capsys.readouterr().out.rstrip() == key_table().rstrip()
    for arguments, complaint in (
        ([], "name a config"),
        (["--schema", "--keys"], "give one of them alone"),
        (["--schema", "--set", "seed=1"], "give one of them alone"),
        (["--keys", "--json"], "leave out --json"),
    ):
        assert main(["config", *arguments]) == 2
        assert complaint in capsys.readouterr().err


def test_every_reason_code_and_every_exit_code_is_explained() -> None:
    text = (ROOT / "docs" / "codes.md").read_text(encoding="utf-8")
    reasons = text.partition("## Reason codes")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", reasons, re.M)) == set(get_args(ReasonCode))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RayTrashError)]
    assert {int(code) for code in re.findall(r"^\| (\d) \|", text, re.M)} == {0, *(kind.exit_code for kind in kinds)}


def test_every_error_code_over_http_is_explained() -> None:
    text = (ROOT / "docs" / "codes.md").read_text(encoding="utf-8")
    section = text.partition("## Error codes over HTTP")[2].partition("\n## ")[0]
    explained = {code for row in re.findall(r"^\| (`[^|]*`) \|", section, re.M) for code in re.findall(r"`(\w+)`", row)}
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "ray_trash" / "serve").glob("*.py"))
    said = set(re.findall(r'(?:ServeError\(\d+, |come_again\()"(\w+)"', source))
    assert explained == said - {"hung_up"}  # to whom nobody listens any more
