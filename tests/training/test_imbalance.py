import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.imbalance import balanced_set, class_weights, epoch_order, turned

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
FILLED = st.sampled_from(["sampling", "rotations"])


def test_class_weights_make_every_class_count_the_same():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = class_weights(labels, 3)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, [6 / 9, 6 / 3, 6 / 6])
    totals = [float(weights[label] * (labels == label).sum()) for label in range(3)]
    assert totals == pytest.approx([2.0, 2.0, 2.0])


# ---------------------------------------------------------------------------------------------------- balanced sets


@given(LABELS, FILLED, st.integers(0, 5))
def test_every_class_is_as_large_as_the_largest_and_everybody_is_there(labels, imbalance, seed):
    found = balanced_set(labels, imbalance, seed=seed)
    counts = np.bincount(labels[found.positions])
    assert set(counts[counts > 0]) == {np.bincount(labels).max()}
    np.testing.assert_array_equal(found.positions[: len(labels)], np.arange(len(labels)))
    assert not found.turns[: len(labels)].any(), "the originals come first, as they are"
    assert found.positions.min() >= 0 and found.positions.max() < len(labels)
    assert found.turns.shape == found.positions.shape and set(found.turns) <= {0, 1, 2, 3}
    assert imbalance == "rotations" or not found.turns.any()


@given(LABELS, FILLED)
def test_no_image_comes_much_more_often_than_another_of_its_class(labels, imbalance):
    found = balanced_set(labels, imbalance, seed=0)
    for label in np.unique(labels):
        times = np.bincount(found.positions, minlength=len(labels))[labels == label]
        assert np.ptp(times) <= 1


@given(LABELS)
def test_no_turned_copy_comes_again_before_all_four_turns_were_there(labels):
    found = balanced_set(labels, "rotations", seed=0)
    for position in range(len(labels)):
        times = np.bincount(found.turns[found.positions == position], minlength=4)
        assert np.ptp(times) <= 1


@given(LABELS, FILLED, st.integers(0, 5))
def test_the_same_seed_gives_the_same_set(labels, imbalance, seed):
    first, again = (balanced_set(labels, imbalance, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.turns, again.turns)


def test_another_seed_gives_another_set():
    labels = np.repeat([0, 1], [50, 20])
    for imbalance in ("sampling", "rotations"):
        first, other = (balanced_set(labels, imbalance, seed=seed).positions for seed in (0, 1))
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("imbalance", [None, "none", "weights"])
def test_other_answers_leave_the_set_alone(imbalance):
    found = balanced_set(np.array([0, 0, 0, 1]), imbalance, seed=0)
    assert found.positions.tolist() == [0, 1, 2, 3] and found.turns.tolist() == [0, 0, 0, 0]


# ---------------------------------------------------------------------------------------------------- turns


def test_images_are_turned_counterclockwise_each_by_its_own_turns():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 7, 3), dtype=np.uint8)
    before = pixels.copy()
    turns = np.array([2, 0, 1, 3, 1])
    found = turned(pixels, turns)
    assert found.dtype == np.uint8
    for image, turn, result in zip(before, turns, found, strict=True):
        np.testing.assert_array_equal(result, np.rot90(image, turn))
    np.testing.assert_array_equal(pixels, before)
    corner = np.zeros((1, 4, 4, 1), np.uint8)
    corner[0, 0, 3] = 1  # above on the right: a quarter turn counterclockwise takes it to the left
    assert turned(corner, np.array([1]))[0, 0, 0, 0] == 1


# ---------------------------------------------------------------------------------------------------- order of an epoch


@given(LABELS, st.sampled_from([None, "none", "weights", "rotations"]))
def test_without_sampling_everybody_comes_once(labels, imbalance):
    order = epoch_order(labels, imbalance, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(labels)))


def test_sampling_draws_every_class_equally_often_in_expectation():
    labels = np.repeat([0, 2, 3], [900, 90, 10])
    drawn = np.concatenate([labels[epoch_order(labels, "sampling", np.random.default_rng(seed))] for seed in range(20)])
    assert len(drawn) == 20_000
    # The deviation of a share is sqrt(1/3 * 2/3 / 20,000) = 0.0033.
    np.testing.assert_allclose(np.bincount(drawn)[[0, 2, 3]] / len(drawn), 1 / 3, atol=0.014)


def test_sampling_of_equal_classes_shows_everybody_once():
    order = epoch_order(np.repeat([0, 1], 30), "sampling", np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(60))
