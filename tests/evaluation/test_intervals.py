"""Intervals: Wilson's against SciPy, the group bootstrap against what is known of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vitrail.evaluation.intervals import Design, bootstrap_weights, estimate, sampling_design, wilson_interval
from vitrail.evaluation.metrics import CLASS_METRICS, OVERALL_METRICS, Metric
from vitrail.records import Estimate, IntArray


def measure(
    metric: Metric, truth: IntArray, probabilities: npt.NDArray[np.float64], groups: IntArray, *, resamples: int, seed: int
) -> tuple[Estimate, npt.NDArray[np.float64]]:
    """The estimate of an overall metric, and its draws."""
    design = sampling_design(truth, groups)
    value = float(metric.compute(truth, probabilities, np.ones((1, len(truth))))[0])
    chunks = bootstrap_weights(design, resamples=resamples, seed=seed)
    draws = np.concatenate([metric.compute(truth, probabilities, weights) for weights in chunks])
    return estimate(metric, value, draws, images=np.ones(len(truth), dtype=np.bool_), design=design), draws


def one_hot(predicted: npt.ArrayLike, classes: int = 2) -> npt.NDArray[np.float64]:
    return np.eye(classes)[np.asarray(predicted)]


# ---------------------------------------------------------------------------------------------------- Wilson


@settings(max_examples=100, deadline=None)
@given(trials=st.integers(1, 500), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    theirs = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, trials, confidence=confidence), theirs, atol=1e-12)


def test_wilson_reproduces_published_figures() -> None:
    for trials, low, high in ((60, 0.863, 0.983), (100, 0.888, 0.978), (200, 0.910, 0.973)):
        np.testing.assert_allclose(wilson_interval(0.95 * trials, trials), (low, high), atol=5e-4)


@pytest.mark.parametrize(("successes", "trials", "confidence"), [(1, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)])
def test_wilson_refuses_what_is_no_proportion(successes: float, trials: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"successes={successes}, trials={trials}"):
        wilson_interval(successes, trials, confidence=confidence)


# ---------------------------------------------------------------------------------------------------- resampling


def test_a_group_stands_with_its_most_frequent_label() -> None:
    truth = np.array([1, 1, 0, 0, 2, 1])
    design = sampling_design(truth, np.array([50, 50, 50, -3, 9, 9]))
    assert design.stratum.tolist() == [0, 1, 1]
    assert design.stratum[design.group].tolist() == [1, 1, 1, 0, 1, 1]
    assert len(set(design.group[:3])) == 1
    assert design.group[0] != design.group[4] == design.group[5]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=25), st.integers(0, 5))
def test_groups_are_drawn_whole_and_every_class_keeps_its_number_of_groups(images: list[tuple[int, int]], seed: int) -> None:
    groups, truth = (np.array(column) for column in zip(*images, strict=True))
    design = sampling_design(truth, groups)
    (weights,) = bootstrap_weights(design, resamples=6, seed=seed)
    assert weights.shape == (6, len(truth))
    for one in np.unique(groups):
        assert (weights[:, groups == one] == weights[:, groups == one][:, :1]).all()
    first_of_group = np.array([int(np.flatnonzero(design.group == group)[0]) for group in range(design.groups)])
    for stratum in np.unique(design.stratum):
        times = weights[:, first_of_group[design.stratum == stratum]]
        assert (times.sum(axis=1) == times.shape[1]).all()


def test_every_group_is_drawn_once_on_average() -> None:
    design = sampling_design(np.repeat([0, 1], [5, 15]), np.arange(20))
    (weights,) = bootstrap_weights(design, resamples=20_000, seed=0)
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=0.04)
    np.testing.assert_allclose(weights.var(axis=0), np.repeat([4 / 5, 14 / 15], [5, 15]), atol=0.06)


@pytest.mark.parametrize("numbers_per_chunk", [1, 40, 41, 123])
def test_the_size_of_the_chunks_changes_nothing(numbers_per_chunk: int) -> None:
    design = sampling_design(np.arange(20) % 3, np.arange(20) // 2)
    (whole,) = bootstrap_weights(design, resamples=11, seed=5)
    chunks = list(bootstrap_weights(design, resamples=11, seed=5, numbers_per_chunk=numbers_per_chunk))
    assert len(chunks) > 1
    assert max(chunk.size for chunk in chunks) <= max(numbers_per_chunk, 20)
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_the_seed_decides_the_resamples() -> None:
    design = sampling_design(np.arange(20) % 2, np.arange(20))
    first, again, other = (next(bootstrap_weights(design, resamples=9, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_without_images_there_is_nothing_to_draw() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert list(bootstrap_weights(sampling_design(nothing, nothing), resamples=5, seed=0)) == []


# ---------------------------------------------------------------------------------------------------- the interval


def test_the_standard_error_of_the_accuracy_is_the_textbook_one() -> None:
    truth = np.zeros(400, dtype=np.int64)
    predicted = (np.arange(400) % 10 == 0).astype(int)
    result, draws = measure(OVERALL_METRICS["accuracy"], truth, one_hot(predicted), np.arange(400), resamples=4000, seed=1)
    assert draws.std() == pytest.approx(math.sqrt(0.9 * 0.1 / 400), rel=0.05)
    assert (result.low, result.high) == pytest.approx((0.9 - 1.96 * 0.015, 0.9 + 1.96 * 0.015), abs=0.004)
    assert (result.value, result.n, result.groups) == (0.9, 400, 400)
    assert (result.method, result.note) == ("bootstrap of 400 groups, 4,000 resamples", "")


def test_copies_widen_the_interval_by_the_root_of_their_number() -> None:
    truth = np.repeat(np.arange(200) % 2, 3)
    wrong = np.repeat(np.random.default_rng(0).random(200) < 0.15, 3)
    probabilities = one_hot(np.where(wrong, 1 - truth, truth))
    accuracy = OVERALL_METRICS["accuracy"]
    images, draws_of_images = measure(accuracy, truth, probabilities, np.arange(600), resamples=4000, seed=0)
    groups, draws_of_groups = measure(accuracy, truth, probabilities, np.arange(600) // 3, resamples=4000, seed=0)
    assert images.value == groups.value
    assert (images.groups, groups.groups) == (600, 200)
    assert draws_of_groups.std() / draws_of_images.std() == pytest.approx(math.sqrt(3), rel=0.07)


def coverage(
    simulate: Callable[[np.random.Generator], tuple[IntArray, IntArray, IntArray]], metric: Metric, true: float
) -> float:
    """Share of 200 made-up sets whose interval holds the true value."""
    hits = 0
    for number in range(200):
        truth, predicted, groups = simulate(np.random.default_rng([11, number]))
        result, _ = measure(metric, truth, one_hot(predicted), groups, resamples=300, seed=number)
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= true <= result.high
    return hits / 200


def test_the_interval_of_the_accuracy_covers_the_truth() -> None:
    def simulate(generator: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
        truth = np.arange(90) % 2
        return truth, np.where(generator.random(90) < 0.85, truth, 1 - truth), np.arange(90)

    assert 0.88 <= coverage(simulate, OVERALL_METRICS["accuracy"], 0.85) <= 0.99


def test_the_interval_covers_the_truth_when_groups_hold_copies() -> None:
    def simulate(generator: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
        truth = np.arange(80) % 2
        predicted = np.where(generator.random(80) < np.where(truth == 1, 0.7, 0.9), truth, 1 - truth)
        sizes = generator.integers(1, 4, 80)
        return np.repeat(truth, sizes), np.repeat(predicted, sizes), np.repeat(np.arange(80), sizes)

    assert 0.88 <= coverage(simulate, OVERALL_METRICS["balanced_accuracy"], 0.8) <= 0.99


def test_the_interval_covers_the_truth_near_a_perfect_score() -> None:
    def simulate(generator: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
        truth = np.zeros(40, dtype=np.int64)
        return truth, (generator.random(40) < 0.02).astype(np.int64), np.arange(40)

    assert coverage(simulate, OVERALL_METRICS["accuracy"], 0.98) >= 0.88


# ---------------------------------------------------------------------------------------------------- when there is none


def test_a_perfect_share_gets_wilsons_interval_over_the_groups() -> None:
    truth = np.repeat([0, 1], [30, 10])
    result, _ = measure(OVERALL_METRICS["accuracy"], truth, one_hot(truth), np.arange(40) // 2, resamples=200, seed=0)
    assert (result.low, result.high) == wilson_interval(20, 20)
    assert (result.value, result.n, result.groups, result.method) == (1.0, 40, 20, "Wilson, 20 groups")
    assert "all resamples agree" in result.note


def test_a_share_of_zero_gets_wilsons_interval_too() -> None:
    truth = np.repeat([0, 1], [30, 10])
    result, _ = measure(OVERALL_METRICS["accuracy"], truth, one_hot(1 - truth), np.arange(40), resamples=200, seed=0)
    assert (result.low, result.high) == wilson_interval(0, 40)


def test_a_perfect_mean_over_classes_counts_the_groups_of_the_smallest_class() -> None:
    truth = np.repeat([0, 1], [30, 10])
    result, _ = measure(OVERALL_METRICS["balanced_accuracy"], truth, one_hot(truth), np.arange(40) // 2, resamples=200, seed=0)
    assert (result.low, result.high) == wilson_interval(5, 5)
    assert result.method == "Wilson, 5 groups of the smallest class"


@pytest.mark.parametrize("name", ["auc_macro", "auc_weighted", "matthews_correlation"])
def test_other_perfect_scores_say_that_their_interval_is_not_estimable(name: str) -> None:
    truth = np.repeat([0, 1], [30, 10])
    result, _ = measure(OVERALL_METRICS[name], truth, one_hot(truth), np.arange(40), resamples=200, seed=0)
    assert (result.value, result.low, result.high, result.method) == (1.0, None, None, "no interval")
    assert "all resamples agree" in result.note


def test_a_single_group_has_no_interval() -> None:
    truth = np.zeros(5, dtype=np.int64)
    result, _ = measure(
        OVERALL_METRICS["accuracy"], truth, one_hot([0, 0, 0, 1, 1]), np.zeros(5, dtype=int), resamples=50, seed=0
    )
    assert (result.value, result.low, result.high, result.groups) == (0.6, None, None, 1)
    assert "single group" in result.note


def test_a_class_in_a_single_group_is_a_caveat() -> None:
    truth = np.array([0] * 10 + [1] * 3)
    predicted = [0] * 8 + [1] * 2 + [1] * 3
    groups = np.array([*range(10), 99, 99, 99])
    result, _ = measure(OVERALL_METRICS["balanced_accuracy"], truth, one_hot(predicted), groups, resamples=200, seed=0)
    assert result.low is not None
    assert "too narrow" in result.note


def simple_design() -> tuple[Design, npt.NDArray[np.bool_]]:
    return sampling_design(np.zeros(10, dtype=np.int64), np.arange(10)), np.ones(10, dtype=np.bool_)


@pytest.mark.parametrize(("missing", "estimable"), [(0, True), (5, True), (6, False), (100, False)])
def test_at_most_one_resample_in_twenty_may_be_without_a_value(missing: int, estimable: bool) -> None:
    design, images = simple_design()
    draws = np.linspace(0.2, 0.8, 100)
    draws[:missing] = np.nan
    result = estimate(CLASS_METRICS["positive_predictive_value"], 0.5, draws, images=images, design=design)
    assert result.value == 0.5
    assert (result.low is not None) is estimable
    assert (result.high is not None) is estimable
    assert (f"{missing} of 100 resamples" in result.note) is (missing > 0)


def test_a_value_that_is_not_estimable_is_none_with_the_reason() -> None:
    design, images = simple_design()
    result = estimate(CLASS_METRICS["sensitivity"], math.nan, np.full(9, np.nan), images=~images, design=design)
    assert result == Estimate(None, None, None, 0, 0, "no interval", "not estimable: no image of this class")


def test_the_interval_is_the_percentiles_of_the_resamples() -> None:
    design, images = simple_design()
    draws = np.arange(1001) / 1000
    result = estimate(OVERALL_METRICS["auc_macro"], 0.5, draws, images=images, design=design)
    assert (result.low, result.high) == pytest.approx((0.025, 0.975))


def test_all_resamples_of_a_small_set_are_as_likely_as_they_should_be() -> None:
    design = sampling_design(np.zeros(3, dtype=np.int64), np.arange(3))
    (weights,) = bootstrap_weights(design, resamples=27_000, seed=3)
    expected = {times: 0 for times in itertools.product(range(4), repeat=3) if sum(times) == 3}
    for drawn in itertools.product(range(3), repeat=3):
        expected[tuple(drawn.count(group) for group in range(3))] += 1000
    for times, number in expected.items():
        assert (weights == times).all(axis=1).sum() == pytest.approx(number, rel=0.12)
