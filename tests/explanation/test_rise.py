import numpy as np
import pytest
from explanation_models import Keyhole, grey_recipe, whole_image

from vitrail.explanation import Question, Rise
from vitrail.explanation.rise import RunningMap, smooth_masks
from vitrail.records import Placement


def noise(size=32, channels=1, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (size, size, channels), dtype=np.uint8)


def question(model, pixels, placement=None, target=1, seed=0, **more):
    several = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    placements = (placement or whole_image(several.shape[1]),) * len(several)
    return Question(several, placements, np.full(len(several), target), model.scores(several), seed=seed, **more)


class Noise(Keyhole):
    """Its scores are chance."""

    def scores(self, pixels):
        yes = np.array([int(image.astype(np.int64).sum() * 2654435761 % 1000) / 1000 for image in pixels])
        return np.stack([1 - yes, yes], axis=1)


def interpolation(shift, size, cell):
    """Weights of the nodes for each pixel, written out."""
    weights = np.zeros((size, size // cell + 3))
    for pixel in range(size):
        node, rest = divmod(pixel + shift, cell)
        weights[pixel, node] += 1 - rest / cell
        weights[pixel, node + 1] += rest / cell
    return weights


def expected_map(effects, cell):
    """RISE's map of a model that adds up ``effects`` times what is shown of each pixel, over all masks there are."""
    kernel = np.mean([w @ w.T for w in (interpolation(shift, len(effects), cell) for shift in range(cell))], axis=0)
    return kernel @ effects @ kernel.T / 2


def test_the_map_is_the_expected_one_within_its_standard_error():
    model = Keyhole(box=(8, 16, 14, 22), size=32)
    pixels = noise(seed=4)
    effects = np.zeros((32, 32))
    effects[8:14, 16:22] = (pixels[8:14, 16:22, 0] - np.rint(np.median(pixels))) / 255 / 36
    truth = expected_map(effects, cell=8)
    squares = []
    for seed in range(40):
        found = Rise(cells=4, most=200, reliability=1).relevance(model, question(model, pixels, seed=seed))
        assert found.forward_passes == 200
        squares.append(((found.maps[0] - truth) / found.standard_errors[0]) ** 2)
    assert 0.8 < np.mean(squares) < 1.25


def test_the_map_is_the_papers_less_its_mean_level():
    generator = np.random.default_rng(0)
    first = smooth_masks(generator, 50, height=20, width=14, cell=4).astype(np.float64)
    masks = np.concatenate([first, 1 - first])
    answers = generator.random(100)
    paper = np.einsum("n,nhw->hw", answers, masks) / (100 * 0.5)
    found = RunningMap(0, np.zeros((20, 14)), np.zeros((20, 14)))
    found.add(first[:30], (answers[:50] - answers[50:])[:30])
    found.add(first[30:], (answers[:50] - answers[50:])[30:])
    np.testing.assert_allclose(found.mean, paper - answers.mean(), atol=1e-12)
    of_pairs = (answers[:50] - answers[50:])[:, np.newaxis, np.newaxis] * (first - 0.5)
    np.testing.assert_allclose(found.standard_error, of_pairs.std(axis=0, ddof=1) / np.sqrt(50), atol=1e-12)


def test_masks_treat_all_pixels_alike():
    masks = smooth_masks(np.random.default_rng(1), 20000, height=9, width=13, cell=4)
    assert masks.min() >= 0 and masks.max() <= 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(masks.var(axis=0), masks.var(axis=0).mean(), rtol=0.03)
    three = smooth_masks(np.random.default_rng(1), 5, height=9, width=13, cell=4, channels=3)
    np.testing.assert_array_equal(three[..., ::3], three[..., 2::3])
    assert three.shape == (5, 9, 39)


def test_it_stops_when_the_map_is_precise_and_says_when_it_is_not():
    model = Keyhole(box=(8, 16, 14, 22), size=32)
    pixels = np.full((32, 32, 1), 40, np.uint8)
    pixels[8:14, 16:22] = 250
    found = Rise(fewest=64).relevance(model, question(model, pixels))
    assert 64 <= found.forward_passes < 1500 and found.forward_passes == found.details_of[0]["masks"]
    assert found.details_of[0]["reliability"] >= 0.9 and found.warnings == ((),)
    again = Rise(fewest=64).relevance(model, question(model, pixels, seed=1))
    assert np.corrcoef(found.maps.ravel(), again.maps.ravel())[0, 1] > 0.85
    assert Rise(fewest=64, reliability=0.97).relevance(model, question(model, pixels)).forward_passes > found.forward_passes

    chance = Noise(size=32)
    nothing = Rise(most=400).relevance(chance, question(chance, pixels))
    assert nothing.forward_passes == 400
    assert any("still noise of the random masks" in warning for warning in nothing.warnings[0])


def test_precision_estimates_the_correlation_of_two_maps():
    model = Keyhole(box=(8, 16, 14, 22), size=32)
    pixels = noise(seed=2)
    maps, said = [], []
    for seed in range(20):
        found = Rise(most=300, reliability=1).relevance(model, question(model, pixels, seed=seed))
        maps.append(found.maps[0].ravel())
        said.append(found.details_of[0]["reliability"])
    between = np.corrcoef(maps)[np.triu_indices(20, 1)].mean()
    assert np.mean(said) == pytest.approx(between, abs=0.08)


def test_a_batch_of_one_equals_a_batch_of_many_and_the_seed_counts():
    model = Keyhole(colour="rgb")
    pixels = np.stack([noise(channels=3, seed=seed) for seed in range(3)])
    method = Rise(most=128)
    together = method.relevance(model, question(model, pixels))
    for number in range(3):
        alone = method.relevance(model, question(model, pixels[number]))
        np.testing.assert_array_equal(alone.maps[0], together.maps[number])
        np.testing.assert_array_equal(alone.standard_errors[0], together.standard_errors[number])
    assert (method.relevance(model, question(model, pixels, seed=1)).maps != together.maps).any()


def test_padding_is_never_masked():
    class Watcher(Keyhole):
        def scores(self, pixels):
            assert (pixels[:, :, :5] == 0).all() and (pixels[:, :, 20:] == 0).all()
            return super().scores(pixels)

    model = Watcher()
    pixels = np.zeros((32, 32, 1), np.uint8)
    pixels[:, 5:20] = noise(low=50)[:, 5:20]
    found = Rise(most=100).relevance(model, question(model, pixels, Placement(64, 30, 0, 0, 64, 30, 0, 5, 32, 20)))
    assert (found.maps[0][:, :5] == 0).all() and (found.maps[0][:, 20:] == 0).all()
    assert (found.maps[0][:, 5:20] != 0).any()


def test_the_quantity_is_the_score_unless_another_is_asked():
    class Three(Keyhole):
        classes = ("no", "yes", "perhaps")
        recipe = grey_recipe(32)

        def scores(self, pixels):
            two = super().scores(pixels)
            return np.column_stack([0.7 * two[:, 0], two[:, 1], 0.3 * two[:, 0]])

    model, pixels = Three(), noise()
    said = {}
    for asked, own in [("logit", None), ("contrast", None), ("probability", None), ("contrast", "logit")]:
        found = Rise(most=64, quantity=own).relevance(model, question(model, pixels, quantity=asked))
        said[asked, own] = found.quantity, float(np.abs(found.maps).max())
    assert [quantity for quantity, _ in said.values()] == ["probability", "contrast", "probability", "logit"]
    assert said["logit", None] == said["probability", None]
    assert len({size for _, size in said.values()}) == 3
