"""The last part of a report: what a run took, what it is made of, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ray_trash.config import by_dotted_key
from ray_trash.dataset.catalog import SIDES
from ray_trash.report.material import CONFIG_FILE, Material


def record_part(found: Material) -> dict[str, Any]:
    """Time, versions, fingerprints, the config, and how to do it again."""
    run, document = found.run or {}, None if found.checkpoint is None else found.checkpoint.document
    seconds = [epoch["seconds"] for epoch in found.epochs if "seconds" in epoch]
    rates = [epoch["images_per_s"] for epoch in found.epochs if "images_per_s" in epoch]
    of_trials = [record.seconds for record in found.trials or ()]
    times = [
        ("status", run.get("status")),
        ("started", run.get("started_at")),
        ("ended", run.get("ended_at")),
        ("seconds, the latest start from its beginning to its end", run.get("seconds")),
        ("seconds in epochs", round(sum(seconds), 1) if seconds else None),
        ("photos a second in training, the mean over the epochs", round(sum(rates) / len(rates), 1) if rates else None),
        ("seconds in trials, all together", round(sum(of_trials), 1) if of_trials else None),
        ("scored on", _scored_on(found.evaluation)),
    ]
    evaluation, audit = found.evaluation or {}, found.audit or {}
    data = {} if document is None else document.data
    marks = [
        ("checkpoint", evaluation.get("checkpoint") or (document.id if document is not None else None)),
        ("photos that were audited", audit.get("fingerprint")),
        *((f"photos of {side}", audit.get("splits", {}).get(side, {}).get("fingerprint")) for side in SIDES),
        ("photos that were trained on, of all sides", data.get("fingerprint")),
        ("photos that were evaluated, of all sides", evaluation.get("dataset_fingerprint")),
    ]
    return {
        "times": [(what, value) for what, value in times if value is not None],
        "marks": [(what, value) for what, value in marks if value],
        "versions": run.get("versions") or ({} if document is None else document.versions),
        "config": [(key, value) for key, value in by_dotted_key(found.config).items()],
        "command": reproduce(found),
        "config_uri": "" if found.kind == "evaluation" or found.place.is_local else f"{found.place.uri}/{CONFIG_FILE}",
    }


def _scored_on(evaluation: Mapping[str, Any] | None) -> str | None:
    if evaluation is None or "scoring" not in evaluation:
        return None
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in evaluation["scoring"].items())


def reproduce(found: Material) -> str:
    """Return the one command that does it again."""
    if found.kind == "evaluation":
        evaluation = found.evaluation or {}
        words = [
            "evaluate",
            evaluation["checkpoint_path"],
            "--data",
            found.root or "DIR",
            "--split",
            evaluation["split"],
        ]
        return shlex.join(["ray-trash", *words, *(["--masks"] if "masked" in evaluation else []), "--out", "again"])
    action = "tune" if found.trials is not None and found.config.get("tune", {}).get("space") is None else "run"
    name = f"name={found.config.get('name', 'run')}-again"
    # A config is read from this machine only.
    config = f"{found.place.path}/{CONFIG_FILE}" if found.place.is_local else CONFIG_FILE
    return shlex.join(["ray-trash", action, config, "--set", name])
