"""Boosted trees: the ONNX graph of a package against the same steps by hand in scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vitrail.models import boosted
from vitrail.models.heads import load_head
from vitrail.study import BoostedSettings

SMALL = BoostedSettings(rounds=12, leaves=5, min_samples_leaf=4, components=6)


def examples(classes, *, count=160, width=9):
    """Overlapping classes of unequal size, on features of different scale and one that never changes."""
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(0.4, count) - 1, classes - 1)
    vectors = generator.normal(size=(count, width)) + 1.5 * np.eye(width)[labels]
    vectors[:, -1] = 3
    return (vectors * np.geomspace(0.01, 50, width)).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("components", [None, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_boosted_trees_score_as_scikit_learn_does(classes, components, weighted, tmp_path):
    vectors, labels = examples(classes)
    asked = SMALL.model_copy(update={"components": components, "learning_rate": 0.2, "l2": 0.5})

    head, nodes = boosted.fit(
        asked, vectors[:100], labels[:100], groups=np.arange(len(vectors[:100])), class_weights=weighted, seed=3
    )

    training, held_out = vectors[:100], vectors[100:]
    if components:
        reduction = make_pipeline(StandardScaler(), PCA(components, random_state=3)).fit(training.astype(float))
        training, held_out = (reduction.transform(part.astype(float)).astype(np.float32) for part in (training, held_out))
    oracle = HistGradientBoostingClassifier(
        max_iter=12,
        learning_rate=0.2,
        max_leaf_nodes=5,
        min_samples_leaf=4,
        l2_regularization=0.5,
        early_stopping=False,
        class_weight="balanced" if weighted else None,
        random_state=3,
    ).fit(training, labels[:100])
    expected = oracle.predict_proba(held_out)
    np.testing.assert_allclose(head.scores(vectors[100:]), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.5
    trees = 12 * (1 if classes == 2 else classes)
    assert trees < nodes <= trees * (2 * 5 - 1), "a tree of n leaves has 2n - 1 nodes"
    again = load_head(tmp_path, head.save(tmp_path))
    np.testing.assert_array_equal(again.scores(vectors), head.scores(vectors))
    assert again.step == head.step


def test_more_components_than_images_or_features_are_as_many_as_there_are():
    vectors, labels = examples(3, count=30)
    wide, most = (
        boosted.fit(
            SMALL.model_copy(update={"components": number}),
            vectors,
            labels,
            groups=np.arange(len(vectors)),
            class_weights=False,
            seed=0,
        )[0]
        for number in (64, 9)
    )
    np.testing.assert_array_equal(wide.scores(vectors), most.scores(vectors))


def test_all_rounds_are_used_and_the_seed_decides():
    vectors, labels = examples(3)
    (first, nodes), (again, _) = (
        boosted.fit(SMALL, vectors, labels, groups=np.arange(len(vectors)), class_weights=True, seed=1) for _ in range(2)
    )
    np.testing.assert_array_equal(first.scores(vectors), again.scores(vectors))
    half = boosted.fit(
        SMALL.model_copy(update={"rounds": 6}), vectors, labels, groups=np.arange(len(vectors)), class_weights=True, seed=1
    )
    assert half[1] < nodes


def test_weights_help_the_small_class():
    generator = np.random.default_rng(0)
    labels = (np.arange(200) < 20).astype(np.int64)
    vectors = (generator.normal(size=(200, 4)) + labels[:, None]).astype(np.float32)
    plain, weighted = (
        boosted.fit(
            SMALL.model_copy(update={"rounds": 5}),
            vectors,
            labels,
            groups=np.arange(len(vectors)),
            class_weights=weighted,
            seed=0,
        )[0].scores(vectors)
        for weighted in (False, True)
    )
    assert weighted[:, 1].mean() > plain[:, 1].mean() + 0.1


def test_the_step_is_what_three_usual_trees_can_move():
    vectors, labels = examples(2)
    slow, fast = (
        boosted.fit(
            SMALL.model_copy(update={"learning_rate": rate, "rounds": 1}),
            vectors,
            labels,
            groups=np.arange(len(vectors)),
            class_weights=False,
            seed=0,
        )[0]
        for rate in (0.01, 0.1)
    )
    assert 0 < slow.step < fast.step <= 1
    assert fast.step == pytest.approx(10 * slow.step)
    scores = fast.scores(vectors)[:, 1]
    assert np.ptp(scores) <= fast.step, "one tree moves less than three may"


def test_its_line_says_what_it_stands_on():
    assert boosted.describe(BoostedSettings(rounds=50, components=32)) == (
        "gradient-boosted trees, 50 rounds on HOG + texture (32 principal components)"
    )
    assert boosted.describe(BoostedSettings(rounds=50, components=None, features=("pixels",))).endswith("on grey pixels")
