from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control
from scipy.stats.contingency import association, crosstab

from vitrail.audit.association import adjusted, cramers_v


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_adjusted_p_values_are_those_of_scipy(p_values):
    assert adjusted(p_values) == pytest.approx(false_discovery_control(p_values).tolist(), abs=1e-12)


def test_cramers_v_of_many_cases_is_that_of_scipy():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 20_000)
    second = np.where(rng.random(20_000) < 0.6, first, rng.integers(0, 4, 20_000))
    assert cramers_v(first, second) == pytest.approx(association(crosstab(first, second).count, method="cramer"), abs=0.005)


def test_cramers_v_is_zero_for_chance_and_one_for_certainty():
    rng = np.random.default_rng(1)
    first = np.arange(60) % 3
    by_chance = [cramers_v(first, rng.integers(0, 8, 60)) for _ in range(100)]
    assert np.mean(by_chance) < 0.12
    assert cramers_v(first, 5 + 2 * first) == pytest.approx(1.0)
    assert cramers_v(first % 2, np.arange(60) % 6) > 0.95  # label follows from one of six sources
    assert cramers_v(first, np.zeros(60, dtype=int)) == 0.0
