"""Two models on the same images: differences, their intervals and tests, against independent computations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from vitrail.errors import DataError
from vitrail.evaluation.comparison import PairedTest, adjusted, compare_pair, delong, mcnemar, restricted
from vitrail.records import Predictions


def predictions(seed: int, skill: float, *, classes: int = 3, n: int = 90, groups: int | None = None) -> Predictions:
    """Made-up scores; the same n and groups give the same images."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    logits = generator.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += skill
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple("abcdef"[:classes])
    group = np.arange(n) if groups is None else np.arange(n) // classes % groups
    paths = tuple(f"{number}.png" for number in range(n))
    return Predictions(f"m{seed}", "test", names, np.arange(n), paths, truth, scores, group, np.ones(n, bool))


def test_the_difference_is_that_of_the_two_scores():
    first, second = predictions(1, 1.0), predictions(2, 1.6)
    row = compare_pair(first, second, resamples=300, seed=0)
    one, two = (balanced_accuracy_score(each.truth, each.predicted) for each in (first, second))
    assert row.differences["balanced_accuracy"].value == pytest.approx(two - one)
    areas = [roc_auc_score(each.truth, each.probabilities, multi_class="ovr", average="weighted") for each in (first, second)]
    assert row.differences["auc_weighted"].value == pytest.approx(areas[1] - areas[0])
    turned = compare_pair(second, first, resamples=300, seed=0)
    for name, there in row.differences.items():
        back = turned.differences[name]
        assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert (turned.only_champion, turned.only_challenger) == (row.only_challenger, row.only_champion)


def test_the_interval_is_that_of_a_bootstrap_drawn_anew():
    first, second = predictions(1, 1.0, n=300), predictions(2, 1.4, n=300)
    row = compare_pair(first, second, resamples=2000, seed=0).differences["balanced_accuracy"]
    gained = (second.predicted == second.truth).astype(float) - (first.predicted == first.truth)
    generator = np.random.default_rng(9)
    by_class = [gained[first.truth == label] for label in range(3)]
    draws = [np.mean([generator.choice(of_class, len(of_class)).mean() for of_class in by_class]) for _ in range(4000)]
    assert (row.low, row.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)


def test_pairing_is_what_makes_it_narrow():
    """A copy of a model with one answer changed: the scores' own intervals are wide, that of the difference is not."""
    first = predictions(1, 1.0)
    scores = first.probabilities.copy()
    right = int(np.flatnonzero(first.predicted == first.truth)[0])
    scores[right] = np.roll(scores[right], 1)
    row = compare_pair(first, replace(first, probabilities=scores), resamples=500, seed=0)
    accuracy = row.differences["accuracy"]
    assert accuracy.value == pytest.approx(-1 / 90)
    assert accuracy.high - accuracy.low < 0.05 and (row.only_champion, row.only_challenger) == (1, 0)


def test_the_same_model_twice_is_no_proof_of_equality():
    first = predictions(1, 1.0)
    row = compare_pair(first, first, resamples=200, seed=0)
    assert row.differences["accuracy"].value == 0 and row.differences["accuracy"].low is None
    assert "no proof" in row.differences["accuracy"].note
    assert row.accuracy_test.p_value is None and row.auc_test.p_value is None


def test_copies_are_one_piece_of_evidence():
    first, second = predictions(1, 0.8, n=60), predictions(2, 1.8, n=60)
    four = np.tile(np.arange(60), 4)
    often = [replace(restricted(each, four), paths=tuple(f"{n}.png" for n in range(240))) for each in (first, second)]
    apart = compare_pair(*(replace(each, groups=np.arange(240)) for each in often), resamples=1000, seed=0)
    together, once = compare_pair(*often, resamples=1000, seed=0), compare_pair(first, second, resamples=1000, seed=0)
    width = {
        name: row.differences["accuracy"].high - row.differences["accuracy"].low
        for name, row in (("once", once), ("apart", apart), ("together", together))
    }
    assert width["together"] == pytest.approx(width["once"], rel=0.01) and width["apart"] < 0.6 * width["once"]
    assert together.accuracy_test.p_value == pytest.approx(once.accuracy_test.p_value)
    assert apart.accuracy_test.p_value < once.accuracy_test.p_value


def test_mcnemar_is_the_two_sided_binomial_test():
    gained = np.array([1] * 9 + [-1] * 3 + [0] * 20)
    test = mcnemar(gained, np.arange(32))
    assert test.p_value == pytest.approx(2 * stats.binom.cdf(3, 12, 0.5)) and test.method == "McNemar, exact"


def test_mcnemar_on_groups_is_every_exchange_counted():
    gained = np.array([1, 1, 1, -1, 1, -1, 1, 0, 1])
    groups = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4])
    net = np.array([gained[groups == group].sum() for group in range(5)])
    sums = [abs(np.dot(signs, net)) for signs in itertools.product((-1, 1), repeat=5)]
    expected = np.mean([value >= abs(net.sum()) for value in sums])
    assert mcnemar(gained, groups).p_value == pytest.approx(expected)


def test_delong_against_its_structural_components():
    first, second = predictions(1, 0.7, classes=2, n=70), predictions(2, 1.4, classes=2, n=70)
    positive = first.truth == 1
    difference, error = delong(positive, first.probabilities[:, 1], second.probabilities[:, 1])
    components = []
    for each in (first, second):
        inside, outside = each.probabilities[positive, 1], each.probabilities[~positive, 1]
        wins = (inside[:, None] > outside) + 0.5 * (inside[:, None] == outside)
        components.append((wins.mean(axis=1), wins.mean(axis=0)))
    over = [components[1][side] - components[0][side] for side in (0, 1)]
    assert difference == pytest.approx(over[0].mean())
    assert error == pytest.approx(np.sqrt(np.var(over[0], ddof=1) / len(over[0]) + np.var(over[1], ddof=1) / len(over[1])))
    told = compare_pair(first, second, resamples=200, seed=0).auc_test
    assert told.p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / error))


def test_delong_is_left_out_where_it_does_not_belong():
    of_three = compare_pair(predictions(1, 1), predictions(2, 1), resamples=200, seed=0).auc_test
    assert of_three.p_value is None and "two classes" in of_three.note
    grouped = [predictions(seed, 1, classes=2, n=60, groups=10) for seed in (1, 2)]
    told = compare_pair(*grouped, resamples=200, seed=0).auc_test
    assert told.p_value is None and "groups" in told.note


def test_holm_takes_the_number_of_challengers_into_account():
    row = compare_pair(predictions(1, 1), predictions(2, 1), resamples=200, seed=0)
    values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": None}
    rows = {name: replace(row, accuracy_test=PairedTest("McNemar", value, value, 9, 9)) for name, value in values.items()}
    corrected = {name: one.accuracy_test.adjusted for name, one in adjusted(rows).items()}
    assert corrected == {"a": pytest.approx(0.03), "b": pytest.approx(0.06), "c": pytest.approx(0.06), "d": None}


def test_other_images_are_refused():
    first = predictions(1, 1)
    with pytest.raises(DataError, match="the same images"):
        compare_pair(first, restricted(predictions(2, 1), np.arange(50)), resamples=200, seed=0)
