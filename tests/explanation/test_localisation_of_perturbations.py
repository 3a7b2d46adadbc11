"""Methods that ask a black box about changed copies find the one square that it looks at, wherever it is in the original."""

import dataclasses

import numpy as np
import pytest
from explanation_models import Keyhole, grey_recipe

from vitrail.datasets import Decoded
from vitrail.explanation import explain_batch
from vitrail.preprocess import prepare
from vitrail.records import ByteArray

SQUARE = 30  # pixels of the original, whose sides are 150 to 300
METHODS = ("occlusion", "rise", "lime", "kernel-shap")


def original(height, width, top, left) -> ByteArray:
    """A textured grey object on black with a bright square in it."""
    picture = np.zeros((height, width), np.uint8)
    inside = np.random.default_rng(height + width).integers(60, 110, (height - 40, width - 40), dtype=np.uint8)
    picture[20:-20, 20:-20] = inside
    picture[top : top + SQUARE, left : left + SQUARE] = 240
    return picture


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep_aspect", [False, True], ids=["stretched", "padded"])
@pytest.mark.parametrize("crop", [False, True], ids=["whole", "cropped"])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_the_square_is_found_through_crop_resize_and_padding(method, keep_aspect, crop, colour):
    recipe = dataclasses.replace(grey_recipe(64, colour), crop_margins=crop, keep_aspect=keep_aspect)
    places = ((200, 300, 60, 200), (300, 150, 40, 60))
    for height, width, top, left in places:
        pixels, placement = prepare(Decoded(original(height, width, top, left), height, width, "PNG", "L"), recipe)
        # Where the square lies in the model's input, by the placement alone.
        down = (placement.inner_bottom - placement.inner_top) / (placement.bottom - placement.top)
        across = (placement.inner_right - placement.inner_left) / (placement.right - placement.left)
        box = (
            round(placement.inner_top + (top - placement.top) * down),
            round(placement.inner_left + (left - placement.left) * across),
            round(placement.inner_top + (top + SQUARE - placement.top) * down),
            round(placement.inner_left + (left + SQUARE - placement.left) * across),
        )
        model = Keyhole(box=box, size=64, colour=colour)
        (found,) = explain_batch(model, pixels[np.newaxis], (placement,), images=("x",), methods=(method,), targets=("yes",))[
            method
        ]
        assert found.map.shape == (height, width)
        row, column = np.unravel_index(found.map.argmax(), found.map.shape)
        one = 1 / min(down, across)  # pixel of the model's input, to which the box was rounded
        assert top - one <= row < top + SQUARE + one and left - one <= column < left + SQUARE + one
        strong = np.argwhere(found.map >= 0.8 * found.map.max())
        assert np.abs(strong.mean(axis=0) - (top + SQUARE / 2, left + SQUARE / 2)).max() < SQUARE / 2
        outside = np.ones_like(found.map, dtype=bool)
        outside[placement.top : placement.bottom, placement.left : placement.right] = False
        assert (found.map[outside] == 0).all()
