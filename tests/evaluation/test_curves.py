"""The ROC curve against scikit-learn and against the AUC."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from vitrail.evaluation import CLASS_METRICS, roc_curve


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=30))
def test_the_curve_is_scikit_learns_and_its_area_is_the_auc(images: list[tuple[bool, int]]) -> None:
    truth = np.array([positive for positive, _ in images] + [True, False])
    scores = np.array([score for _, score in images] + [3, 4]) / 8
    curve = roc_curve(truth, scores)
    np.testing.assert_allclose(np.trapezoid(curve.sensitivity, curve.false_positive_rate), oracle.roc_auc_score(truth, scores))
    probabilities = np.column_stack([1 - scores, scores])
    ours = CLASS_METRICS["auc"].compute(truth.astype(np.int64), probabilities, np.ones((1, len(truth))))[0, 1]
    np.testing.assert_allclose(np.trapezoid(curve.sensitivity, curve.false_positive_rate), ours)
    assert (curve.false_positive_rate[0], curve.sensitivity[0]) == (0, 0)
    assert (curve.false_positive_rate[-1], curve.sensitivity[-1]) == (1, 1)
    full = oracle.roc_curve(truth, scores, drop_intermediate=False)
    points = {tuple(point) for point in np.column_stack(full).round(12)}
    assert {tuple(point) for point in np.column_stack(curve).round(12)} <= points


def test_every_threshold_gives_the_rates_beside_it() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(200) < 0.3
    scores = (generator.random(200) + 0.4 * truth).round(1)
    for rate, sensitivity, threshold in zip(*roc_curve(truth, scores), strict=True):
        assert rate == pytest.approx((scores[~truth] >= threshold).mean())
        assert sensitivity == pytest.approx((scores[truth] >= threshold).mean())


def test_points_on_a_straight_line_are_left_out() -> None:
    truth = np.repeat([True, False], 1000)
    scores = np.linspace(1, 0, 2000)
    curve = roc_curve(truth, scores)
    np.testing.assert_array_equal(curve.false_positive_rate, [0, 0, 1])
    np.testing.assert_array_equal(curve.sensitivity, [0, 1, 1])


def test_equal_scores_make_the_diagonal() -> None:
    curve = roc_curve(np.array([True, False, False]), np.full(3, 0.5))
    np.testing.assert_array_equal(curve.sensitivity, [0, 1])
    np.testing.assert_array_equal(curve.thresholds, [np.inf, 0.5])


@pytest.mark.parametrize("truth", [[], [True, True], [False]])
def test_without_both_kinds_of_image_there_is_no_curve(truth: list[bool]) -> None:
    curve = roc_curve(np.array(truth, dtype=np.bool_), np.zeros(len(truth)))
    assert [len(column) for column in curve] == [0, 0, 0]
