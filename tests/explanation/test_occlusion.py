import numpy as np
import pytest
from explanation_models import BrightnessNetwork, Keyhole, whole_image
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.explanation import Occlusion, Question, explain_pixels
from vitrail.explanation.perturbing import batch_size
from vitrail.records import Placement


def question(model, pixels, placement=None, target=1):
    scores = model.scores(pixels[np.newaxis])
    return Question(pixels[np.newaxis], (placement or whole_image(len(pixels)),), np.array([target]), scores)


def noise(size=32, channels=1, seed=0, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (size, size, channels), dtype=np.uint8)


def slow_occlusion(model, pixels, target, patch, stride):
    """One patch at a time, pixel by pixel: what the method says, without any of its short cuts."""
    size = len(pixels)
    fill = [int(np.rint(np.median(pixels[:, :, channel]))) for channel in range(pixels.shape[2])]
    before = model.scores(pixels[np.newaxis])[0, target]
    drops = [[[] for _ in range(size)] for _ in range(size)]
    starts = [start for start in range(size) if start % stride == 0 and start < size - patch] + [size - patch]
    for top in starts:
        for left in starts:
            covered = pixels.copy()
            for row in range(top, top + patch):
                for column in range(left, left + patch):
                    covered[row, column] = fill
            drop = before - model.scores(covered[np.newaxis])[0, target]
            for row in range(top, top + patch):
                for column in range(left, left + patch):
                    drops[row][column].append(drop)
    return np.array([[np.mean(cell) for cell in row] for row in drops])


@pytest.mark.parametrize(("size", "channels", "patch", "stride"), [(32, 1, 4, 2), (24, 3, 3, 2), (40, 1, 5, 2)])
@pytest.mark.parametrize("target", [0, 1])
def test_occlusion_agrees_with_the_slow_loop(size, channels, patch, stride, target):
    model = BrightnessNetwork(size=size, cells=4, colour="grey" if channels == 1 else "rgb", weight=3.0)
    pixels = noise(size, channels, seed=size)
    answer = Occlusion(batch=7).relevance(model, question(model, pixels, target=target))
    assert (answer.details["patch"], answer.details["stride"]) == (patch, stride)
    np.testing.assert_allclose(answer.maps[0], slow_occlusion(model, pixels, target, patch, stride), rtol=1e-5, atol=1e-8)


def test_a_model_that_looks_at_one_box_is_found_out():
    model = Keyhole(box=(8, 16, 14, 22))
    pixels = np.full((32, 32, 1), 40, np.uint8)
    pixels[8:14, 16:22] = 250
    found = explain_pixels(model, pixels, whole_image(32), image="x.png", method="occlusion", target="yes")
    row, column = np.unravel_index(found.map.argmax(), found.map.shape)
    assert 8 <= row < 14 and 16 <= column < 22
    reach = found.parameters["patch"] - 1  # a patch reaches at most so far beyond the box
    outside = np.ones((32, 32), bool)
    outside[8 - reach : 14 + reach, 16 - reach : 22 + reach] = False
    assert (found.map[outside] == 0).all() and (found.map >= 0).all()


class Recorder(Keyhole):
    """Remembers what it was shown."""

    def scores(self, pixels):
        self.__dict__.setdefault("seen", []).append(pixels.copy())
        return super().scores(pixels)


