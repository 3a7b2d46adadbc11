"""Every metric: the contract, an independent computation, and the answers that are not numbers."""

from __future__ import annotations

import inspect
import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from vitrail.evaluation.metrics import CLASS_METRICS, OVERALL_METRICS, Metric, auc
from vitrail.records import IntArray

Array = npt.NDArray[np.float64]
ALL_METRICS = {**OVERALL_METRICS, **CLASS_METRICS}


def draw(seed: int, *, n: int = 40, classes: int = 3, levels: int = 6) -> tuple[IntArray, Array]:
    """Truth with every class present, and coarse scores, so that many are equal."""
    generator = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes)])
    raw = generator.integers(1, levels, (n, classes)).astype(np.float64)
    raw[np.arange(n), truth] += generator.integers(0, 3, n)
    return truth, raw / raw.sum(axis=1, keepdims=True)


def once(truth: IntArray) -> Array:
    return np.ones((1, len(truth)))


def binary(truth: IntArray, probabilities: Array, number: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    return truth == number, probabilities.argmax(axis=1) == number


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", ALL_METRICS)
def test_a_metric_keeps_the_contract(name: str) -> None:
    metric = ALL_METRICS[name]
    truth, probabilities = draw(3)
    generator = np.random.default_rng(4)
    weights = generator.integers(0, 4, (7, len(truth))).astype(np.float64)
    before = truth.copy(), probabilities.copy(), weights.copy()
    values = metric.compute(truth, probabilities, weights)

    assert values.shape == ((7,) if name in OVERALL_METRICS else (7, 3))
    assert values.dtype == np.float64
    assert ((values >= metric.lowest) & (values <= metric.highest)).all()
    assert all(np.array_equal(now, then) for now, then in zip((truth, probabilities, weights), before, strict=True))

    order = generator.permutation(len(truth))
    np.testing.assert_allclose(metric.compute(truth[order], probabilities[order], weights[:, order]), values, rtol=1e-12)
    np.testing.assert_allclose(metric.compute(truth, probabilities, weights * 3), values, rtol=1e-12)
    for row in range(7):
        np.testing.assert_allclose(metric.compute(truth, probabilities, weights[row : row + 1])[0], values[row], rtol=1e-12)


@pytest.mark.parametrize("name", ALL_METRICS)
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = ALL_METRICS[name]
    assert metric.compute.__name__ == name
    assert "shape (b" in (inspect.getdoc(metric.compute) or "")
    assert metric.title
    assert metric.undefined
    assert metric.lowest < metric.highest


@pytest.mark.parametrize("name", ALL_METRICS)
def test_perfect_scores_reach_the_good_end_of_the_range(name: str) -> None:
    metric = ALL_METRICS[name]
    truth = np.array([0, 1, 2, 2, 1])
    best = metric.highest if metric.higher_is_better else metric.lowest
    values = metric.compute(truth, np.eye(3)[truth], once(truth))
    np.testing.assert_allclose(values, best, atol=1e-12)
    worse = metric.compute(truth, np.eye(3)[(truth + 1) % 3], once(truth))
    assert (worse < best).all() if metric.higher_is_better else (worse > best).all()


@pytest.mark.parametrize("name", ALL_METRICS)
@pytest.mark.parametrize("weight", ["no images", "weights of zero"])
def test_without_images_nothing_is_estimable(name: str, weight: str) -> None:
    truth, probabilities = draw(0)
    weights = np.zeros((2, len(truth)))
    if weight == "no images":
        truth, probabilities, weights = truth[:0], probabilities[:0], weights[:, :0]
    with np.errstate(all="raise"):
        assert np.isnan(ALL_METRICS[name].compute(truth, probabilities, weights)).all()


def test_no_two_metrics_share_a_name() -> None:
    assert not set(OVERALL_METRICS) & set(CLASS_METRICS)


# ---------------------------------------------------------------------------------------------------- independent computations


def sklearn_value(name: str, truth: IntArray, probabilities: Array) -> float | list[float]:
    predicted = probabilities.argmax(axis=1)
    classes = range(probabilities.shape[1])
    one_hot = np.eye(probabilities.shape[1])[truth]
    match name:
        case "accuracy":
            return oracle.accuracy_score(truth, predicted)
        case "balanced_accuracy":
            return oracle.balanced_accuracy_score(truth, predicted)
        case "matthews_correlation":
            return oracle.matthews_corrcoef(truth, predicted)
        case "auc_macro":
            return oracle.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro")
        case "auc_weighted":
            return oracle.roc_auc_score(truth, probabilities, multi_class="ovr", average="weighted")
        case "log_loss":
            return oracle.log_loss(truth, probabilities)
        case "brier_score":
            return float(sum(np.mean((probabilities[:, c] - one_hot[:, c]) ** 2) for c in classes))
        case "sensitivity":
            return [oracle.recall_score(*binary(truth, probabilities, c)) for c in classes]
        case "specificity":
            return [oracle.recall_score(*binary(truth, probabilities, c), pos_label=False) for c in classes]
        case "positive_predictive_value":
            return [oracle.precision_score(*binary(truth, probabilities, c)) for c in classes]
        case "f1_score":
            return [oracle.f1_score(*binary(truth, probabilities, c)) for c in classes]
        case "auc":
            return [oracle.roc_auc_score(truth == c, probabilities[:, c]) for c in classes]
    raise KeyError(f"{name}: add its independent computation here")


@pytest.mark.parametrize("name", ALL_METRICS)
@pytest.mark.parametrize("classes", [3, 5])
def test_a_metric_agrees_with_an_independent_computation(name: str, classes: int) -> None:
    for seed in range(5):
        truth, probabilities = draw(seed, n=50, classes=classes)
        ours = ALL_METRICS[name].compute(truth, probabilities, once(truth))[0]
        np.testing.assert_allclose(ours, sklearn_value(name, truth, probabilities), rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    truth=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    repeats=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    raw=st.lists(st.integers(1, 3), min_size=36, max_size=36),
)
def test_a_whole_weight_is_a_repeated_image(truth: list[int], repeats: list[int], raw: list[int]) -> None:
    labels = np.array(truth)
    scores = np.array(raw, dtype=np.float64).reshape(12, 3)[: len(labels)]
    scores /= scores.sum(axis=1, keepdims=True)
    times = np.array(repeats)[: len(labels)]
    many_labels, many_scores = np.repeat(labels, times), np.repeat(scores, times, axis=0)
    for name, metric in ALL_METRICS.items():
        weighted = metric.compute(labels, scores, times[None, :].astype(np.float64))
        repeated = metric.compute(many_labels, many_scores, once(many_labels))
        np.testing.assert_allclose(weighted, repeated, rtol=1e-12, atol=1e-15, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    positives=st.lists(st.integers(0, 5), min_size=1, max_size=10),
    negatives=st.lists(st.integers(0, 5), min_size=1, max_size=10),
)
def test_auc_is_the_share_of_pairs_in_the_right_order(positives: list[int], negatives: list[int]) -> None:
    pairs = [1.0 if high > low else 0.5 if high == low else 0.0 for high in positives for low in negatives]
    scores = np.array(positives + negatives) / 5
    truth = np.array([1] * len(positives) + [0] * len(negatives))
    measured = auc(truth, np.column_stack([1 - scores, scores]), once(truth))[0]
    assert measured[1] == pytest.approx(math.fsum(pairs) / len(pairs), abs=1e-12)


def test_auc_counts_equal_scores_half() -> None:
    truth = np.array([0, 0, 1, 1, 1])
    np.testing.assert_array_equal(auc(truth, np.full((5, 2), 0.5), once(truth)), [[0.5, 0.5]])


@pytest.mark.parametrize("name", ["auc", "auc_macro", "auc_weighted"])
def test_auc_sees_only_the_order_of_the_scores(name: str) -> None:
    truth, probabilities = draw(8)
    compute = ALL_METRICS[name].compute
    expected = compute(truth, probabilities, once(truth))
    np.testing.assert_array_equal(compute(truth, probabilities**3 / 2, once(truth)), expected)


def test_turned_scores_turn_the_auc() -> None:
    truth, probabilities = draw(9)
    np.testing.assert_allclose(auc(truth, -probabilities, once(truth)), 1 - auc(truth, probabilities, once(truth)))


# ---------------------------------------------------------------------------------------------------- not estimable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sensitivity", [0.5, 1.0, math.nan]),
        ("specificity", [1.0, 1.0, 0.75]),
        ("positive_predictive_value", [1.0, 1.0, math.nan]),
        ("f1_score", [2 / 3, 1.0, math.nan]),
        ("auc", [1.0, 1.0, math.nan]),
    ],
)
def test_an_absent_class_is_not_estimable_and_the_others_are(name: str, expected: list[float]) -> None:
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.4, 0.1, 0.5], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    np.testing.assert_allclose(ALL_METRICS[name].compute(truth, probabilities, once(truth))[0], expected)


