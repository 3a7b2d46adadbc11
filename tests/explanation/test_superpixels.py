import numpy as np
import pytest
from explanation_models import Keyhole, grey_recipe, whole_image

from vitrail.explanation import KernelShap, Lime, Question, explain_batch, plan_methods, total_cost
from vitrail.explanation.superpixels import segment
from vitrail.records import Placement

BOTH = pytest.mark.parametrize("method", [Lime(), KernelShap()], ids=["lime", "kernel-shap"])


def noise(size=32, channels=1, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (size, size, channels), dtype=np.uint8)


def question(model, pixels, placement=None, target=1, seed=0):
    several = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    placements = (placement or whole_image(several.shape[1]),) * len(several)
    return Question(several, placements, np.full(len(several), target), model.scores(several), seed=seed)


class Counter(Keyhole):
    """Counts what it is shown."""

    def scores(self, pixels):
        self.__dict__["seen"] = self.__dict__.get("seen", 0) + len(pixels)
        return super().scores(pixels)


class Weigher:
    """A score that adds up all pixels, each with a weight of its own, of either sign."""

    name, classes, pooling, network, fingerprint = "weigher", ("no", "yes"), "none", None, ""

    def __init__(self, size=32):
        self.recipe = grey_recipe(size)
        self.weights = np.random.default_rng(9).normal(size=(size, size, 1)) / size**2 / 10

    def scores(self, pixels):
        yes = 0.5 + (pixels.astype(np.float64) * self.weights).sum(axis=(1, 2, 3)) / 10
        assert (yes > 0).all() and (yes < 1).all()
        return np.stack([1 - yes, yes], axis=1)


class Both(Keyhole):
    """Only looks bright where two boxes are bright together, with a third against it."""

    def scores(self, pixels):
        first, second, third = (
            pixels[:, top : top + 8, left : left + 8].mean(axis=(1, 2, 3)) / 255 for top, left in ((2, 2), (20, 20), (2, 20))
        )
        yes = 0.2 + 0.7 * first * second * (1 - 0.5 * third)
        return np.stack([1 - yes, yes], axis=1)


# ---------------------------------------------------------------------------------------------------- superpixels


def test_superpixels_follow_the_image_and_are_the_same_every_time():
    image = np.full((64, 64, 1), 60, np.uint8)
    image[20:40, 10:50] = 200
    found = segment(image, 30)
    np.testing.assert_array_equal(found, segment(image.copy(), 30))
    np.testing.assert_array_equal(np.unique(found), np.arange(found.max() + 1))
    assert 10 <= found.max() + 1 <= 45
    bright = image[..., 0] == 200
    mixed = sum(min(bright[found == number].sum(), (~bright)[found == number].sum()) for number in np.unique(found))
    assert mixed < 0.03 * bright.size


@pytest.mark.parametrize("shape", [(64, 64), (64, 20), (7, 64), (1, 30), (2, 1), (224, 200)])
@pytest.mark.parametrize("count", [2, 25, 50])
def test_a_flat_image_is_cut_into_squares(shape, count):
    found = segment(np.full((*shape, 1), 90, np.uint8), count)
    sizes = np.bincount(found.ravel())
    assert 2 <= len(sizes) <= count + 5 and (sizes > 0).all()
    if min(shape) > 15:
        assert sizes.max() <= 2 * sizes.min()


# ---------------------------------------------------------------------------------------------------- values


@BOTH
def test_what_adds_up_is_found_exactly(method):
    model, pixels = Weigher(), noise(seed=3)
    if isinstance(method, Lime):
        method = Lime(ridge=0.0)
    found = method.relevance(model, question(model, pixels))
    segments = segment(pixels, method.superpixels)
    effects = (pixels.astype(np.float64) - np.rint(np.median(pixels)))[..., 0] * model.weights[..., 0] / 10
    sums = np.bincount(segments.ravel(), weights=effects.ravel())
    np.testing.assert_allclose(found.maps[0], sums[segments], rtol=1e-4, atol=1e-9)
    assert found.details_of[0]["all_combinations"] is False
    np.testing.assert_allclose(found.standard_errors[0], 0, atol=1e-9)
    assert found.quantity == "probability"