@given(
    size=st.integers(16, 70),
    patch=st.floats(0.02, 0.6),
    stride=st.floats(0.05, 1.0),
    corner=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
@settings(max_examples=30, deadline=None)
def test_every_image_pixel_is_covered_and_no_padding(size, patch, stride, corner):
    top, left = corner
    placement = Placement(50, 50, 0, 0, 50, 50, top, left, size - 2, size - 1)
    model = Recorder(size=size, box=(0, 0, 4, 4))
    pixels = noise(size, low=1, high=100)
    pixels[top : size - 2, left : size - 1] += 100  # the median of the image (150) never stands in the image itself
    image = pixels[top : size - 2, left : size - 1]
    image[image == np.rint(np.median(image))] += 3
    answer = Occlusion(patch=patch, stride=stride).relevance(model, question(model, pixels, placement))
    model.seen = model.__dict__["seen"][1:]
    shown = np.concatenate(model.seen)
    changed = (shown != pixels).any(axis=(0, 3))
    expected = np.zeros((size, size), bool)
    expected[top : size - 2, left : size - 1] = True
    unchangeable = (pixels == np.array(answer.details_of[0]["fill"], np.uint8)).all(axis=2)
    np.testing.assert_array_equal(changed | (unchangeable & expected), expected)
    assert unchangeable[expected].mean() < 0.2
    assert len(shown) == answer.forward_passes
    assert max(len(batch) for batch in model.seen) <= 64


def test_padding_does_not_darken_the_fill():
    pixels = np.zeros((32, 32, 1), np.uint8)
    pixels[:, 12:20] = 90
    placement = Placement(320, 80, 0, 0, 320, 80, 0, 12, 32, 20)
    model = Keyhole()
    assert Occlusion().relevance(model, question(model, pixels, placement)).details_of[0]["fill"] == [90]
    assert Occlusion().relevance(model, question(model, pixels)).details_of[0]["fill"] == [0]


def warns(model, pixels, text):
    found = explain_pixels(model, pixels, whole_image(32), image="x.png", method="occlusion", target="yes")
    return any(text in warning for warning in found.warnings)


def test_a_fill_that_stands_out_is_said():
    contrasty = np.zeros((32, 32, 1), np.uint8)
    contrasty[::2] = 255
    assert warns(Keyhole(), contrasty, "patches stand out")
    assert not warns(Keyhole(), noise(low=100, high=120), "patches stand out")


def test_a_saturated_score_is_said():
    bright = noise(low=200, high=250)
    assert warns(BrightnessNetwork(weight=20.0), bright, "saturated")
    assert warns(BrightnessNetwork(weight=0.01), bright, "No single patch changes the score")
    assert not warns(BrightnessNetwork(weight=0.01), bright, "saturated")
    assert not warns(Keyhole(), noise(), "No single patch")


def test_occlusion_agrees_with_captum():
    import torch
    from captum.attr import Occlusion as Reference

    model = BrightnessNetwork(size=32, cells=8, weight=3.0)
    pixels = noise(seed=5)
    fill = float(np.rint(np.median(pixels)))
    found = Occlusion().relevance(model, question(model, pixels)).maps[0]
    asked = Reference(lambda images: torch.from_numpy(model.scores(images.numpy().astype(np.uint8).transpose(0, 2, 3, 1))))
    image = torch.from_numpy(pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32))
    expected = asked.attribute(image, (1, 4, 4), strides=(1, 2, 2), baselines=fill, target=1, perturbations_per_eval=32)
    np.testing.assert_allclose(found, expected.numpy()[0, 0], rtol=1e-4, atol=1e-7)


def test_a_contrast_is_measured_where_the_method_is_told_to_follow():
    model = BrightnessNetwork(size=32, cells=8, weight=3.0)
    pixels = noise(seed=5)
    asked = Question(pixels[np.newaxis], (whole_image(32),), np.array([1]), model.scores(pixels[np.newaxis]), quantity="contrast")
    assert Occlusion().relevance(model, asked).quantity == "probability"
    found = Occlusion(quantity=None).relevance(model, asked)
    assert found.quantity == "contrast"
    patched = pixels.copy()
    patched[:4, :4] = np.rint(np.median(pixels))
    logits = [np.log(model.scores(each[np.newaxis])[0]) for each in (pixels, patched)]
    assert found.maps[0, 0, 0] == pytest.approx((logits[0][1] - logits[0][0]) - (logits[1][1] - logits[1][0]), rel=1e-4)
    assert Occlusion(quantity=None).relevance(model, question(model, pixels)).quantity == "probability"


def test_large_images_go_in_smaller_batches():
    assert batch_size(np.zeros((224, 224, 3), np.uint8)) == 64
    assert batch_size(np.zeros((1024, 1024, 3), np.uint8)) < 10
    assert batch_size(np.zeros((6000, 6000, 3), np.uint8)) == 1
    assert batch_size(np.zeros((32, 32, 1), np.uint8), 7) == 7
