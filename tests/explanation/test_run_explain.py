import numpy as np
import pytest
from explanation_models import BrightnessNetwork, Keyhole, whole_image
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.errors import PackageError, UsageError
from vitrail.explanation import explain_pixels
from vitrail.records import Placement

SIZE = 32


BASE = ("grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "occlusion", "rise", "lime", "kernel-shap")
"""What is defined for models that are not made of a network's graph."""
BOTH_WAYS = ("grad-cam", "hires-cam", "occlusion", "rise")
"""Those of them that show what speaks against the class, too, in cells that do not follow the picture."""


def noise(size=SIZE, channels=1, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("method", BASE)
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_every_explainer_keeps_the_contract(method, colour):
    model = BrightnessNetwork(colour=colour)
    pixels = noise(channels=model.recipe.channels)
    before = pixels.copy()
    placement = Placement(90, 61, 5, 3, 88, 60, 0, 5, SIZE, 27)
    first, second = (explain_pixels(model, pixels, placement, image="a/b.png", method=method, target="yes") for _ in range(2))

    assert (first.image, first.model, first.method, first.target) == ("a/b.png", "brightness", method, "yes")
    assert first.score == pytest.approx(model.scores(pixels[np.newaxis])[0, 1])
    assert first.map.shape == (90, 61) and first.map.dtype == np.float32
    assert np.isfinite(first.map).all() and np.abs(first.map).max() > 0
    outside = np.ones_like(first.map, dtype=bool)
    outside[5:88, 3:60] = False
    assert (first.map[outside] == 0).all()
    assert first.forward_passes >= 1
    assert not any("same everywhere" in warning for warning in first.warnings)
    np.testing.assert_array_equal(pixels, before)
    assert pixels.flags.writeable
    np.testing.assert_array_equal(first.map, second.map)
    assert first.warnings == second.warnings


@pytest.mark.parametrize("method", BASE)
@pytest.mark.parametrize("grey", [0, 130])
def test_every_explainer_says_when_its_map_points_nowhere(method, grey):
    pixels = np.full((SIZE, SIZE, 1), grey, np.uint8)
    found = explain_pixels(BrightnessNetwork(), pixels, whole_image(SIZE), image="x.png", method=method)
    assert any("same everywhere" in warning for warning in found.warnings)


@pytest.mark.parametrize("method", BASE)
def test_every_explainer_speaks_for_the_bright_half(method):
    pixels = np.full((SIZE, SIZE, 1), 10, np.uint8)
    pixels[:8, :8] = 240
    found = explain_pixels(BrightnessNetwork(), pixels, whole_image(SIZE), image="x.png", method=method, target="yes")
    row, column = np.unravel_index(found.map.argmax(), found.map.shape)
    assert row < 8 and column < 8


@pytest.mark.parametrize("method", BOTH_WAYS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_bright_blob_comes_back_to_its_place_in_the_original(method, data):
    height, width = data.draw(st.integers(60, 240)), data.draw(st.integers(60, 240))
    top, left = data.draw(st.integers(0, height // 4)), data.draw(st.integers(0, width // 4))
    bottom, right = data.draw(st.integers(3 * height // 4, height)), data.draw(st.integers(3 * width // 4, width))
    shown_height, shown_width = bottom - top, right - left
    inner = (0, 0, 64, 64)
    if data.draw(st.booleans()):  # padded to a square instead of stretched
        longest = max(shown_height, shown_width)
        tall, wide = round(64 * shown_height / longest), round(64 * shown_width / longest)
        inner = ((64 - tall) // 2, (64 - wide) // 2, (64 - tall) // 2 + tall, (64 - wide) // 2 + wide)
    cell = (shown_height / (inner[2] - inner[0]) * 4, shown_width / (inner[3] - inner[1]) * 4)  # 16 cells of 4 pixels
    assume(shown_height > 4 * cell[0] and shown_width > 4 * cell[1])
    row = data.draw(st.floats(top + 1.5 * cell[0], bottom - 1.5 * cell[0]))
    column = data.draw(st.floats(left + 1.5 * cell[1], right - 1.5 * cell[1]))

    original = np.full((height, width), 10, np.uint8)
    rows, columns = np.mgrid[:height, :width] + 0.5
    original[(np.abs(rows - row) < cell[0]) & (np.abs(columns - column) < cell[1])] = 250
    resized = Image.fromarray(original[top:bottom, left:right]).resize(
        (inner[3] - inner[1], inner[2] - inner[0]), Image.Resampling.BILINEAR
    )
    pixels = np.zeros((64, 64, 1), np.uint8)
    pixels[inner[0] : inner[2], inner[1] : inner[3], 0] = np.asarray(resized)
    placement = Placement(height, width, top, left, bottom, right, *inner)

    found = explain_pixels(
        BrightnessNetwork(size=64, cells=16, weight=4.0), pixels, placement, image="x", method=method, target="yes"
    )
    assert found.map.shape == (height, width)
    mass = np.zeros_like(found.map)
    shown = found.map[top:bottom, left:right]
    mass[top:bottom, left:right] = np.clip(shown - np.median(shown), 0, None)
    mass[mass < 0.5 * mass.max()] = 0
    assert (mass * rows).sum() / mass.sum() == pytest.approx(row, abs=cell[0])
    assert (mass * columns).sum() / mass.sum() == pytest.approx(column, abs=cell[1])


# ---------------------------------------------------------------------------------------------------- choosing


def test_feature_maps_are_used_where_there_are_any():
    assert explain_pixels(BrightnessNetwork(), noise(), whole_image(SIZE), image="x.png").method == "grad-cam"
    assert explain_pixels(Keyhole(), noise(), whole_image(SIZE), image="x.png").method == "occlusion"


def test_the_predicted_class_is_explained_unless_another_is_asked_for():
    dark = np.full((SIZE, SIZE, 1), 20, np.uint8)
    dark[4, 4] = 90
    predicted = explain_pixels(BrightnessNetwork(), dark, whole_image(SIZE), image="x.png")
    other = explain_pixels(BrightnessNetwork(), dark, whole_image(SIZE), image="x.png", target="yes")
    assert predicted.target == "no" and predicted.score > 0.5
    assert not any("not chosen" in warning for warning in predicted.warnings)
    assert other.target == "yes" and other.score < 0.5
    assert any("'yes' 0.00 and predicts 'no' (1.00)" in warning for warning in other.warnings)


def test_unknown_wishes_name_the_known_ones():
    with pytest.raises(UsageError, match=r"Found: 'magic'. Choose one of: cam, grad-cam, .*occlusion"):
        explain_pixels(BrightnessNetwork(), noise(), whole_image(SIZE), image="x.png", method="magic")
    with pytest.raises(UsageError, match=r"does not know 'perhaps'. Choose one of: no, yes"):
        explain_pixels(BrightnessNetwork(), noise(), whole_image(SIZE), image="x.png", target="perhaps")


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
def test_a_method_that_does_not_suit_the_model_names_one_that_does(method):
    with pytest.raises(
        UsageError, match=f"{method}: needs a model with feature maps.* keyhole has no feature maps.* Use occlusion"
    ):
        explain_pixels(Keyhole(), noise(), whole_image(SIZE), image="x.png", method=method)


@pytest.mark.parametrize("wrong", [noise(16), noise(channels=3), noise().astype(np.float32)])
def test_pixels_that_are_not_the_models_input_are_refused(wrong):
    with pytest.raises(UsageError, match="explains uint8 pixels of shape \\(32, 32, 1\\)"):
        explain_pixels(BrightnessNetwork(), wrong, whole_image(SIZE), image="x.png")


class Broken(BrightnessNetwork):
    def embedding_gradient(self, embedding, target):
        return np.full(2, np.nan, np.float32)


class Blind(BrightnessNetwork):
    def scores(self, pixels):
        return np.full((len(pixels), 2), np.nan)


def test_numbers_that_are_not_finite_never_become_a_map():
    with pytest.raises(PackageError, match="its grad-cam map holds values that are not finite"):
        explain_pixels(Broken(), noise(), whole_image(SIZE), image="x.png")
    with pytest.raises(PackageError, match=r"scores of x\.png are not finite"):
        explain_pixels(Blind(), noise(), whole_image(SIZE), image="x.png")


def test_the_room_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, vitrail.explanation; print(sorted({'torch', 'mlflow', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
