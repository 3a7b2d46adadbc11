"""Where maps point, by chance or not: the first half of the shortcut hunt."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vitrail.explanation.hunting.places import FALSE_ALARMS, _lower, region_shares

PLACES = tuple(f"place {number}" for number in range(8))


def verdicts(shares, areas, classes, groups):
    """The verdict of every part and class; ``shares`` of shape (parts, images)."""
    ours, chance = (dict(zip(PLACES, np.broadcast_to(one, shares.shape), strict=True)) for one in (shares, areas))
    found = region_shares(ours, chance, None, classes, groups, ("no", "yes"), resamples=2, seed=0)
    return [one.above_chance for one in found]


def test_the_lower_end_is_that_of_a_t_test_of_the_groups_means():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), generator.integers(1, 5, 12))
    values = generator.normal(0.1, 0.3, len(groups)) + generator.normal(0, 0.2, 12)[groups]
    means = [values[groups == group].mean() for group in range(12)]
    for tests in (1, 24):
        expected = stats.ttest_1samp(means, 0, alternative="greater").confidence_interval(1 - FALSE_ALARMS / tests).low
        assert _lower(values, groups, tests=tests) == pytest.approx(expected)


def test_maps_that_point_nowhere_are_said_to_point_somewhere_as_seldom_as_the_interval_promises():
    generator, classes, groups = np.random.default_rng(1), np.arange(24) % 2, np.arange(24)
    hunts = 120
    false = sum("yes" in verdicts(generator.normal(0.2, 0.05, (8, 24)), 0.2, classes, groups) for _ in range(hunts))
    assert false / hunts <= FALSE_ALARMS + 0.05


def test_maps_that_point_somewhere_are_still_said_to():
    generator, classes = np.random.default_rng(2), np.arange(24) % 2
    shares = generator.normal(0.2, 0.05, (8, 24))
    shares[3] += 0.15 * (classes == 1)
    found = verdicts(shares, 0.2, classes, np.arange(24))
    assert [number for number, one in enumerate(found) if one == "yes"] in ([11], [9, 11])  # of "yes"; of all images, perhaps
    assert set(verdicts(shares, 0.2, classes, np.arange(24) // 4)) == {"not estimable"}
