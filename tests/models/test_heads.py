import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vitrail.errors import PackageError
from vitrail.models import DenseHead, forest
from vitrail.models.heads import EstimatorHead, load_head
from vitrail.study import ForestSettings

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


def head_and_module(widths, activation, *, seed=0):
    """The same dense layers, once in numpy and once in torch (double precision), with large weights."""
    generator = np.random.default_rng(seed)
    weights = [generator.normal(0, 1, (wide, narrow)).astype(np.float32) for narrow, wide in itertools.pairwise(widths)]
    biases = [generator.normal(0, 1, wide).astype(np.float32) for wide in widths[1:]]
    layers = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.load_state_dict({"weight": torch.from_numpy(weight).double(), "bias": torch.from_numpy(bias).double()})
        layers += [layer, ACTIVATIONS[activation]()]
    return DenseHead(tuple(weights), tuple(biases), activation), nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
def test_a_dense_head_is_what_torch_says(activation, hidden):
    head, module = head_and_module((6, *hidden, 3), activation)
    embedding = np.random.default_rng(1).normal(0, 2, (5, 6)).astype(np.float32)
    with torch.no_grad():
        logits = module(torch.from_numpy(embedding).double())
    np.testing.assert_allclose(head.logits(embedding), logits.numpy(), rtol=1e-12, atol=1e-12)
    scores = head.scores(embedding)
    np.testing.assert_allclose(scores, logits.softmax(dim=1).numpy(), rtol=1e-12, atol=1e-15)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(activation=st.sampled_from(sorted(ACTIVATIONS)), hidden=st.sampled_from([(), (7,), (7, 4)]), seed=st.integers(0, 10_000))
def test_its_gradient_is_what_autograd_says(activation, hidden, seed):
    head, module = head_and_module((6, *hidden, 3), activation, seed=seed)
    embedding = np.random.default_rng(seed + 1).normal(0, 1, 6).astype(np.float32)
    for target in range(3):
        vector = torch.from_numpy(embedding).double()[None].requires_grad_()
        (expected,) = torch.autograd.grad(module(vector)[0, target], vector)
        gradient = head.gradient(embedding, target)
        assert gradient.shape == (6,) and gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, expected[0].numpy(), rtol=1e-5, atol=1e-6)


def test_scores_stay_finite_for_extreme_logits():
    head = DenseHead((np.array([[1e4], [-1e4]], np.float32),), (np.zeros(2, np.float32),), "relu")
    np.testing.assert_array_equal(head.scores(np.ones((1, 1), np.float32)), [[1.0, 0.0]])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_head_comes_back_from_disk(activation, tmp_path):
    head, _ = head_and_module((6, 5, 3), activation)
    again = load_head(tmp_path, head.save(tmp_path))
    embedding = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    np.testing.assert_array_equal(again.scores(embedding), head.scores(embedding))
    np.testing.assert_array_equal(again.gradient(embedding[0], 1), head.gradient(embedding[0], 1))


def test_unknown_activations_and_kinds_are_refused_by_name(tmp_path):
    with pytest.raises(PackageError, match=r"'swish'.*relu, tanh, sigmoid, gelu"):
        head_and_module((2, 2, 2), "relu")[0].__class__((np.eye(2),) * 2, (np.zeros(2),) * 2, "swish").scores(np.ones((1, 2)))
    with pytest.raises(PackageError, match=r"head 'quantum'.*dense, estimator, trees"):
        load_head(tmp_path, {"kind": "quantum"})


# ---------------------------------------------------------------------------------------------------- forest


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("levels", [3, 256])
def test_a_forest_scores_as_scikit_learn_does(classes, levels, tmp_path):
    from sklearn.ensemble import RandomForestClassifier

    # Grey levels as features: held-out values fall on the very thresholds between the training values.
    generator = np.random.default_rng(0)
    vectors = (generator.integers(0, levels, (160, 9)) / 255).astype(np.float32)
    labels = np.where(
        np.arange(160) < classes, np.arange(160) % classes, (vectors[:, 0] * 2 * 255 / levels).astype(int) % classes
    )
    asked = ForestSettings(trees=25, max_depth=6, min_samples_split=4, max_features="log2")

    head, nodes = forest.fit(asked, vectors[:80], labels[:80], groups=np.arange(len(vectors[:80])), class_weights=True, seed=3)

    oracle = RandomForestClassifier(
        25, max_depth=6, min_samples_split=4, max_features="log2", class_weight="balanced", random_state=3
    ).fit(vectors[:80], labels[:80])
    expected = oracle.predict_proba(vectors[80:])
    np.testing.assert_allclose(head.scores(vectors[80:]), expected, atol=2e-6)
    assert np.ptp(expected) > 0.5
    assert nodes == sum(tree.tree_.node_count for tree in oracle.estimators_)
    again = load_head(tmp_path, head.save(tmp_path))
    np.testing.assert_array_equal(again.scores(vectors[80:]), head.scores(vectors[80:]))


def test_a_forest_from_before_estimators_is_still_read(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    head, _ = forest.fit(
        ForestSettings(trees=12), vectors, np.arange(40) % 2, groups=np.arange(len(vectors)), class_weights=False, seed=0
    )
    head.save(tmp_path)
    again = load_head(tmp_path, {"kind": "trees", "trees": 12})
    np.testing.assert_array_equal(again.scores(vectors), head.scores(vectors))
    assert again.step == head.step == 3 / 12


def test_a_share_of_the_features_may_be_tried_per_split():
    from sklearn.ensemble import RandomForestClassifier

    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    labels = (vectors[:, 0] > 0).astype(np.int64)
    asked = ForestSettings(trees=5, max_features=1)  # the whole share, not one feature
    head, _ = forest.fit(asked, vectors, labels, groups=np.arange(len(vectors)), class_weights=False, seed=0)
    oracle = RandomForestClassifier(5, max_features=1.0, random_state=0).fit(vectors, labels)
    np.testing.assert_allclose(head.scores(vectors), oracle.predict_proba(vectors), atol=1e-6)


def test_a_forest_is_grown_from_its_seed():
    vectors = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    labels = np.arange(40) % 2
    first, again, other = (
        forest.fit(ForestSettings(trees=5), vectors, labels, groups=np.arange(len(vectors)), class_weights=True, seed=seed)[
            0
        ].scores(vectors)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_a_damaged_forest_is_refused():
    with pytest.raises(PackageError, match=r"head\.onnx"):
        EstimatorHead(b"no graph", 0.0).scores(np.zeros((1, 2), np.float32))
