"""Several models as one that answers: what is asked of all is what each would have been asked alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from explanation_models import grey_recipe, whole_image
from hypothesis import given
from hypothesis import strategies as st

from vitrail.explanation.explainer import picture_of
from vitrail.explanation.package_model import CombinedModel
from vitrail.records import Placement


class Sees:
    """A model that keeps what it is given, at a size of its own."""

    views = (0,)
    classes = ("no", "yes")

    def __init__(self, size, colour="grey", name="", **more):
        self.recipe = replace(grey_recipe(size, colour), **more)
        self.name = name or f"{colour}-{size}"
        self.pixels = np.random.default_rng(size).integers(0, 256, (size, size, self.recipe.channels), dtype=np.uint8)
        self.seen = None

    @property
    def plain(self):
        return self

    def prepare(self, image):
        return self.pixels, whole_image(self.recipe.size)

    def scores(self, pixels):
        self.seen = pixels
        yes = pixels.mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - yes, yes], axis=1)


@given(st.lists(st.tuples(st.integers(3, 40), st.sampled_from(["grey", "rgb"])), min_size=2, max_size=4))
def test_every_member_is_given_what_it_would_see_alone(members):
    models = [Sees(size, colour) for size, colour in members]
    both = CombinedModel("both", [(1 / len(models), model) for model in models])
    pixels, placement = both.prepare("x.png")
    assert pixels.shape == (both.recipe.size, both.recipe.size, both.recipe.channels)
    assert placement == whole_image(max(size for size, _ in members))
    expected = np.mean([model.scores(model.pixels[None]) for model in models], axis=0)
    np.testing.assert_allclose(both.scores(pixels[None]), expected, atol=1e-12)
    for model in models:
        np.testing.assert_array_equal(model.seen[0], model.pixels)


@pytest.mark.parametrize("members", [[(8, "grey"), (32, "grey"), (16, "grey")], [(40, "grey"), (32, "rgb"), (8, "grey")]])
def test_what_is_seen_of_several_is_the_picture_of_one(members):
    models = [Sees(size, colour) for size, colour in members]
    shown = max(models, key=lambda model: (model.recipe.channels, model.recipe.size))
    both = CombinedModel("both", [(1 / 3, model) for model in models])
    pixels, _ = both.prepare("x.png")
    if len(pixels) == shown.recipe.size:
        np.testing.assert_array_equal(picture_of(pixels), np.broadcast_to(shown.pixels, (*pixels.shape[:2], 3)))
    assert set(map(tuple, picture_of(pixels).reshape(-1, 3))) <= set(
        map(tuple, np.broadcast_to(shown.pixels, (*shown.pixels.shape[:2], 3)).reshape(-1, 3))
    )


def test_what_is_covered_is_covered_for_all_at_the_same_place():
    small, large = Sees(8), Sees(32, "rgb")
    both = CombinedModel("both", [(0.5, small), (0.5, large)])
    pixels = both.prepare("x.png")[0].copy()
    pixels[8:16, 16:32] = 0
    both.scores(pixels[None])
    assert not small.seen[0, 2:4, 4:8].any() and not large.seen[0, 8:16, 16:32].any()
    kept = small.seen[0].copy()
    kept[2:4, 4:8] = small.pixels[2:4, 4:8]
    np.testing.assert_array_equal(kept, small.pixels)


def test_members_that_are_given_the_same_pixels_share_them_and_colours_come_first():
    both = CombinedModel("both", [(0.4, Sees(32)), (0.3, Sees(32, name="again", scaling="minmax")), (0.3, Sees(16, "rgb"))])
    pixels, _ = both.prepare("x.png")
    assert pixels.shape == (32, 32, 4)
    np.testing.assert_array_equal(pixels[::2, ::2, :3], both.parts[2][1].pixels)


def test_a_placement_of_the_largest_is_that_of_all():
    class Padded(Sees):
        def prepare(self, image):
            quarter = self.recipe.size // 4
            inner = (0, quarter, self.recipe.size, self.recipe.size - quarter)
            return self.pixels, Placement(100, 50, 0, 0, 100, 50, *inner)

    both = CombinedModel("both", [(0.5, Padded(16, keep_aspect=True)), (0.5, Padded(32, keep_aspect=True))])
    assert both.prepare("x.png")[1] == Placement(100, 50, 0, 0, 100, 50, 0, 8, 32, 24)


def test_views_are_left_out_of_the_plain_model_only():
    class Twice(Sees):
        views = (0, 1)

        @property
        def plain(self):
            return Sees(8, name="plain")

        def scores(self, pixels):
            return super().scores(pixels)[:, ::-1]

    both = CombinedModel("both", [(0.5, Twice(8)), (0.5, Sees(16))], "ab")
    assert len(both.views) == 2 and len(both.plain.views) == 1 and both.plain.fingerprint == "ab"
    pixels, _ = both.prepare("x.png")
    assert both.plain.parts[0][1].name == "plain" and both.plain.plain is both.plain
    assert both.plain.scores(pixels[None])[0] != pytest.approx(both.scores(pixels[None])[0])
