"""A sweep as one page to look at: trials in, HTML out.

The page stands alone: style and drawings are in it, it loads nothing and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ray_trash.config.tune import Dimension
from ray_trash.tune.charts import (
    colour_key,
    escaped,
    importance_bars,
    learning_curves,
    parallel_coordinates,
    shown,
    shown_score,
)
from ray_trash.tune.importance import MIN_TRIALS, importances
from ray_trash.tune.trials import TrialRecord, ranked

PAGE_FILE = "sweep.html"

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c1e21; --soft: #6a7078; --line: #cfd4da; --mark: #fff1e6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --text: #e6e8eb; --soft: #9aa1aa; --line: #3c424a; --mark: #3a2716; }
}
body { margin: 0 auto; padding: 1rem; max-width: 75rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; }
.note { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { white-space: nowrap; font-weight: 600; }
td.number { text-align: right; white-space: nowrap; }
td.value { max-width: 16rem; overflow-wrap: anywhere; }
td.words { min-width: 12rem; max-width: 24rem; overflow-wrap: anywhere; }
tr.best > * { background: var(--mark); }
tr.failed > * { color: var(--soft); }
.badge { border: 1px solid currentColor; border-radius: .6rem; padding: 0 .4rem; font-size: .75rem; font-weight: 400; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--text); paint-order: stroke; stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round; }
svg text:not(.name) { pointer-events: none; }
svg .name { font-weight: 600; }
svg .axis { fill: none; stroke: var(--soft); }
svg .bar { fill: #4c78a8; }
svg .trial { fill: none; stroke-width: 1.6; opacity: .8; }
svg .trial.best { stroke-width: 3.2; opacity: 1; }
svg .trial.pruned { stroke-dasharray: 5 4; }
svg .trial:hover { stroke-width: 4.5; opacity: 1; }
svg .cross { fill: none; stroke-width: 2; }
"""


def sweep_page(
    title: str,
    records: Sequence[TrialRecord],
    space: Mapping[str, Dimension],
    *,
    metric: str,
    higher_is_better: bool,
    lines: Sequence[str],
) -> bytes:
    """Render the page of a sweep.

    Args:
        title: Of the page.
        records: All trials, in any order.
        space: The searched keys, which every record has in its params.
        metric: Name of the metric that trials were judged by.
        higher_is_better: Whether a higher value of it is better.
        lines: Sentences for the top: the summary and the verdict.

    Returns:
        An HTML file in UTF-8.
    """
    # A value that is no number cannot be ranked or drawn: the trial then has none.
    trials = [replace(record, best_value=_finite(record.best_value)) for record in records]
    scored = ranked(trials, higher_is_better=higher_is_better)
    best = scored[0].trial if scored else None
    with_score = {record.trial for record in scored}
    rest = sorted((record for record in trials if record.trial not in with_score), key=lambda record: record.trial)
    parts = [
        f"<h1>{escaped(title)}</h1>",
        *(f"<p>{escaped(line)}</p>" for line in lines),
        f"<h2>Trials</h2>{_note(f'The best {metric} first; {_direction(higher_is_better)}.')}",
        _table([*scored, *rest], space, metric, best),
        *_charts(scored, len(rest), space, metric, higher_is_better),
        "<h2>What mattered</h2>",
        *_importance(importances(trials, space)),
    ]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Holds even if a hostile name should find a way through the escaping.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    return (head + "\n".join(parts) + "\n</body>\n</html>\n").encode()


def _table(records: Sequence[TrialRecord], space: Mapping[str, Dimension], metric: str, best: int | None) -> str:
    names = ["trial", *space, "epochs", "best epoch", f"best {metric}", "seconds", "status", "why it stopped"]
    header = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    rows = "\n".join(_row(record, space, is_best=record.trial == best) for record in records)
    return f'<div class="wide"><table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'


def _row(record: TrialRecord, space: Mapping[str, Dimension], *, is_best: bool) -> str:
    badges = [name for name, given in (("best", is_best), ("as written", record.trial == 0)) if given]
    number = " ".join([str(record.trial), *(f'<span class="badge">{badge}</span>' for badge in badges)])
    params = "".join(f'<td class="value">{escaped(shown(record.params[key]))}</td>' for key in space)
    numbers = [
        str(record.epochs_run),
        "-" if record.best_epoch is None else str(record.best_epoch),
        "-" if record.best_value is None else shown_score(record.best_value),
        f"{record.seconds:,.0f}" if math.isfinite(record.seconds) else "-",
    ]
    cells = "".join(f'<td class="number">{cell}</td>' for cell in numbers)
    words = f'<td>{escaped(record.status)}</td><td class="words">{escaped(record.stop_reason)}</td>'
    kind = " ".join(name for name, given in (("best", is_best), ("failed", record.status == "failed")) if given)
    return f'<tr class="{kind}"><th scope="row">{number}</th>{params}{cells}{words}</tr>'


def _charts(
    scored: Sequence[TrialRecord], n_left_out: int, space: Mapping[str, Dimension], metric: str, higher_is_better: bool
) -> list[str]:
    if not scored:
        return ["<h2>Values and curves</h2>", "<p>No trial has a value, so there is nothing to draw.</p>"]
    marks = "Dashed lines are pruned trials, the thick one is the best."
    if n_left_out:
        plural = "trial that failed or has" if n_left_out == 1 else "trials that failed or have"
        marks += f" Left out: {n_left_out} {plural} no value."
    curves = learning_curves(scored, metric=metric)
    return [
        f"<h2>Values that were tried, and the {escaped(metric)} they gave</h2>",
        _note(f"{marks} On {metric}, {_direction(higher_is_better)}."),
        _wide(colour_key(scored)),
        _wide(parallel_coordinates(scored, space, metric=metric)),
        f"<h2>{escaped(metric)} over the epochs</h2>",
        _note(f"{marks} A dot is a trial's best epoch, a cross is where it was pruned."),
        _wide(curves) if curves else "<p>No trial has a curve.</p>",
    ]


def _importance(shares: Mapping[str, float]) -> list[str]:
    if not shares:
        return [f"<p>Fewer than {MIN_TRIALS} trials have a value: too few to say which key matters.</p>"]
    if not any(shares.values()):
        return ["<p>No key is seen to matter: the values differ too little, or not with any key.</p>"]
    note = "A rough estimate from few trials, by a random forest: trust the order more than the shares."
    return [_note(note), _wide(importance_bars(shares))]


def _direction(higher_is_better: bool) -> str:
    return "higher is better" if higher_is_better else "lower is better"


def _note(text: str) -> str:
    return f'<p class="note">{escaped(text)}</p>'


def _wide(content: str) -> str:
    return f'<div class="wide">{content}</div>'


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
