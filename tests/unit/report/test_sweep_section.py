"""The part of a report about a sweep shows every trial, and does nothing that a name in it asks for."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache

import pytest

from ray_trash.config.tune import Dimension
from ray_trash.report.sweep import sweep_section
from ray_trash.terminal.page import page_templates
from ray_trash.tune.charts import parallel_coordinates, shown, shown_score
from ray_trash.tune.trials import Status, TrialRecord, ranked
from tests.unit.report.parsed import Page

SPACE = {
    "model.dropout": Dimension(uniform=(0.0, 0.5)),
    "optim.learning_rate": Dimension(loguniform=(1e-5, 1e-2)),
    "data.augment": Dimension(choice=("none", "light")),
    "model.frozen_stages": Dimension(int=(0, 4)),
}
HOSTILE = "</title><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"


def record(trial: int, value: float | None, status: Status = "done", **changes) -> TrialRecord:
    params = {
        "model.dropout": trial % 5 / 10,
        "optim.learning_rate": 10.0 ** -(2 + trial % 4),
        "data.augment": ("none", "light")[trial % 2],
        "model.frozen_stages": trial % 5,
    }
    curve = () if value is None else (value - 0.2, value, value - 0.01)
    best_epoch = None if value is None else 2
    made = TrialRecord(
        trial, params, f"trials/{trial}", len(curve), best_epoch, value, {}, 61.4, status, "all epochs trained", curve
    )
    return replace(made, **changes)


def sweep() -> list[TrialRecord]:
    done = [record(trial, 0.8 + trial % 7 / 100) for trial in range(8)]
    return [*done, record(8, 0.6, "pruned", stop_reason="among the worse at epoch 3"), record(9, None, "failed")]


def page_of(records, space=None, *, lines=(), higher_is_better=True, metric="val_accuracy") -> Page:
    space = SPACE if space is None else space
    part = sweep_section(records, space, metric=metric, higher_is_better=higher_is_better, lines=list(lines))
    templates = page_templates("ray_trash.report")
    templates.filters.update(shown=shown, score=shown_score)
    templates.tests["finite"] = math.isfinite
    return Page(templates.get_template("sweep.html.j2").render(sweep=part).encode())


@cache
def whole_page() -> Page:
    return page_of(sweep(), lines=["10 trials in an hour", "verdict: trial 6 is better"])


def test_charts_take_the_colours_of_their_page():
    page = whole_page()
    assert "currentColor" in page.source[page.source.index("<svg") :]
    assert not re.findall("#000000|#ffffff", page.source)


def test_the_same_trials_give_the_same_page():
    assert page_of(sweep()[:3]).source == page_of(sweep()[:3]).source


def test_the_lines_come_first():
    page = whole_page()
    assert page.text.index("10 trials in an hour") < page.text.index("verdict: trial 6") < page.text.index("Trials")


def test_every_trial_is_in_the_table_the_best_first_and_those_without_a_value_last():
    header, *rows = whole_page().rows
    assert header[0] == "trial"
    assert set(SPACE) < set(header)
    assert [int(row[0].split()[0]) for row in rows] == [6, 5, 4, 3, 2, 1, 0, 7, 8, 9]
    assert rows[0][0] == "6 best"
    assert rows[6][0] == "0 as written"
    assert rows[0][1:] == ["0.1", "0.0001", "none", "1", "3", "2", "0.8600", "61", "done", "all epochs trained"]
    assert rows[-2][-2:] == ["pruned", "among the worse at epoch 3"]
    assert rows[-1][6:8] == ["-", "-"]


def test_where_lower_is_better_the_lowest_is_the_best():
    page = page_of(sweep(), higher_is_better=False, metric="val_loss")
    assert page.rows[1][0] == "8 best"
    assert "lower is better" in page.text


def test_each_trial_with_a_value_is_a_line_in_both_charts_and_best_epochs_and_pruned_ones_are_marked():
    page = whole_page()
    assert page.of_class("trial") == 2 * 9
    assert page.named("best-epoch-") == 9
    assert page.named("pruned-") == page.named("pruned-8") == 1
    assert "Left out: 1 trial that failed or has no value." in page.text
    assert "trial 8, pruned: val_accuracy 0.6000; model.dropout 0.3;" in page.text


def heights(records, space) -> list[list[float]]:
    """Where the lines of the first chart cross each axis, from the bottom, by trial."""
    svg = parallel_coordinates(ranked(records, higher_is_better=True), space, metric="m")
    lines = {
        int(trial): [-float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)]
        for trial, path in re.findall(r"<title>trial (\d+),.*?<path d=\"([^\"]*)\"", svg, re.DOTALL)
    }
    return [lines[record.trial] for record in records]


def test_a_logarithmic_axis_has_its_middle_at_the_geometric_mean():
    space = {"rate": Dimension(loguniform=(1e-4, 1e-2)), "share": Dimension(uniform=(0, 1))}
    values = [(1e-4, 0.0), (1e-3, 0.5), (1e-2, 1.0)]
    records = [
        record(trial, 0.5 + trial / 10, curve=(), params={"rate": rate, "share": share})
        for trial, (rate, share) in enumerate(values)
    ]
    for low, middle, high in zip(*heights(records, space), strict=True):
        assert low < middle < high
        assert middle == pytest.approx((low + high) / 2, abs=0.1)
    assert ">0.001</text>" in page_of(records, space).source


@pytest.mark.parametrize(
    ("dimension", "as_written", "label"),
    [
        (Dimension(loguniform=(1e-5, 1e-2)), 0.0, "0"),
        (Dimension(loguniform=(1e-5, 1e-2)), 0.5, "0.5"),
        (Dimension(uniform=(0.1, 0.5)), None, "null"),
        (Dimension(choice=("none", "light")), "medium", "medium"),
        (Dimension(choice=(True, [1, 2])), {"a": 1}, '{"a": 1}'),
    ],
)
def test_a_config_as_written_outside_the_space_has_a_place_of_its_own(dimension, as_written, label):
    inside = (dimension.choice or dimension.uniform or dimension.loguniform)[0]
    params = [as_written, inside]
    records = [record(trial, 0.5 + trial / 10, curve=(), params={"key": params[trial]}) for trial in range(2)]
    (written, _), (other, _) = heights(records, {"key": dimension})
    assert other - written > 20
    assert f">{label}</text>" in page_of(records, {"key": dimension}).source


def test_ten_trials_say_what_mattered_and_five_are_too_few():
    page = whole_page()
    assert "A rough estimate" in page.text
    assert page.text.count(" %") == len(SPACE)
    assert "too few to say which key matters" in page_of(sweep()[:5]).text
    alike = [record(trial, 0.9) for trial in range(8)]
    assert "No key is seen to matter" in page_of(alike).text


def test_hostile_names_stay_text():
    space = {HOSTILE: Dimension(choice=(HOSTILE, "b")), "numbers": Dimension(uniform=(0.0, 1.0))}
    records = [
        record(trial, 0.8 + trial / 100, stop_reason=HOSTILE, params={HOSTILE: HOSTILE, "numbers": HOSTILE})
        for trial in range(7)
    ]
    page = page_of(records, space, metric=HOSTILE, lines=[HOSTILE])
    assert not {"script", "img"} & {tag for tag, _ in page.seen}
    assert not [name for _, attributes in page.seen for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 10


def test_a_dollar_in_a_name_is_a_dollar_and_what_no_font_has_is_no_warning(recwarn):
    space = {"key": Dimension(choice=("$x_1$", "木"))}
    records = [record(trial, 0.8 + trial / 10, params={"key": "$x_1$"}) for trial in range(2)]
    assert page_of(records, space).source.count(">$x_1$</text>") == 1
    assert not list(recwarn)


def test_characters_that_no_file_can_hold_do_not_stop_the_page():
    params = {"key": "a\ud800\x00b\nc"}
    page = page_of([record(0, 0.5, params=params)], {"key": Dimension(choice=("x",))})
    assert "a??b?c" in page.text


def test_a_sweep_of_one_trial_is_a_page():
    page = page_of([record(0, 0.9, curve=(0.9,), epochs_run=1, best_epoch=1)])
    assert page.rows[1][0] == "0 best as written"
    assert "0 best, as written" in page.text
    assert page.named("best-epoch-") == 1


@pytest.mark.parametrize("n_trials", [0, 3])
def test_a_sweep_without_any_value_is_a_page(n_trials):
    page = page_of([record(trial, None, "failed") for trial in range(n_trials)])
    assert len(page.rows) == 1 + n_trials
    assert page.count("svg") == 0
    assert "nothing to draw" in page.text


def test_trials_that_kept_no_curve_are_still_in_the_other_chart():
    page = page_of([record(trial, 0.9, curve=()) for trial in range(2)])
    assert "No trial has a curve." in page.text
    assert page.of_class("trial") == 2


def test_a_key_with_one_single_value_and_scores_that_are_all_alike_are_drawn():
    records = [record(trial, 0.9, params={"key": "only"}) for trial in range(3)]
    lines = heights(records, {"key": Dimension(choice=("only",))})
    assert lines == [lines[0]] * 3
    assert len(lines[0]) == 2


def test_values_that_are_no_numbers_are_left_out_of_every_drawing():
    records = [
        record(0, 0.9, curve=(math.nan, 0.8, 0.9, math.inf), best_epoch=3),
        record(1, math.nan, curve=(math.nan,), seconds=math.nan),
        record(2, math.inf, curve=(math.inf,)),
        record(3, 0.7, curve=(math.nan,)),
    ]
    page = page_of(records)
    assert not re.search(r"\b(nan|inf)\b", page.source, re.IGNORECASE)
    assert [int(row[0].split()[0]) for row in page.rows[1:]] == [0, 3, 1, 2]
    assert "Left out: 2 trials that failed or have no value." in page.text


def test_an_axis_of_very_many_choices_has_labels_that_do_not_overlap():
    space = {"key": Dimension(choice=tuple(range(500)))}
    page = page_of([record(0, 0.8, params={"key": 7})], space)
    assert page.count("text") < 30
