"""The anatomy of an image: drawn shapes of which the outline is known, and the phantom's heads."""

from __future__ import annotations

import numpy as np
import pytest
from explanation_models import whole_image
from grading_models import boxed

from vitrail.datasets import PhantomSettings, make_phantom
from vitrail.explanation.foreground import GROWN, foreground
from vitrail.preprocess import prepare_file
from vitrail.records import Recipe

SIZE = 96


def disc(*, size=SIZE, radius=30, centre=(48, 48), inside=140, outside=8, noise=4.0, seed=0):
    rows, columns = np.mgrid[:size, :size]
    mask = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    grey = np.where(mask, inside, outside) + np.random.default_rng(seed).normal(0, noise, (size, size))
    return np.clip(grey, 0, 255).astype(np.uint8)[..., np.newaxis], mask


def overlap(first, second):
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


@pytest.mark.parametrize(("inside", "outside"), [(140, 8), (90, 230)])
def test_a_disc_is_found_whatever_is_bright(inside, outside):
    pixels, mask = disc(inside=inside, outside=outside)
    found = foreground(pixels, whole_image(SIZE))
    assert found.estimable and not (mask & ~found.mask).any()
    grown = (30 + GROWN * SIZE) ** 2 / 30**2
    assert np.count_nonzero(found.mask) / np.count_nonzero(mask) == pytest.approx(grown, rel=0.1)


def test_holes_belong_to_the_anatomy_and_letters_do_not():
    pixels, mask = disc()
    pixels[40:56, 40:56] = 5
    pixels[4:14, 4:6] = pixels[12:14, 4:12] = 235
    found = foreground(pixels, whole_image(SIZE))
    assert overlap(found.mask, mask) > 0.8 and found.mask[48, 48]
    assert not found.mask[:16, :16].any()


def test_two_lungs_are_two_pieces():
    left, one = disc(radius=16, centre=(48, 24))
    right, two = disc(radius=16, centre=(48, 72))
    found = foreground(np.maximum(left, right), whole_image(SIZE))
    assert found.mask[one | two].all() and not found.mask[:, 48].any()


def test_padding_is_neither_anatomy_nor_ground():
    pixels, mask = disc(radius=18, centre=(48, 48))
    pixels[:24] = pixels[72:] = 128  # padding
    found = foreground(pixels, boxed(SIZE, 24, 0, 72, SIZE))
    assert overlap(found.mask, mask) > 0.75
    assert not found.mask[:24].any() and not found.mask[72:].any()


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.full((SIZE, SIZE, 1), 90, dtype=np.uint8), "nothing stands out"),
        (disc(radius=9)[0], "less than 5%"),
        (disc(radius=2, centre=(9, 9))[0], "not in the middle"),
        (disc(radius=51)[0], "more than 90%"),
        (disc(radius=60)[0], "not in the middle"),
        (np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8), ""),
        (np.tile(np.linspace(0, 255, SIZE).astype(np.uint8), (SIZE, 1))[..., np.newaxis], "not even"),
    ],
    ids=["blank", "a dot", "a dot aside", "fills the frame", "corners", "noise", "a ramp"],
)
def test_what_has_no_anatomy_before_a_ground_is_not_estimable(pixels, why):
    found = foreground(pixels, whole_image(SIZE))
    assert not found.estimable and why in found.reason and not found.mask.any()


def test_the_heads_of_the_phantom_hold_their_lesions_and_not_the_planted_marks(tmp_path):
    settings = PhantomSettings(patients_per_class=2, slices_per_patient=1, size=96, faults={"corner_mark": 1})
    key = make_phantom(tmp_path / "phantom", settings)
    recipe = Recipe(size=SIZE, colour="grey", crop_margins=False, keep_aspect=True, scaling="unit")
    marked = {path for fault in key.faults for path in fault.paths}
    assert marked
    for image in key.images:
        pixels, placement = prepare_file(tmp_path / "phantom" / "images" / image.path, recipe)
        found = foreground(pixels, placement)
        assert found.estimable and 0.3 < found.share < 0.85
        bright = pixels[..., 0] > 180
        corner = np.s_[placement.inner_top : placement.inner_top + 12, placement.inner_left : placement.inner_left + 9]
        assert not found.mask[corner].any()
        assert bright[corner].any() == (image.path in marked)
        if image.mask:
            lesion, _ = prepare_file(tmp_path / "phantom" / image.mask, recipe)
            assert found.mask[lesion[..., 0] > 128].all()