def test_few_superpixels_give_exact_shapley_values_that_sum_to_the_difference():
    from itertools import combinations
    from math import factorial

    model, pixels = Both(), noise(low=120, seed=1)
    fill = np.rint(np.median(pixels))
    found = KernelShap(superpixels=8, samples=1024).relevance(model, question(model, pixels))
    segments = segment(pixels, 8)
    count = segments.max() + 1
    assert count <= 10 and found.details_of[0]["all_combinations"] is True
    assert found.forward_passes == 2**count - 1
    memory = {}

    def score(shown):
        if shown not in memory:
            copy = np.where(np.isin(segments, list(shown))[..., np.newaxis], pixels, fill).astype(np.uint8)
            memory[shown] = model.scores(copy[np.newaxis])[0, 1]
        return memory[shown]

    for player in range(count):
        others = [other for other in range(count) if other != player]
        value = sum(
            factorial(size)
            * factorial(count - size - 1)
            / factorial(count)
            * (score(frozenset({*some, player})) - score(frozenset(some)))
            for size in range(count)
            for some in combinations(others, size)
        )
        np.testing.assert_allclose(found.maps[0][segments == player], value, rtol=1e-5, atol=1e-7)
    difference = found.details_of[0]["whole_image"] - found.details_of[0]["all_covered"]
    assert found.details_of[0]["sum_of_values"] == pytest.approx(difference, abs=2e-6)
    assert difference == pytest.approx(score(frozenset(range(count))) - score(frozenset()), abs=2e-6)


@BOTH
def test_the_standard_error_is_that_of_other_draws(method):
    model, pixels = Both(), noise(low=120, seed=1)
    pixels[2:10, 2:10] = pixels[20:28, 20:28] = 250
    found = [method.relevance(model, question(model, pixels, seed=seed)) for seed in range(12)]
    spread = np.var([one.maps[0] for one in found], axis=0, ddof=1).mean()
    said = np.mean([one.standard_errors[0] ** 2 for one in found])
    assert spread > 0 and 0.6 < said / spread < 1.6


# ---------------------------------------------------------------------------------------------------- the contract


def test_both_methods_share_one_bank_of_answers():
    pixels = np.stack([noise(seed=seed) for seed in range(2)])
    runs = {}
    for methods in (("lime",), ("kernel-shap",), ("lime", "kernel-shap")):
        model = Counter()
        found = explain_batch(model, pixels, (whole_image(32),) * 2, images=("a", "b"), methods=methods)
        runs[methods] = model.__dict__["seen"]
        assert set(found) == set(methods)
        planned, _ = total_cost(plan_methods(model, methods))
        assert planned == pytest.approx(runs[methods] / 2, rel=0.02)
    assert runs["lime",] == runs["kernel-shap",] == runs["lime", "kernel-shap"]
    alone = explain_batch(Counter(), pixels, (whole_image(32),) * 2, images=("a", "b"), methods=("kernel-shap",))
    np.testing.assert_array_equal(alone["kernel-shap"][1].map, found["kernel-shap"][1].map)


def test_a_bank_is_of_one_question_and_one_model():
    pixels = noise()
    first, second = Keyhole(), Keyhole(box=(0, 0, 6, 6))
    asked = question(first, pixels)
    one = KernelShap().relevance(first, asked)
    two = KernelShap().relevance(second, asked)
    assert (one.maps != two.maps).any()
    three = KernelShap(samples=400).relevance(second, asked)
    assert three.forward_passes != two.forward_passes


@BOTH
def test_a_batch_of_one_equals_a_batch_of_many_and_the_seed_counts(method):
    model = Both(colour="rgb")
    pixels = np.stack([noise(channels=3, seed=seed) for seed in range(3)])
    together = method.relevance(model, question(model, pixels))
    for number in range(3):
        alone = method.relevance(model, question(model, pixels[number]))
        np.testing.assert_array_equal(alone.maps[0], together.maps[number])
    assert (method.relevance(model, question(model, pixels, seed=1)).maps != together.maps).any()


@BOTH
def test_padding_is_never_covered(method):
    class Watcher(Keyhole):
        def scores(self, pixels):
            assert (pixels[:, :, :5] == 0).all() and (pixels[:, :, 20:] == 0).all()
            return super().scores(pixels)

    model = Watcher()
    pixels = np.zeros((32, 32, 1), np.uint8)
    pixels[:, 5:20] = noise(low=50)[:, 5:20]
    found = method.relevance(model, question(model, pixels, Placement(64, 30, 0, 0, 64, 30, 0, 5, 32, 20)))
    assert (found.maps[0][:, :5] == 0).all() and (found.maps[0][:, 20:] == 0).all()
    assert (found.maps[0][:, 5:20] != 0).any()


def test_doubts_are_said():
    class Chance(Keyhole):
        def scores(self, pixels):
            yes = np.array([int(image.astype(np.int64).sum() * 2654435761 % 1000) / 1000 for image in pixels])
            return np.stack([1 - yes, yes], axis=1)

    model, pixels = Chance(), noise()
    assert any(
        "noise of the random combinations" in text for text in KernelShap().relevance(model, question(model, pixels)).warnings[0]
    )
    assert any("act together" in text for text in Lime().relevance(model, question(model, pixels)).warnings[0])
    clear = Weigher()
    assert Lime().relevance(clear, question(clear, noise(low=100, high=140))).warnings == ((),)
