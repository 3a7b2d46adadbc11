"""What is trained is what serves: packed estimators against scikit-learn, for every row, also exactly at the thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.svm import SVC

from vitrail.models import boosted, estimators
from vitrail.models.estimators import standardised, to_onnx
from vitrail.models.heads import EstimatorHead
from vitrail.models.svm_graph import svm_to_onnx
from vitrail.study import BoostedSettings

WORST = 1e-5


def rows_like(kind, count, *, seed):
    """Rows of features as they come: spread evenly; few values, many times; neighbours in single precision; far from zero."""
    generator = np.random.default_rng(seed)
    spread = generator.normal(size=(count, 6))
    match kind:
        case "few values":
            return (generator.integers(0, 4, (count, 6)) / 7).astype(np.float32)
        case "neighbours":
            first = np.float32(100.1)  # where neighbours are far enough from each other for a forest to part them
            return (first + np.arange(5, dtype=np.float32) * np.spacing(first))[generator.integers(0, 5, (count, 6))]
        case "far from zero":
            return (1000 + 1e-3 * spread).astype(np.float32)
        case "huge and tiny":
            return (spread * np.geomspace(1e-30, 1e30, 6)).astype(np.float32)
    return spread.astype(np.float32)


def labels_of(rows, classes, *, seed):
    """Labels that follow from the rows but for a fifth of them."""
    generator = np.random.default_rng(seed)
    ranks = np.argsort(np.argsort(rows[:, 0].astype(float) + rows[:, 1] + 1e-9 * generator.normal(size=len(rows))))
    labels = ranks * classes // len(rows)
    return np.where(generator.random(len(rows)) < 0.2, generator.integers(0, classes, len(rows)), labels)


def at_the_thresholds(rows, thresholds):
    """Rows in which one feature is at a threshold rounded down, and its two neighbours; ``thresholds``: feature, value."""
    made = []
    for number, (feature, value) in enumerate(thresholds):
        nearest = np.float32(min(value, np.finfo(np.float32).max))
        for one in (nearest, np.nextafter(nearest, np.float32(-np.inf)), np.nextafter(nearest, np.float32(np.inf))):
            row = rows[number % len(rows)].copy()
            row[feature] = one
            made.append(row)
    return np.array(made, dtype=np.float32)


def thresholds_of(fitted):
    if hasattr(fitted, "_predictors"):
        nodes = np.concatenate([tree.nodes for of_round in fitted._predictors for tree in of_round])
        inner = nodes[nodes["is_leaf"] == 0]
        return list(zip(inner["feature_idx"].tolist(), inner["num_threshold"].tolist(), strict=True))
    trees = [tree.tree_ for tree in fitted.estimators_]
    return [
        (int(feature), float(value))
        for tree in trees
        for feature, value, left in zip(tree.feature, tree.threshold, tree.children_left, strict=True)
        if left >= 0
    ]


TREES = {
    "boosted": HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.3, max_leaf_nodes=8, min_samples_leaf=3, early_stopping=False
    ),
    "forest": RandomForestClassifier(30, random_state=0),
    "extra trees": ExtraTreesClassifier(30, random_state=0),
}


@pytest.mark.parametrize("kind", ["even", "few values", "neighbours", "far from zero", "huge and tiny"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("family", TREES)
def test_packed_trees_decide_as_in_scikit_learn_for_every_row(family, classes, kind):
    from sklearn.base import clone

    rows = rows_like(kind, 400, seed=0)
    fitted = clone(TREES[family]).fit(rows, labels_of(rows, classes, seed=1))
    head = EstimatorHead(to_onnx(fitted, rows.shape[1]), 0.0)
    found = thresholds_of(fitted)
    assert found
    asked = np.concatenate([rows, rows_like(kind, 4000, seed=2), at_the_thresholds(rows, found)])
    np.testing.assert_allclose(head.scores(asked), fitted.predict_proba(asked), rtol=0, atol=WORST)


def test_values_that_are_missing_go_the_same_way():
    generator = np.random.default_rng(0)
    rows = rows_like("even", 400, seed=0)
    labels = labels_of(rows, 2, seed=1)
    rows[generator.random(rows.shape) < 0.1] = np.nan
    fitted = HistGradientBoostingClassifier(max_iter=40, early_stopping=False).fit(rows, labels)
    head = EstimatorHead(to_onnx(fitted, 6), 0.0)
    np.testing.assert_allclose(head.scores(rows), fitted.predict_proba(rows), rtol=0, atol=WORST)


def test_a_graph_of_trees_that_is_written_in_another_way_is_refused(monkeypatch):
    rows = rows_like("even", 100, seed=0)
    fitted = RandomForestClassifier(3, random_state=0).fit(rows, labels_of(rows, 2, seed=1))
    monkeypatch.setattr(estimators, "_nodes", lambda _: {"nodes_values": [0.0]})
    with pytest.raises(RuntimeError, match="one list nodes_values of 1 numbers; found lists of"):
        to_onnx(fitted, 6)
    monkeypatch.setattr(estimators, "_nodes", lambda _: {"nodes_thresholds": [0.0]})
    with pytest.raises(RuntimeError, match=r"found lists of \[\] numbers"):
        to_onnx(fitted, 6)


@pytest.mark.parametrize("components", [None, 4])
@pytest.mark.parametrize("kind", ["even", "few values", "far from zero"])
def test_boosted_trees_serve_as_they_were_trained(kind, components):
    """Through the family: the same trees grown by hand on what the steps before them give, and every row scored alike."""
    rows = rows_like(kind, 400, seed=0)
    labels = labels_of(rows, 3, seed=1)
    asked = BoostedSettings(rounds=60, leaves=8, min_samples_leaf=3, learning_rate=0.3, components=components)
    head, _ = boosted.fit(asked, rows, labels, groups=np.arange(len(rows)), class_weights=False, seed=0)
    exact = rows.astype(np.float64)

    def seen(vectors):
        if components is None:
            return vectors
        scaled = (vectors.astype(np.float64) - exact.mean(axis=0)) / exact.std(axis=0)
        return (scaled @ axes).astype(np.float32)

    if components is not None:
        from sklearn.decomposition import PCA

        axes = PCA(components, random_state=0).fit((exact - exact.mean(axis=0)) / exact.std(axis=0)).components_.T
    by_hand = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=3,
        learning_rate=0.3,
        l2_regularization=asked.l2,
        early_stopping=False,
        random_state=0,
    ).fit(seen(rows), labels)
    others = np.concatenate([rows, rows_like(kind, 4000, seed=2)])
    np.testing.assert_allclose(head.scores(others), by_hand.predict_proba(seen(others)), rtol=0, atol=WORST)


@pytest.mark.parametrize("components", [None, 4])
def test_an_image_alone_scores_as_among_others(components):
    rows = rows_like("few values", 400, seed=0)
    labels = labels_of(rows, 3, seed=1)
    asked = BoostedSettings(rounds=60, leaves=8, min_samples_leaf=3, learning_rate=0.3, components=components)
    head, _ = boosted.fit(asked, rows, labels, groups=np.arange(len(rows)), class_weights=False, seed=0)
    together = head.scores(rows)
    alone = np.concatenate([head.scores(row[np.newaxis]) for row in rows])
    np.testing.assert_allclose(alone, together, rtol=0, atol=WORST)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("components", [None, 4])
@pytest.mark.parametrize("kind", ["even", "few values", "far from zero"])
@pytest.mark.parametrize("classes", [2, 4])
def test_packed_support_vectors_score_as_in_scikit_learn_for_every_row(classes, kind, components, kernel):
    rows = rows_like(kind, 300, seed=0)
    labels = labels_of(rows, classes, seed=1)
    before = standardised(rows, components=components, seed=0)
    fitted = CalibratedClassifierCV(SVC(C=10, kernel=kernel), cv=3, ensemble=False).fit(before.apply(rows), labels)
    head = EstimatorHead(svm_to_onnx(fitted, before), 0.0)
    asked = np.concatenate([rows, rows_like(kind, 2000, seed=2)])
    np.testing.assert_allclose(head.scores(asked), fitted.predict_proba(before.apply(asked)), rtol=0, atol=WORST)