@pytest.mark.parametrize("name", ["balanced_accuracy", "auc_macro", "auc_weighted"])
def test_a_mean_over_classes_is_not_estimable_when_one_is_absent(name: str) -> None:
    truth = np.array([0, 0, 1, 1])
    assert np.isnan(ALL_METRICS[name].compute(truth, np.eye(3)[truth], once(truth))[0])


def test_a_class_that_was_never_given_has_no_predictive_value() -> None:
    truth = np.array([0, 1])
    values = ALL_METRICS["positive_predictive_value"].compute(truth, np.array([[0.9, 0.1], [0.8, 0.2]]), once(truth))
    np.testing.assert_array_equal(values, [[0.5, np.nan]])


@pytest.mark.parametrize(("truth", "predicted"), [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [0, 1, 1]), ([1, 1, 1], [1, 1, 1])])
def test_matthews_correlation_needs_two_classes_on_both_sides(truth: list[int], predicted: list[int]) -> None:
    labels = np.array(truth)
    assert np.isnan(ALL_METRICS["matthews_correlation"].compute(labels, np.eye(2)[predicted], once(labels))[0])


def test_one_confident_mistake_does_not_make_the_log_loss_infinite() -> None:
    truth = np.array([0, 1])
    value = ALL_METRICS["log_loss"].compute(truth, np.array([[1.0, 0.0], [1.0, 0.0]]), once(truth))[0]
    assert value == pytest.approx(-math.log(np.finfo(float).eps) / 2)


def test_metrics_are_records_that_cannot_be_changed() -> None:
    metric: Metric = OVERALL_METRICS["accuracy"]
    with pytest.raises(AttributeError):
        metric.title = "other"  # type: ignore[misc]
