"""Where methods agree: against an independent computation, and what is left out of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from vitrail.errors import UsageError
from vitrail.explanation import agreement_of
from vitrail.records import Explanation, MapGrade

SIDE = 28
"""Twice as many pixels as cells along a side: a cell is the mean of 2 x 2 pixels."""


def explanation(method: str, values: np.ndarray, **more) -> Explanation:
    return Explanation("scan.png", "m", method, "yes", 0.9, values.astype(np.float32), (), **more)


def noise(number: int, *, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(number).normal(size=(side, side))


def cells(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).astype(np.float64).reshape(14, 2, 14, 2).mean(axis=(1, 3))


def test_shares_and_rank_correlations_are_those_of_the_definition():
    maps = {f"method {number}": noise(number) for number in range(4)}
    maps["method 3"] = maps["method 0"] + 0.3 * maps["method 3"]
    found = agreement_of([explanation(name, values) for name, values in maps.items()])
    expected = np.zeros((14, 14))
    for values in maps.values():
        order = np.argsort(-cells(values).ravel())
        expected.ravel()[order[:20]] += 1 / 4  # a tenth of 196 cells
    np.testing.assert_allclose(found.shares, np.kron(expected, np.ones((2, 2))), atol=1e-6)
    assert (
        found.n == 4 and found.cells == (14, 14) and found.chance == pytest.approx(20 / 196) == pytest.approx(found.shares.mean())
    )
    matrix = np.array(found.rank_correlations)
    wanted = spearmanr(np.stack([cells(values).ravel() for values in maps.values()], axis=1)).statistic
    np.testing.assert_allclose(matrix, wanted, atol=1e-9)
    assert found.mean_rank_correlation == pytest.approx(wanted[np.triu_indices(4, 1)].mean())


def test_only_what_raises_the_class_is_a_top_and_equal_cells_count_all():
    few, flat = -np.ones((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    few[:2, :4] = 1.0
    flat[:14] = 1.0
    found = agreement_of([explanation("few", few), explanation("flat", flat)])
    assert (found.shares[:2, :4] == 1).all() and (found.shares[14:] == 0).all()
    assert (found.shares[2:14] == 0.5).all()
    assert "at most 2 of 2 have the same place in their top 10%" in found.words


def test_what_no_model_saw_is_no_part_of_the_comparison():
    maps = [np.zeros((40, 60)) for _ in range(2)]
    for number, values in enumerate(maps):
        values[6:34, 16:44] = noise(number)
    found = agreement_of([explanation(f"method {number}", values) for number, values in enumerate(maps)])
    alone = agreement_of([explanation(f"method {number}", noise(number)) for number in range(2)])
    np.testing.assert_array_equal(found.shares[6:34, 16:44], alone.shares)
    assert found.shares.shape == (40, 60) and found.shares.sum() == alone.shares.sum() and found.chance == alone.chance
    assert found.rank_correlations == alone.rank_correlations


def test_maps_that_answer_another_question_or_hold_nothing_are_left_out_and_named():
    grey = MapGrade(0.0, (0.0,), 0.5, False, "This map is no better than chance.")
    found = agreement_of(
        [
            explanation("one", noise(0)),
            explanation("attention", noise(1), parameters={"signed": False}),
            explanation("grey", noise(2), grade=grey),
            explanation("passed", noise(3), grade=dataclasses.replace(grey, passed=True, reason="")),
            explanation("even", np.ones((SIDE, SIDE))),
        ]
    )
    assert found.methods == ("one", "passed") and set(found.left_out) == {"attention", "grey", "even"}
    for piece in ("Agreement of 2 methods", "attention (no sign", "grey (grey: does not hold", "methods that share a bias agree"):
        assert piece in found.words


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_methods_agree_on_nothing(count):
    unsigned = explanation("attention", noise(5), parameters={"signed": False})
    found = agreement_of([unsigned, *(explanation("one", noise(0)) for _ in range(count))])
    assert found.n == count and found.mean_rank_correlation is None and "not estimable" in found.words


@pytest.mark.parametrize("other", [{"target": "no"}, {"image": "other.png"}, {"method": "one"}, {"map": noise(1, side=20)}])
def test_explanations_of_different_things_are_refused(other):
    first = explanation("one", noise(0))
    second = dataclasses.replace(first, **{"method": "two", **other})
    with pytest.raises(UsageError, match=r"must be of one image and one class, one per method\. Found: one of scan\.png for yes"):
        agreement_of([first, second])
    with pytest.raises(UsageError, match="Found: none"):
        agreement_of([])


def test_maps_whose_cells_are_all_alike_are_two_that_cannot_be_ranked():
    fine = np.indices((SIDE, SIDE)).sum(axis=0) % 2 - 0.5  # the mean of every cell is zero
    found = agreement_of([explanation("one", fine), explanation("other", -fine)])
    assert found.n == 2 and found.mean_rank_correlation is None
    assert "Agreement of 2 methods: rank correlation not estimable" in found.words and "fewer than two" not in found.words
    alone = agreement_of([explanation("one", fine)])
    assert "fewer than two can be compared" in alone.words
