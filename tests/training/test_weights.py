"""Weights of ensembles against brute force, and what must hold for any scores."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from vitrail.training.weights import ROUNDS, SMALLEST_GAIN, choose_weights, greedy_weights, mixed


def drawn(seed, *, images=30, members=3, classes=3, skill=1.0):
    """Truth and scores of members of unlike skill."""
    generator = np.random.default_rng(seed)
    truth = generator.permutation(np.arange(images) % classes)
    scores = {}
    for number in range(members):
        logits = generator.normal(size=(images, classes)) + skill * (number + 1) / members * 2 * np.eye(classes)[truth]
        scores[f"m{number}"] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, scores


def loss(truth, scores, weights):
    return log_loss(truth, sum(weights[name] * scores[name] for name in scores), labels=range(3))


def oracle(truth, scores, rounds=ROUNDS):
    """Greedy selection as the paper tells it, list by list, with the metric of scikit-learn."""
    chosen, tried = [], []
    for _ in range(rounds):
        options = {name: np.mean([scores[one] for one in [*chosen, name]], axis=0) for name in sorted(scores)}
        losses = {name: log_loss(truth, option, labels=range(3)) for name, option in options.items()}
        chosen.append(min(losses, key=losses.get))
        tried.append((losses[chosen[-1]], list(chosen)))
    lowest = min(found for found, _ in tried)
    kept = next(names for found, names in tried if found <= lowest + SMALLEST_GAIN)
    return {name: kept.count(name) / len(kept) for name in sorted(scores)}


@pytest.mark.parametrize("seed", range(5))
def test_the_selection_is_that_of_the_paper(seed):
    truth, scores = drawn(seed)
    assert greedy_weights(truth, scores) == pytest.approx(oracle(truth, scores))


@pytest.mark.parametrize("seed", range(5))
def test_no_weights_in_tenths_do_much_better(seed):
    truth, scores = drawn(seed)
    every = [
        dict(zip(scores, (a / 10, b / 10, (10 - a - b) / 10), strict=True))
        for a, b in itertools.product(range(11), repeat=2)
        if a + b <= 10
    ]
    best = min(loss(truth, scores, weights) for weights in every)
    found = loss(truth, scores, greedy_weights(truth, scores))
    assert found <= best + 0.01
    assert found <= min(loss(truth, scores, {**dict.fromkeys(scores, 0), name: 1}) for name in scores)


@given(seed=st.integers(0, 10_000), order=st.permutations(["m0", "m1", "m2", "m3"]), images=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_weights_sum_to_one_and_the_order_of_the_members_does_not_matter(seed, order, images):
    truth, scores = drawn(seed, images=images, members=4)
    groups = np.arange(images)
    found = choose_weights(truth, groups, scores, resamples=200, seed=0)
    assert sum(found.weights.values()) == pytest.approx(1) and min(found.weights.values()) >= 0
    again = choose_weights(truth, groups, {name: scores[name] for name in order}, resamples=200, seed=0)
    assert again == found
    np.testing.assert_array_equal(mixed(scores, found.weights), mixed({name: scores[name] for name in order}, found.weights))
    np.testing.assert_allclose(mixed(scores, found.weights).sum(axis=1), 1)


def test_a_member_that_only_harms_gets_no_weight_where_there_is_enough_to_tell():
    truth, scores = drawn(0, images=300)
    scores["bad"] = np.roll(np.eye(3)[truth], 1, axis=1) * 0.98 + 0.02 / 3
    found = choose_weights(truth, np.arange(300), scores, resamples=500, seed=0)
    assert found.greedy and found.weights == found.selected and found.weights["bad"] == 0
    assert found.gain.after < found.gain.before


def test_few_images_get_equal_weights():
    truth, scores = drawn(0, images=24)
    scores["bad"] = np.roll(np.eye(3)[truth], 1, axis=1) * 0.98 + 0.02 / 3
    found = choose_weights(truth, np.arange(24), scores, resamples=500, seed=0)
    assert not found.greedy and set(found.weights.values()) == {0.25} and found.selected["bad"] == 0


def test_members_that_are_alike_mostly_get_equal_weights():
    """Of exchangeable members one is always luckier on the images at hand; that is called a gain in a few of a hundred cases."""
    chosen = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        truth = generator.permutation(np.arange(90) % 3)
        common = generator.normal(size=(90, 3)) + 2 * np.eye(3)[truth]
        raised = {name: np.exp(common + 0.5 * generator.normal(size=(90, 3))) for name in "abc"}
        like = {name: values / values.sum(axis=1, keepdims=True) for name, values in raised.items()}
        chosen.append(choose_weights(truth, np.arange(90), like, resamples=300, seed=0))
    assert sum(found.greedy for found in chosen) <= 2
    assert sum(found.selected != found.weights for found in chosen) >= 15, "the selection alone would have followed its luck"
