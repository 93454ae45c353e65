"""The whole job: catalogue, train or sweep, evaluate on the kept-back photos, report, and say where everything is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ray_trash.evaluate.run import evaluate_checkpoint
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.report.run import leave_report
from ray_trash.terminal.evaluation_table import print_evaluation
from ray_trash.terminal.say import Terminal
from ray_trash.train.photos import PreparedRun
from ray_trash.train.run import TrainResult, run_training

if TYPE_CHECKING:
    from ray_trash.tune.sweep import PreparedSweep, SweepResult

RUN_FILES = (
    ("augmentation.png", "what training saw"),
    ("metrics.jsonl", "one line an epoch"),
    ("tensorboard", "curves: tensorboard --logdir"),
)
SWEEP_FILES = (
    ("trials.json", "all trials"),
    ("best_config.yaml", "the config with the winner's values"),
)


def run_all(prepared: PreparedRun | PreparedSweep, source: str, *, terminal: Terminal) -> dict[str, Any]:
    """Train, or search if that is what was prepared, and evaluate the best checkpoint.

    Needs a connection to Ray, unless `needs_ray` says otherwise. `source` is the text of the config file. Where the
    split keeps no photos back, as in a copy of TrashNet without its test part, validation is evaluated and named as
    such.
    """
    result: TrainResult | SweepResult
    if isinstance(prepared, PreparedRun):
        config, result = prepared.config, run_training(prepared, terminal=terminal)
    else:
        from ray_trash.tune.sweep import run_sweep  # Ray Tune takes seconds to load

        config, result = prepared.base.config, run_sweep(prepared, source, terminal=terminal)
    split: Literal["test", "val"] = "test" if result.n_test else "val"
    if split == "val":
        terminal.say("no photos are kept back for testing: evaluating on validation, which chose the checkpoint")
    document = evaluate_checkpoint(
        open_checkpoint(result.checkpoint),
        config.data.root,
        labels_uri=config.data.labels,
        split=split,
        out=result.run,
        with_masks=True,
        wait=config.train.wait_for_workers_s,
        terminal=terminal,
    )
    print_evaluation(document, terminal)
    leave_report(result.run, terminal)
    for name, what in (
        ("checkpoint", "the best checkpoint"),
        ("evaluation.json", "the evaluation"),
        ("predictions.parquet", "every prediction"),
        ("confusion_matrix.png", "the confusion matrix"),
        *(RUN_FILES if isinstance(result, TrainResult) else SWEEP_FILES),
        ("audit.json", "what is wrong with the photos"),
        ("audit.png", "the worst of it, to look at"),
    ):
        terminal.say(f"{what:>38}  {result.run.child(name).uri}")
    return {
        "run": result.run.uri,
        "checkpoint": result.checkpoint.uri,
        "best": dict(result.record if isinstance(result, TrainResult) else result.winner.metrics),
        "evaluation": document,
    }
