"""A model against a baseline: the difference and its interval by an independent computation, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vitrail.errors import DataError
from vitrail.evaluation import compare_with_baselines, held_against_baselines
from vitrail.evaluation.against_baselines import NUISANCE_ONLY
from vitrail.records import Difference, Estimate, Predictions
from vitrail.study import EvaluationSettings

QUICK = EvaluationSettings(resamples=2000)


def predictions(name: str, truth: np.ndarray, right: np.ndarray, *, groups=None, clean=None) -> Predictions:
    """Predictions that are right where they shall be, and the next class elsewhere."""
    classes = int(truth.max()) + 1
    chosen = np.where(right, truth, (truth + 1) % classes)
    scores = np.full((len(truth), classes), 0.1 / (classes - 1))
    scores[np.arange(len(truth)), chosen] = 0.9
    return Predictions(
        model=name,
        part="test",
        classes=tuple("abcdef"[:classes]),
        rows=np.arange(len(truth)),
        paths=tuple(str(row) for row in range(len(truth))),
        truth=truth,
        probabilities=scores,
        groups=np.arange(len(truth)) if groups is None else groups,
        clean=np.ones(len(truth), dtype=bool) if clean is None else clean,
    )


@pytest.fixture
def pair() -> tuple[Predictions, Predictions]:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [60, 90, 30])
    groups = np.arange(180) // 3  # three images to a group, within the class
    hard = rng.random(60)[groups]
    model = predictions("cnn", truth, hard + rng.normal(0, 0.1, 180) > 0.2, groups=groups)
    return model, predictions("plain", truth, hard + rng.normal(0, 0.1, 180) > 0.4, groups=groups)


def balanced(one: Predictions, rows: np.ndarray) -> float:
    truth, right = one.truth[rows], (one.predicted == one.truth)[rows]
    return float(np.mean([right[truth == label].mean() for label in np.unique(one.truth)]))


def test_value_and_interval_are_those_of_a_slow_paired_bootstrap(pair):
    model, baseline = pair
    (found,) = compare_with_baselines([model], [baseline], settings=QUICK, seed=0)
    everything = np.arange(180)
    assert found.balanced_accuracy.value == pytest.approx(balanced(model, everything) - balanced(baseline, everything))
    rng, draws = np.random.default_rng(99), []
    of_class = [np.unique(model.groups[model.truth == label]) for label in range(3)]
    for _ in range(1000):
        drawn = np.concatenate([rng.choice(members, len(members)) for members in of_class])
        rows = np.concatenate([np.flatnonzero(model.groups == group) for group in drawn])
        draws.append(balanced(model, rows) - balanced(baseline, rows))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.balanced_accuracy.low == pytest.approx(low, abs=0.015)
    assert found.balanced_accuracy.high == pytest.approx(high, abs=0.015)
    assert (found.balanced_accuracy.n, found.balanced_accuracy.groups) == (180, 60)
    assert (found.part, found.beaten) == ("test_clean", True)


def test_an_interval_of_the_difference_is_narrower_than_the_two_scores_suggest_when_both_fail_on_the_same_images():
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1], 100)
    right = rng.random(200) > 0.3
    better = right | (rng.random(200) < 0.25)
    (found,) = compare_with_baselines([predictions("m", truth, better)], [predictions("b", truth, right)], settings=QUICK, seed=0)
    alone = 1.96 * np.sqrt(2 * 0.3 * 0.7 / 200)
    assert found.balanced_accuracy.value - found.balanced_accuracy.low < 0.6 * alone


def test_every_model_meets_every_baseline_and_turned_round_the_sign_turns(pair):
    model, baseline = pair
    found = compare_with_baselines([model, baseline], [baseline, model], settings=QUICK, seed=0)
    assert [(one.model, one.baseline) for one in found] == [
        ("cnn", "plain"),
        ("cnn", "cnn"),
        ("plain", "plain"),
        ("plain", "cnn"),
    ]
    first, same, _, turned = (one.balanced_accuracy for one in found)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-first.value, -first.high, -first.low))
    assert (same.value, same.low) == (0, None) and not found[1].beaten


def test_where_a_class_has_no_clean_image_all_images_are_compared(pair):
    model, baseline = (replace(one, clean=one.truth != 2) for one in pair)
    (found,) = compare_with_baselines([model], [baseline], settings=QUICK, seed=0)
    assert (found.part, found.balanced_accuracy.n) == ("test", 180)
    model, baseline = (replace(one, clean=np.arange(180) % 2 == 0) for one in pair)
    (found,) = compare_with_baselines([model], [baseline], settings=QUICK, seed=0)
    assert (found.part, found.balanced_accuracy.n) == ("test_clean", 90)


def test_predictions_for_other_images_are_refused(pair):
    with pytest.raises(DataError, match="plain: must have predictions for the same images"):
        compare_with_baselines([pair[0]], [replace(pair[1], paths=pair[1].paths[::-1])], settings=QUICK, seed=0)


# ---------------------------------------------------------------------------------------------------- in words


def said(*differences: Difference) -> tuple[str, ...]:
    """What is said of a champion ``cnn``."""
    return held_against_baselines(SimpleNamespace(champion="cnn", differences=differences))


def against(baseline: str, value: float | None, low: float | None, high: float | None, model: str = "cnn") -> Difference:
    return Difference(model, baseline, "test_clean", Estimate(value, low, high, 90, 80, "bootstrap", "" if low else "note"))


def test_a_champion_that_beats_all_is_told_by_how_much_it_beats_the_hardest():
    sentences = said(
        against("majority-class", 0.6, 0.5, 0.7),
        against("nearest-thumbnail", 0.12, 0.05, 0.19),
        against(NUISANCE_ONLY, 0.3, 0.2, 0.4),
    )
    assert sentences == (
        "cnn beats every baseline on the clean test images; the hardest is nearest-thumbnail: +12.0 points [5.0, 19.0] of "
        "balanced accuracy, paired (n = 90 in 80 groups).",
    )


def test_one_baseline_that_is_not_surely_beaten_is_enough():
    (sentence,) = said(against("majority-class", 0.1, 0.08, 0.12), against("nearest-thumbnail", 0.12, -0.01, 0.25))
    assert sentence.startswith("cnn does not surely beat the baseline nearest-thumbnail on the clean test images: +12.0 points")
    (sentence,) = said(against("majority-class", 0.1, 0.08, 0.12), against("nearest-thumbnail", -0.12, -0.2, -0.01))
    assert sentence.startswith("cnn is worse than the baseline nearest-thumbnail on the clean test images: -12.0 points")


def test_a_model_within_reach_of_the_files_is_told_so_in_plain_words():
    first, second = said(
        against(NUISANCE_ONLY, 0.02, -0.01, 0.05),
        against(NUISANCE_ONLY, -0.2, -0.3, -0.1, "forest"),
        against(NUISANCE_ONLY, 0.2, 0.1, 0.3, "probe"),
    )
    assert first.startswith("cnn does not surely beat the baseline nuisance-only")
    found = "Not shown to see more than file properties: cnn (+2.0 points [-1.0, 5.0]), forest (-20.0 points [-30.0, -10.0])."
    assert second.startswith(found)


def test_what_is_not_estimable_is_no_defeat_and_no_victory():
    (sentence,) = said(against(NUISANCE_ONLY, None, None, None))
    assert sentence == "Whether cnn beats the baselines on the clean test images cannot be said: note."
    (sentence,) = said(against(NUISANCE_ONLY, 0.5, None, None))
    assert "+50.0 points" in sentence and "note" in sentence and "beats every" not in sentence


def test_nothing_is_said_where_nothing_was_compared():
    assert said() == ()
