"""A gain is called one where it is, and seldom where it is not."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from ray_trash.tune.verdict import Comparison, Verdict, compare, judge, verdict_lines


def trainings(
    random: np.random.Generator, ease: np.ndarray, *, gain: float = 0.0, seed_noise: float = 0.0, n_seeds: int = 3
) -> np.ndarray:
    """Answers on photos of a given ease; each training has luck on every photo and, as a whole, by its seed."""
    luck = random.normal(0, 0.7, (n_seeds, len(ease))) + random.normal(0, seed_noise, (n_seeds, 1))
    return ease + gain + luck > 0


def eases(random: np.random.Generator, n_photos: int = 328) -> np.ndarray:
    return random.normal(3, 2, n_photos)


def width(comparison: Comparison) -> float:
    return comparison.high - comparison.low


@pytest.mark.parametrize(("n_seeds", "seed_noise"), [(1, 0.0), (3, 0.0), (3, 0.15)])
def test_ties_are_seldom_called_gains(n_seeds, seed_noise):
    random = np.random.default_rng(1)
    gains = 0
    for _ in range(200):
        ease = eases(random)
        ours, theirs = (trainings(random, ease, n_seeds=n_seeds, seed_noise=seed_noise) for _ in range(2))
        gains += compare(ours, theirs, n_comparisons=1, n_resamples=500).significant
    assert gains <= 10


def test_many_candidates_that_are_ties_are_together_seldom_called_gains():
    random = np.random.default_rng(2)
    sweeps_with_gains = 0
    for _ in range(60):
        ease = eases(random)
        theirs = trainings(random, ease, n_seeds=1)
        ours = [trainings(random, ease, n_seeds=1) for _ in range(5)]
        found = [compare(answers, theirs, n_comparisons=5, n_resamples=1000).significant for answers in ours]
        sweeps_with_gains += any(found)
    assert sweeps_with_gains <= 5


def test_a_large_gain_is_found_and_a_large_loss_is_none():
    random = np.random.default_rng(3)
    ease = eases(random)
    better, worse = trainings(random, ease, gain=1.0, seed_noise=0.1), trainings(random, ease, seed_noise=0.1)
    gain = compare(better, worse, n_comparisons=2, n_resamples=2000)
    loss = compare(worse, better, n_comparisons=2, n_resamples=2000)
    assert gain.significant
    assert gain.p_value < 0.05
    assert gain.low < gain.difference < gain.high
    assert gain.difference == pytest.approx(better.mean() - worse.mean())
    assert not loss.significant
    assert loss.high < 0
    assert loss.p_value < 0.05


def test_a_small_gain_on_the_same_photos_is_found_that_unpaired_photos_would_hide():
    theirs = np.arange(1000) < 800
    ours = np.arange(1000) < 815
    paired = compare(ours[None], theirs[None], n_comparisons=1)
    shuffled = np.random.default_rng(4).permutation(ours)
    unpaired = compare(shuffled[None], theirs[None], n_comparisons=1)
    assert paired.difference == unpaired.difference == pytest.approx(0.015)
    assert paired.significant
    assert not unpaired.significant
    assert width(unpaired) > 3 * width(paired)


def test_seeds_that_differ_widen_the_interval():
    random = np.random.default_rng(5)
    ease = eases(random, 5000)
    quiet = compare(trainings(random, ease), trainings(random, ease), n_comparisons=1, n_resamples=1000)
    noisy_ours, noisy_theirs = (trainings(random, ease, seed_noise=0.3) for _ in range(2))
    noisy = compare(noisy_ours, noisy_theirs, n_comparisons=1, n_resamples=1000)
    assert width(noisy) > 1.5 * width(quiet)


def test_one_training_a_side_agrees_with_the_interval_of_a_paired_proportion():
    # b photos only we get right and c only they: the difference has variance (b + c - (b - c)^2 / N) / N^2.
    ours, theirs = np.arange(2000) < 1800, (np.arange(2000) >= 140) & (np.arange(2000) < 1900)
    only_ours, only_theirs = (ours & ~theirs).sum(), (theirs & ~ours).sum()
    deviation = np.sqrt(only_ours + only_theirs - (only_ours - only_theirs) ** 2 / 2000) / 2000
    found = compare(ours[None], theirs[None], n_comparisons=1)
    assert found.low == pytest.approx(found.difference - 1.96 * deviation, abs=0.001)
    assert found.high == pytest.approx(found.difference + 1.96 * deviation, abs=0.001)


def test_drawing_kinds_of_photos_is_drawing_photos():
    random = np.random.default_rng(6)
    ease = eases(random, 200)
    ours, theirs = trainings(random, ease, seed_noise=0.2), trainings(random, ease, seed_noise=0.2, n_seeds=2)
    one_by_one = []
    for _ in range(4000):
        photos = random.integers(0, 200, 200)
        our_seeds, their_seeds = random.integers(0, 3, 3), random.integers(0, 2, 2)
        one_by_one.append(ours[our_seeds][:, photos].mean() - theirs[their_seeds][:, photos].mean())
    found = compare(ours, theirs, n_comparisons=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(one_by_one, [0.025, 0.975])), abs=0.005)


def test_more_candidates_make_the_same_gain_less_sure():
    random = np.random.default_rng(7)
    ease = eases(random)
    ours, theirs = trainings(random, ease, gain=0.3), trainings(random, ease)
    alone = compare(ours, theirs, n_comparisons=1)
    among_ten = compare(ours, theirs, n_comparisons=10)
    assert among_ten.low < alone.low
    assert among_ten.high > alone.high
    assert among_ten.p_value == pytest.approx(min(1.0, 10 * alone.p_value))


def test_the_same_seed_gives_the_same_result_whatever_the_order_of_the_photos():
    random = np.random.default_rng(8)
    ease = eases(random)
    ours, theirs = trainings(random, ease, gain=0.2), trainings(random, ease)
    order = random.permutation(len(ease))
    first = compare(ours, theirs, n_comparisons=3, seed=5)
    assert compare(ours, theirs, n_comparisons=3, seed=5) == first
    assert compare(ours[:, order], theirs[:, order], n_comparisons=3, seed=5) == first
    assert any(compare(ours, theirs, n_comparisons=3, seed=seed) != first for seed in range(6, 12))


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_candidate_that_answers_alike_is_no_gain_at_all(n_seeds):
    answers = np.tile(np.arange(50) < 43, (n_seeds, 1))
    assert compare(answers, answers, n_comparisons=1, n_resamples=200) == Comparison(0.0, 0.0, 0.0, 1.0, False)


def test_a_hundred_thousand_photos_need_no_hundred_thousand_draws_a_resample():
    random = np.random.default_rng(9)
    ease = eases(random, 100_000)
    found = compare(trainings(random, ease, gain=0.1), trainings(random, ease), n_comparisons=1)
    assert found.significant


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (np.ones((1, 4), bool), np.ones((1, 5), bool), "same N photos"),
        (np.ones(4, bool), np.ones(4, bool), "same N photos"),
        (np.ones((1, 4)), np.ones((1, 4), bool), "expected bool, got float64"),
        (np.ones((1, 0), bool), np.ones((1, 0), bool), "nothing to compare"),
        (np.ones((0, 4), bool), np.ones((1, 4), bool), "nothing to compare"),
    ],
)
def test_answers_that_cannot_be_compared_are_refused(ours, theirs, said):
    with pytest.raises(ValueError, match=said):
        compare(ours, theirs, n_comparisons=1)


def test_no_comparison_at_all_is_refused():
    with pytest.raises(ValueError, match="0 comparisons"):
        compare(np.ones((1, 4), bool), np.ones((1, 4), bool), n_comparisons=0)


def test_the_winner_is_the_most_accurate_of_those_that_are_better():
    random = np.random.default_rng(10)
    ease = eases(random)
    gains = {0: 0.0, 4: 1.0, 7: 2.0, 9: -1.0}
    verdict = judge({trial: trainings(random, ease, gain=gain) for trial, gain in gains.items()})
    assert verdict.winner == 7
    assert [trial for trial, comparison in verdict.comparisons.items() if comparison.significant] == [4, 7]
    assert (verdict.n_photos, verdict.seeds) == (328, 3)
    assert [len(accuracies) for accuracies in verdict.accuracies.values()] == [3, 3, 3, 3]


def test_the_config_as_written_is_kept_where_nothing_beats_it():
    answers = np.tile(np.arange(60) < 50, (2, 1))
    better_by_one = np.tile(np.arange(60) < 51, (2, 1))
    assert judge({0: answers, 3: better_by_one}).winner == 0
    assert judge({0: answers}).winner == 0


def test_of_two_candidates_with_the_same_accuracy_the_first_trial_wins():
    theirs, ours = np.arange(300)[None] < 200, np.arange(300)[None] < 280
    assert judge({5: ours, 0: theirs, 2: ours}).winner == 2


def test_a_verdict_needs_the_config_as_written_and_the_same_trainings_for_all():
    with pytest.raises(ValueError, match=r"trial 0, is not among the trials \[1\]"):
        judge({1: np.ones((1, 4), bool)})
    with pytest.raises(ValueError, match="same trainings and photos"):
        judge({0: np.ones((2, 4), bool), 1: np.ones((3, 4), bool)})


def verdict(winner: int, *comparisons: Comparison, n_photos: int = 328, seeds: int = 3) -> Verdict:
    numbered = dict(zip((7, 9), comparisons, strict=False))
    return Verdict(winner, numbered, dict.fromkeys((0, *numbered), (0.9,) * seeds), n_photos, seeds)


def test_lines_say_gain_photos_seeds_interval_and_verdict():
    assert verdict_lines(verdict(0, Comparison(0.012, -0.004, 0.029, 0.2, False))) == [
        "trial 7 against the config as written: +1.2 points on 328 photos over 3 seeds (-0.4 to +2.9): "
        "no significant gain",
        "verdict: no significant gain over the config as written, which is kept",
    ]


def test_lines_name_the_winner_and_call_a_loss_a_loss():
    gain, loss = Comparison(0.02, 0.004, 0.03, 0.01, True), Comparison(-0.02, -0.03, -0.01, 0.01, False)
    lines = verdict_lines(verdict(7, gain, loss, seeds=1))
    assert "over 1 seed (" in lines[0]
    assert lines[0].endswith(": a significant gain")
    assert lines[1].endswith(": a significant loss")
    assert lines[2] == "verdict: trial 7 is better than the config as written"


def test_lines_have_no_minus_before_a_zero_and_more_decimals_for_many_photos():
    small = Comparison(-0.0000001, -0.0004, 0.0004, 1.0, False)
    assert "+0.0 points on 328 photos" in verdict_lines(verdict(0, small))[0]
    assert "on 12,000 photos over 3 seeds (-0.04 to +0.04)" in verdict_lines(verdict(0, small, n_photos=12_000))[0]


def test_a_verdict_survives_json():
    random = np.random.default_rng(11)
    ease = eases(random, 100)
    judged = judge({trial: trainings(random, ease) for trial in (0, 3)})
    document = json.loads(json.dumps(asdict(judged), allow_nan=False))
    assert document["winner"] == judged.winner
    assert document["accuracies"]["0"] == list(judged.accuracies[0])
    assert document["comparisons"]["3"] == vars(judged.comparisons[3])
