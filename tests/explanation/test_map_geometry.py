"""A bright square, planted anywhere in an image of any shape, comes back inside that square: 200 random geometries, 200 hits.

The score of the models is brightness by construction (:mod:`brightness_models`), so it is known where every correct map has its
highest place; crop, resize and padding lie between. A row for a column, a box off by its margin, a padding that is not taken
off: each of them would miss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from brightness_models import brightness
from PIL import Image

from vitrail.datasets import Decoded
from vitrail.explanation import EXPLAINERS, defined_methods, explain_batch, explain_image
from vitrail.preprocess import prepare
from vitrail.records import ByteArray, FloatArray, Recipe

HOW_MANY = 200
SQUARE = 0.22
"""Side of the square as a share of the image's longer side: about 7 of 32 pixels of the model's input, or more where the margins
are cut."""
ROUNDS = [(crop, keep_aspect) for crop in (False, True) for keep_aspect in (False, True)]
FAMILIES = ("average", "hidden", "dense", "attention", "trees")
SUPERPIXELS = ("lime", "kernel-shap")
"""Their pieces follow the edges in the model's input, which are a pixel wide there: they may lie half of such a pixel over."""
MANY = ("integrated-gradients", "expected-gradients", "smooth-grad", "occlusion", "rise", *SUPERPIXELS)
"""Methods of many passes per image: in the slow tests, but for occlusion on one family."""
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How the pixels of an upright image are stored under each orientation of EXIF."""


@dataclass(frozen=True)
class Planted:
    """A textured grey body between dark margins, and where the square in it is."""

    pixels: ByteArray
    top: int
    left: int
    side: int

    def holds(self, row: float, column: float, *, over: float = 0.0) -> bool:
        rows = self.top - over <= row <= self.top + self.side - 1 + over
        return rows and self.left - over <= column <= self.left + self.side - 1 + over


@cache
def planted(number: int, *, square: bool = True) -> Planted:
    """An image of 72 to 320 pixels, up to twice as long as wide, the square anywhere in it, also in the margin."""
    random = np.random.default_rng((number, 20))
    longer = int(random.integers(72, 321))
    shorter = int(random.integers(math.ceil(longer / 2), longer + 1))
    height, width = (longer, shorter) if random.random() < 0.5 else (shorter, longer)
    first = [int(random.integers(0, math.ceil(0.15 * side))) for side in (height, width)]
    last = [side - int(random.integers(0, math.ceil(0.15 * side))) for side in (height, width)]
    picture = np.zeros((height, width), dtype=np.uint8)
    body = slice(first[0], last[0]), slice(first[1], last[1])
    picture[body] = random.integers(50, 110, picture[body].shape, dtype=np.uint8)
    side = math.ceil(SQUARE * longer)
    top, left = (int(random.integers(0, whole - side + 1)) for whole in (height, width))
    if square:
        picture[top : top + side, left : left + side] = 240
    return Planted(picture, top, left, side)


@cache
def at_input(number: int, recipe: Recipe, *, square: bool = True):
    one = planted(number, square=square)
    return prepare(Decoded(one.pixels, *one.pixels.shape, "PNG", "L"), recipe)


def found(family: str, method: str):
    """Yield every planted image with its explanation, a quarter of them under each way of cropping and resizing."""
    for turn, (crop, keep_aspect) in enumerate(ROUNDS):
        model = brightness(family, crop=crop, keep_aspect=keep_aspect)
        numbers = range(HOW_MANY)[turn :: len(ROUNDS)]
        images, ready = [planted(number) for number in numbers], [at_input(number, model.recipe) for number in numbers]
        others = [at_input(HOW_MANY + other, model.recipe, square=False)[0] for other in range(4)]
        maps = explain_batch(
            model,
            np.stack([pixels for pixels, _ in ready]),
            tuple(placement for _, placement in ready),
            images=tuple(map(str, range(len(images)))),
            methods=(method,),
            targets=("yes",) * len(images),
            background=np.stack(others),
        )[method]
        yield from zip(images, (placement for _, placement in ready), maps, strict=True)


def strongest(values: FloatArray) -> tuple[float, float]:
    """Return the strongest place, rows first; of several equal ones their middle: one pixel of the input covers several here."""
    row, column = np.argwhere(values >= (1 - 1e-5) * values.max()).mean(axis=0)
    return float(row), float(column)


def check(family: str, method: str) -> None:
    hits, missed = 0, []
    for one, placement, explanation in found(family, method):
        assert explanation.map.shape == one.pixels.shape
        cell = (placement.bottom - placement.top) / (placement.inner_bottom - placement.inner_top)
        cell = min(cell, (placement.right - placement.left) / (placement.inner_right - placement.inner_left))
        over = cell / 2 if method in SUPERPIXELS else 0.0
        if explanation.map.max() > 0 and one.holds(*strongest(explanation.map), over=over):
            hits += 1
        else:
            missed.append((one.pixels.shape, (one.top, one.left, one.side), strongest(explanation.map)))
        outside = np.ones(one.pixels.shape, dtype=bool)
        outside[placement.top : placement.bottom, placement.left : placement.right] = False
        assert (explanation.map[outside] == 0).all()
    assert hits == HOW_MANY, f"{hits} of {HOW_MANY}; missed: {missed[:3]}"


def pairs(methods):
    return [
        (family, method)
        for family in FAMILIES
        for method, reason in defined_methods(brightness(family, crop=False, keep_aspect=False)).items()
        if not reason and method in methods
    ]


@pytest.mark.parametrize(
    ("family", "method"),
    [*pairs([name for name in EXPLAINERS if name not in MANY]), ("average", "occlusion")],
)
def test_the_square_is_found_in_200_of_200_geometries(family, method):
    check(family, method)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"),
    [pair for pair in pairs(MANY) if pair != ("average", "occlusion")],
)
def test_the_square_is_found_in_200_of_200_geometries_by_methods_of_many_passes(family, method):
    check(family, method)


def test_maps_are_not_shifted():
    """Half a pixel of the model's input, taken twice or forgotten, would not miss a square; over 200 images it would show."""
    offsets = []
    for one, placement, explanation in found("average", "gradient-times-input"):
        values = np.maximum(explanation.map.astype(np.float64), 0)
        middle = [np.average(np.arange(len(line)) + 0.5, weights=line) for line in (values.sum(axis=1), values.sum(axis=0))]
        cell = (
            (placement.bottom - placement.top) / (placement.inner_bottom - placement.inner_top),
            (placement.right - placement.left) / (placement.inner_right - placement.inner_left),
        )
        square = np.array([one.top, one.left]) + one.side / 2
        offsets.append((np.array(middle) - square) / cell)  # in pixels of the model's input
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.1
    assert np.abs(offsets).max() < 1


def test_the_square_is_found_in_200_files_turned_as_cameras_turn_them(tmp_path):
    """From JPEG files that say how they are to be turned, through the door for one file."""
    path = tmp_path / "image.jpg"
    hits = 0
    for number in range(HOW_MANY):
        crop, keep_aspect = ROUNDS[number % len(ROUNDS)]
        one = planted(number)
        orientation = 1 + number % len(STORED)
        turn, picture, header = STORED[orientation], Image.fromarray(one.pixels), Image.Exif()
        header[0x0112] = orientation
        (picture if turn is None else picture.transpose(turn)).save(path, quality=95, exif=header)
        model = brightness("average", crop=crop, keep_aspect=keep_aspect)
        explanation = explain_image(model, path, image="image.jpg", method="hires-cam", target="yes")
        assert explanation.map.shape == one.pixels.shape
        hits += explanation.map.max() > 0 and one.holds(*strongest(explanation.map))
    assert hits == HOW_MANY
