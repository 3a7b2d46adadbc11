from itertools import permutations, product
from math import comb

import numpy as np
import pytest

from vitrail.explanation.coalitions import draw_coalitions, lime_coefficients, shapley_law, shapley_values


class Game:
    """Answers for sets of players, with main effects and strong interactions."""

    def __init__(self, players, seed=0):
        generator = np.random.default_rng(seed)
        self.players = players
        self.main = generator.normal(size=players)
        self.pairs = np.triu(generator.normal(size=(players, players)), 1)
        self.all_needed = generator.random(players) < 0.3

    def __call__(self, shown):
        shown = np.asarray(shown, dtype=float)
        together = np.prod(np.where(self.all_needed, shown, 1.0), axis=-1)
        return 0.3 + shown @ self.main + np.einsum("...i,ij,...j", shown, self.pairs, shown) + 2 * together

    @property
    def none(self):
        return float(self(np.zeros(self.players)))

    @property
    def all_(self):
        return float(self(np.ones(self.players)))


def shapley(game):
    values = np.zeros(game.players)
    orders = list(permutations(range(game.players)))
    for order in orders:
        shown, before = np.zeros(game.players), game.none
        for player in order:
            shown[player] = 1
            after = float(game(shown))
            values[player] += (after - before) / len(orders)
            before = after
    return values


def fitted(game, budget, seed=0):
    coalitions = draw_coalitions(np.random.default_rng(seed), game.players, budget)
    return coalitions, shapley_values(coalitions, game(coalitions.masks), none=game.none, all_=game.all_)


@pytest.mark.parametrize("players", [2, 3, 5, 6])
def test_all_combinations_give_the_shapley_values_themselves(players):
    game = Game(players)
    coalitions, (values, errors) = fitted(game, 2**players)
    assert coalitions.exact and len(coalitions.masks) == 2**players - 2
    np.testing.assert_allclose(values, shapley(game), rtol=0, atol=1e-10)
    assert (errors == 0).all()


@pytest.mark.parametrize(("players", "budget"), [(2, 2), (7, 126), (9, 60), (10, 200), (30, 500), (60, 240)])
def test_the_bank_has_the_law_of_the_shapley_kernel(players, budget):
    coalitions = draw_coalitions(np.random.default_rng(3), players, budget)
    half = len(coalitions.drawn)
    np.testing.assert_array_equal(coalitions.masks[half:], ~coalitions.masks[:half])
    assert len(np.unique(coalitions.masks, axis=0)) == 2 * half <= budget
    assert 2 * coalitions.weights.sum() == pytest.approx(1)
    taken = coalitions.masks[:half][~coalitions.drawn]
    for size in np.unique(np.minimum(taken.sum(axis=1), players - taken.sum(axis=1))):
        of_size = np.isin(coalitions.masks.sum(axis=1), [size, players - size])
        expected = shapley_law(players)[[size, players - size] if 2 * size != players else [size]].sum()
        assert np.tile(coalitions.weights, 2)[of_size].sum() == pytest.approx(expected)
        assert of_size.sum() == comb(players, size) * (1 if 2 * size == players else 2)


def test_drawn_sizes_follow_the_law():
    players, counts = 20, np.zeros(21)
    for seed in range(40):
        coalitions = draw_coalitions(np.random.default_rng(seed), players, 400)
        np.add.at(counts, coalitions.masks.sum(axis=1), np.tile(coalitions.weights, 2) / 40)
    np.testing.assert_allclose(counts, shapley_law(players), atol=0.004)


def test_errors_of_sampled_shapley_values_are_as_large_as_they_say():
    game = Game(12, seed=8)
    truth = fitted(game, 2**12)[1][0]
    squares = []
    for seed in range(60):
        coalitions, (values, errors) = fitted(game, 200, seed)
        assert not coalitions.exact
        assert values.sum() == pytest.approx(game.all_ - game.none, abs=1e-9)
        squares.append(((values - truth) / errors) ** 2)
    assert 0.7 < np.mean(squares) < 1.4


def test_complements_cancel_what_players_do_in_twos():
    game = Game(30, seed=5)
    game.all_needed[:] = False
    _, (values, errors) = fitted(game, 300)
    np.testing.assert_allclose(values, game.main + (game.pairs + game.pairs.T).sum(axis=1) / 2, rtol=0, atol=1e-9)
    np.testing.assert_allclose(errors, 0, atol=1e-9)


def lime_of_all(game, width, ridge):
    """LIME's coefficients from every combination, by scikit-learn."""
    from sklearn.linear_model import Ridge

    shown = np.array(list(product([0, 1], repeat=game.players)))
    sizes = shown.sum(axis=1)
    law = 1 / (game.players + 1) / np.array([comb(game.players, size) for size in sizes])
    cosine = np.array([1 - row.sum() / np.sqrt(row.sum() * game.players) if row.any() else 1.0 for row in shown])
    weights = law * np.exp(-(cosine**2) / (2 * width**2))
    fit = Ridge(alpha=ridge).fit(shown, game(shown), sample_weight=weights)
    return fit.coef_, fit.score(shown, game(shown), sample_weight=weights)


def lime(game, budget, seed=0, width=0.25, ridge=0.001):
    coalitions = draw_coalitions(np.random.default_rng(seed), game.players, budget)
    return lime_coefficients(coalitions, game(coalitions.masks), none=game.none, all_=game.all_, width=width, ridge=ridge)


@pytest.mark.parametrize(("width", "ridge"), [(0.25, 0.001), (0.25, 0.0), (1.0, 0.05)])
def test_all_combinations_give_limes_ridge_regression(width, ridge):
    game = Game(7, seed=2)
    values, errors, fit = lime(game, 2**7, width=width, ridge=ridge)
    expected, score = lime_of_all(game, width, ridge)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-9)
    assert fit == pytest.approx(score)
    assert (errors == 0).all()


def test_errors_of_sampled_lime_coefficients_are_as_large_as_they_say():
    game = Game(12, seed=6)
    truth, _ = lime_of_all(game, 0.25, 0.001)
    found = [lime(game, 300, seed) for seed in range(60)]
    assert 0.7 < np.mean([((values - truth) / errors) ** 2 for values, errors, _ in found]) < 1.5


def test_an_additive_game_has_one_right_answer_whatever_is_drawn():
    game = Game(40, seed=7)
    game.pairs[:] = 0
    game.all_needed[:] = False
    game.all_needed[3] = True
    worth = game.main + 2 * (np.arange(40) == 3)
    _, (values, errors) = fitted(game, 200)
    np.testing.assert_allclose(values, worth, rtol=0, atol=1e-9)
    np.testing.assert_allclose(errors, 0, atol=1e-9)
    np.testing.assert_allclose(lime(game, 200, ridge=0.0)[0], worth, rtol=0, atol=1e-9)


def test_sampled_values_are_nearer_the_truth_than_captums_of_as_many_samples():
    import torch
    from captum.attr import KernelShap

    game = Game(12, seed=8)
    truth = fitted(game, 2**12)[1][0]
    ours, theirs = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        found = KernelShap(lambda shown: torch.from_numpy(game(shown.numpy()))).attribute(
            torch.ones(1, 12), n_samples=200, perturbations_per_eval=200
        )
        theirs.append(found.numpy()[0] - truth)
        ours.append(fitted(game, 200, seed)[1][0] - truth)
    assert np.abs(theirs).mean() < 0.5  # the same values are meant
    assert np.square(ours).mean() < 0.5 * np.square(theirs).mean()
