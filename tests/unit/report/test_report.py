"""A report has what the files say, loads nothing, and goes on without what is gone."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ray_trash.cli import main
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.document import FloatNetwork
from ray_trash.report.material import read_material
from ray_trash.report.opening import opening_sentence
from ray_trash.report.page import PARTS as NAMED_PARTS
from ray_trash.report.run import leave_report, write_report
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import percent, percents
from tests.photos import make_photos
from tests.unit.report.folders import CLASSES, PER_CLASS, catalog_at, make_run, write_evaluation
from tests.unit.report.parsed import Page

PARTS = [name for name, _ in NAMED_PARTS]
LARGEST_BYTES = 5_000_000
HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;{{ 7 * 7 }}"


@pytest.fixture(scope="module", autouse=True)
def no_clock() -> Iterator[None]:
    """Give maps and slices all the time they want: how long this machine takes is nothing to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_trash.report.pictures.MAPS_S", 600.0)
        patch.setattr("ray_trash.report.slices.MEASURE_S", 600.0)
        yield


@pytest.fixture(scope="module")
def made(no_clock: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run with everything in it, and its report. Only to be read."""
    run = make_run(tmp_path_factory.mktemp("report"))
    write_report(Storage.at(run))
    return run


@pytest.fixture(scope="module")
def page(made: Path) -> Page:
    return page_of(made)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """Copy the run with its photos, to be changed."""
    folder = tmp_path / "copy"
    shutil.copytree(made.parents[1], folder)
    for name in ("runs/tiny/evaluation.json", "runs/tiny/config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(str(made.parents[1]), str(folder)))
    return folder / "runs" / "tiny"


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_bytes())


def reported(folder: Path, **options: Any) -> Page:
    write_report(Storage.at(folder), **options)
    return page_of(folder)


def document(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_the_page_needs_nothing_from_outside_and_runs_nothing(made: Path, page: Page) -> None:
    assert not {"script", "link", "image", "iframe", "object"} & {tag for tag, _ in page.seen}
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.values("src"))
    pointers = [*page.values("href"), *page.values("xlink:href"), *re.findall(r"url\(([^)]*)\)", page.source)]
    assert pointers
    assert all(pointer.startswith("#") for pointer in pointers)
    assert "http://" not in page.source
    assert "https://" not in page.source
    assert "default-src 'none'" in page.source
    assert (made / "report.html").stat().st_size < LARGEST_BYTES


def test_nothing_of_python_itself_stands_in_it(page: Page) -> None:
    assert not re.search(r"<built-in|object at 0x|\bUndefined\b", page.words)


def test_the_page_is_read_by_keyboard_aloud_on_a_phone_in_the_dark_and_on_paper(page: Page) -> None:
    assert "width=device-width" in page.source
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source
    assert ("html", {"lang": "en"}) in page.seen
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {pointer.removeprefix("#") for pointer in page.values("href")} <= set(ids)
    assert all("alt" in attributes for tag, attributes in page.seen if tag == "img")
    assert all("scope" in attributes for tag, attributes in page.seen if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in page.seen if tag == "svg")
    regions = [attributes for _, attributes in page.seen if attributes.get("role") == "region"]
    assert all(attributes.get("tabindex") == "0" and attributes.get("aria-label") for attributes in regions)
    headings = [int(tag[1]) for tag, _ in page.seen if tag in ("h1", "h2", "h3")]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_it_begins_with_one_sentence_that_says_how_good_it_is_and_what_it_is_not_good_at(
    made: Path, page: Page
) -> None:
    evaluation, opening = document(made, "evaluation.json"), page.words[page.words.index("ResNet50 (begun with") :]
    opening = opening[: opening.index("What is wrong")]
    assert f"is right on {evaluation['correct']}/{evaluation['n']} = {percent(evaluation['accuracy'])}" in opening
    assert percents(evaluation["accuracy_ci95"]) in opening
    recalls = {name: of_class["recall"] for name, of_class in evaluation["per_class"].items()}
    assert f"it is least good at {min(recalls, key=lambda name: recalls[name])}" in opening


def test_the_first_sentence_says_where_an_int8_network_answers(made: Path) -> None:
    found = read_material(Storage.at(made))
    assert found.checkpoint is not None
    document = found.checkpoint.document
    origin = FloatNetwork(id=document.id, calibration=document.calibration, golden=document.golden)
    quantized = dataclasses.replace(document, float_network=origin)
    rounded = dataclasses.replace(found, checkpoint=dataclasses.replace(found.checkpoint, document=quantized))
    assert "answering by int8) trained on" in opening_sentence(rounded)
    assert "int8" not in opening_sentence(found)


def test_photos_with_a_twin_in_training_are_counted_as_the_audit_does_and_left_out_of_a_second_figure(
    made: Path, page: Page
) -> None:
    audit, rows = document(made, "audit.json"), pq.read_table(made / "predictions.parquet").to_pylist()
    twins = {path for group in audit["splits"]["train"]["straddling_groups"] for path in group}
    others = [row["true_label"] == row["label"] for row in rows if row["path"] not in twins]
    assert len(rows) - len(others) == audit["splits"]["test"]["twins_in_train"] > 0
    assert f"what a training photo shows on {sum(others)}/{len(others)} = " in page.words


def test_every_figure_is_the_one_in_the_files(made: Path, page: Page) -> None:
    evaluation, audit = document(made, "evaluation.json"), document(made, "audit.json")
    header, *rows = page.table_below("Confusion matrix")
    assert header[1:] == list(evaluation["classes"])
    for row, counts in zip(rows, evaluation["confusion_matrix"], strict=True):
        shown = [f"{n} {percent(n / sum(counts))}" if n else "0" for n in counts]
        assert [cell.replace(" ", "") for cell in row[1:]] == [cell.replace(" ", "") for cell in shown]
    rows = page.table_below("Class by class")[1:]
    for row, (name, of_class) in zip(rows, evaluation["per_class"].items(), strict=True):
        recall, ends = percent(of_class["recall"]), percents(of_class["recall_ci95"])
        assert row[:2] == [name, str(of_class["n"])]
        assert row[3:] == [recall, ends, percent(of_class["precision"]), f"{of_class['f1']:.3f}"]
        assert float(row[2]) / of_class["n"] == of_class["recall"]
    thresholds = {row[0]: row[1] for row in page.table_below("Thresholds")[1:]}
    selective = evaluation["selective"]
    assert thresholds == {name: f"{value:.3f}" for name, value in selective["thresholds"].items()}
    assert f"It answers {selective['answered']} of {evaluation['n']} photos" in page.words
    assert f"= {percent(selective['error'])} are wrong" in page.words
    assert f"(ECE) {evaluation['ece']:.3f}, {evaluation['ece_uncalibrated']:.3f} without" in page.words
    assert f"macro-F1 {evaluation['macro_f1']:.3f}, loss {evaluation['loss']:.3f}" in page.words
    (probe,) = (row for row in page.table_below("Shortcuts") if row[0].startswith("the colours"))
    assert probe[1:4] == ["15/20", "75.0 %", "53.1 to 88.8 %"]
    hidden = {row[0]: row[1] for row in page.table_below("With parts of every photo hidden")[1:]}
    assert hidden["the border"] == f"{evaluation['masked']['border']['correct']}/{evaluation['n']}"
    counts = audit["counts"]
    assert f"{counts['seen']} files seen = {counts['accepted']} accepted + {counts['rejected']} rejected" in page.words
    findings = dict(page.table_below("Findings"))
    assert findings["groups of copies"] == str(len(audit["exact_duplicates"]))
    split = {row[0]: row[1:] for row in page.table_below("Photos of each class on each side")[1:]}
    for name in CLASSES:
        assert split[name][:3] == [str(audit["splits"][side]["per_class"][name]) for side in ("train", "val", "test")]
    best = dict(page.table_below("The best epoch"))
    assert (best["val_macro_f1"], best["val_correct"]) == ("0.8000", "12")
    assert audit["fingerprint"] in page.text
    assert "ray-trash run" in page.text


def test_its_own_figures_on_parts_of_the_photos_are_those_it_returns_and_add_up(made: Path) -> None:
    returned = write_report(Storage.at(made))
    rows = {row[0]: row[1] for row in page_of(made).table_below("Right answers on parts of the photos")[1:]}
    assert rows == {one["slice"]: f"{one['correct']}/{one['n']}" for one in returned["slices"]}
    by_name = {one["slice"]: one for one in returned["slices"]}
    evaluation = document(made, "evaluation.json")
    pair = by_name["shown by another photo too"], by_name["shown by no other"]
    assert sum(one["n"] for one in pair) == evaluation["n"]
    assert sum(one["correct"] for one in pair) == evaluation["correct"]


def test_wrong_answers_are_shown_with_what_it_looked_at_and_the_surest_first(page: Page, made: Path) -> None:
    rows = pq.read_table(made / "predictions.parquet").to_pylist()
    wrong = sorted((row for row in rows if row["true_label"] != row["label"]), key=lambda row: -row["confidence"])
    assert wrong
    told = page.source[page.source.index('id="answers"') :]
    places = [
        told.index(f"is {row['true_label']}; said {row['label']}, {percent(row['confidence'])}") for row in wrong[:3]
    ]
    assert places == sorted(places)
    assert page.source.count("where it speaks for the answer") == min(12, len(wrong))


def test_the_worst_of_the_audit_is_shown_and_a_long_sheet_is_cut(page: Page) -> None:
    told = page.source[page.source.index('id="audit"') : page.source.index('id="split"')]
    for title in ("The same photo under different labels", "The same shot on two sides", "Labels that are doubtful"):
        assert f"<h3>{title}" in told
    assert "labelled glass: looks like metal" in told
    assert "near empty" in told
    assert told.count("<img") >= 6
    assert "The first classes; augmentation.png has them all." in page.words


def test_photos_that_are_gone_or_are_others_by_now_are_said_to_be_and_the_rest_goes_on(run: Path) -> None:
    photos = run.parents[1] / "photos"
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    for row in rows[1:]:
        (photos / row["path"]).write_bytes((photos / rows[0]["path"]).read_bytes())
    changed = reported(run)
    assert "not there any more" in changed.text
    photos.rename(run.parents[1] / "moved")
    gone = reported(run)
    assert f"The photos are not at {photos}" in gone.words
    assert "Class by class" in gone.text
    assert gone.count("img") == 1  # what training saw is a file of the run
    back = reported(run, data=str(run.parents[1] / "moved"))
    assert back.count("img") > 1


def test_a_rate_that_was_looked_for_is_drawn_with_the_curves(page: Page, run: Path) -> None:
    assert "how the learning rate was found: a tenth of 0.001, at which the loss is lowest" in page.words
    (run / "learning_rate.json").unlink()
    assert "how the learning rate was found" not in reported(run).words


def test_a_run_without_evaluation_says_how_to_have_one_and_one_without_checkpoint_has_no_maps(run: Path) -> None:
    (run / "evaluation.json").unlink()
    (run / "predictions.parquet").unlink()
    trained = reported(run)
    assert "has reached 12/15 = 80.0 % right" in trained.words
    assert "ray-trash evaluate" in trained.words
    assert 'id="result"' not in trained.source
    assert 'id="curves"' in trained.source
    shutil.rmtree(run / "checkpoint")
    assert "The checkpoint is not there" in reported(run).words
    for name in ("metrics.jsonl", "audit.json", "augmentation.png", "config.json"):
        (run / name).unlink()
    bare = reported(run)
    assert "has not finished an epoch" in bare.words
    assert "no map" in bare.words
    assert [name for name in PARTS if f'id="{name}"' in bare.source] == ["record"]


def test_an_evaluation_elsewhere_is_joined_with_its_run_and_one_of_other_photos_without_that_audit(run: Path) -> None:
    photos = run.parents[1] / "photos"
    same = write_evaluation(run.parent / "same", run / "checkpoint", photos, catalog_at(photos))
    joined = reported(same)
    assert "Evaluation same of" in joined.words
    assert 'id="audit"' in joined.source
    assert 'id="curves"' in joined.source
    assert f"ray-trash evaluate {run / 'checkpoint'} --data {photos} --split test --masks --out again" in joined.words
    others = make_photos(run.parents[1] / "others", PER_CLASS, seed=1)
    foreign = reported(write_evaluation(run.parent / "foreign", run / "checkpoint", others, catalog_at(others)))
    assert 'id="audit"' not in foreign.source
    assert "not the photos of the run that trained" in foreign.words


def test_a_sweep_has_its_trials_and_its_verdict(run: Path) -> None:
    config = document(run, "config.json")
    config["tune"]["space"] = {"train.learning_rate": {"choice": [1e-3, 1e-2]}}
    (run / "config.json").write_text(json.dumps(config))
    trials = []
    for number in range(2):
        folder = run / "trials" / f"{number:03d}"
        folder.mkdir(parents=True)
        shutil.copy(run / "metrics.jsonl", folder)
        trial = {
            "trial": number,
            "params": {"train.learning_rate": 10.0 ** (number - 3)},
            "run": f"trials/{number:03d}",
        }
        ended = {"epochs_run": 3, "best_epoch": 2, "best_value": 0.8, "metrics": {}, "seconds": 6.0, "status": "done"}
        trials.append({**trial, **ended, "stop_reason": "trained all 3 epochs"})
    (run / "trials.json").write_text(json.dumps(trials))
    comparison = {"difference": 0.1, "low": 0.05, "high": 0.15, "p_value": 0.01, "significant": True}
    verdict = {"winner": 1, "comparisons": {"1": comparison}, "accuracies": {"0": [0.7], "1": [0.8]}}
    (run / "verdict.json").write_text(json.dumps({"summary": "trained 6", **verdict, "n_photos": 15, "seeds": 1}))
    (run / "metrics.jsonl").unlink()
    (run / "evaluation.json").unlink()
    page = reported(run)
    assert "what a sweep of 2 trials kept, has reached 12/15 = 80.0 % right" in page.words
    assert "Sweep tiny" in page.text
    assert "verdict: trial 1 is better than the config as written" in page.text
    assert [row[0] for row in page.table_below("Trials")[1:]] == ["0 best as written", "1"]
    assert page.of_class("trial") == 4
    assert "Of trial 1, which the sweep kept." in page.text
    assert len(page.values("id")) == len(set(page.values("id")))
    (run / "verdict.json").write_text(json.dumps({"winner": 0, "reason": "winner: trial 0, the only one"}))
    assert "winner: trial 0, the only one" in reported(run).text
    kept = run / "trials" / "000" / "metrics.jsonl"
    epochs = [json.loads(line) for line in kept.read_text().splitlines()]
    epochs[-1]["val_macro_f1"] = 0.0
    kept.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    assert "in epoch 2 of its trial" in reported(run).text
    config["train"]["select_by"] = "last"
    (run / "config.json").write_text(json.dumps(config))
    assert "in epoch 3 of its trial" in reported(run).text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", classes=(HOSTILE, "metal", "paper"))
    page = reported(made)
    assert not [name for _, attributes in page.seen for name in attributes if name.startswith("on")]
    assert not {"script", "b"} & {tag for tag, _ in page.seen}
    assert page.text.count(HOSTILE) > 10
    assert "49" not in [cell for row in page.rows for cell in row]


def test_three_hundred_classes_are_a_page_within_its_limit(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 4, classes=tuple(f"class number {n:03d}" for n in range(300)))
    made = make_run(tmp_path / "run", classes=tuple(sorted(path.name for path in photos.iterdir())), photos=photos)
    page = reported(made)
    assert "Too many classes for a matrix on a page" in page.text
    assert len(page.table_below("Class by class")) == 301
    assert len(page.source) < LARGEST_BYTES


def test_what_is_no_folder_of_results_or_is_damaged_is_one_line_and_exit_3(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 3
    assert "holds no run.json and no evaluation.json" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 3
    assert "does not exist" in capsys.readouterr().err
    assert main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["report"]) == ("run", str(run / "report.html"))
    (run / "evaluation.json").write_text('{"n": 3}')
    assert main(["report", str(run)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    (run / "evaluation.json").write_text('{"n": ')
    assert main(["report", str(run)]) == 3
    assert "evaluation.json: is damaged" in capsys.readouterr().err


def test_a_report_that_fails_does_not_fail_what_it_is_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=300))
    leave_report(Storage.at(run), terminal)
    monkeypatch.setattr("ray_trash.report.run.report_page", lambda *_, **__: 1 / 0)
    leave_report(Storage.at(run), terminal)
    leave_report(Storage.at(run / "nothing"), terminal)
    # What it has come to meanwhile is said where it takes seconds.
    written, failed, absent = [line for line in out.getvalue().splitlines() if not line.endswith(" parts")]
    assert written == f"report {run / 'report.html'}"
    assert "no report: ZeroDivisionError" in failed
    assert absent.startswith("no report: ")


def test_the_report_of_a_run_completes_the_card_in_its_checkpoint_which_stays_whole(made: Path) -> None:
    evaluation = document(made, "evaluation.json")
    card = (made / "checkpoint" / "model_card.md").read_text()
    assert f"{evaluation['correct']}/{evaluation['n']} = {percent(evaluation['accuracy'])} right" in card
    assert open_checkpoint(made / "checkpoint").card == card
