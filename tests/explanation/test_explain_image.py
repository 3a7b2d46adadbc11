"""Explaining image files with packages of several models, or of several views."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from explanation_models import BrightnessNetwork, whole_image

from vitrail.errors import UsageError
from vitrail.explanation import explain_image, explain_pixels

SIZE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)


class Member(BrightnessNetwork):
    """A model that sees one image, whatever file it is given."""

    views = (0,)

    @property
    def plain(self):
        return self

    def prepare(self, image):
        return PIXELS, whole_image(SIZE)


class Turned(Member):
    """One that answers the other way round."""

    def scores(self, pixels):
        return super().scores(pixels)[:, ::-1]


def package(*parts):
    first = parts[0][1]
    return SimpleNamespace(
        name="both",
        fingerprint="ab",
        classes=first.classes,
        decision=None,
        parts=parts,
        scores_of=lambda image: sum(weight * model.scores(PIXELS[None])[0] for weight, model in parts),
    )


def test_a_single_model_is_explained_as_ever():
    found = explain_image(package((1.0, Member())), "x.png", image="x.png")
    expected = explain_pixels(Member(), PIXELS, whole_image(SIZE), image="x.png")
    np.testing.assert_array_equal(found.map, expected.map)
    assert (found.method, found.score, found.warnings) == (expected.method, expected.score, expected.warnings)


def test_of_members_that_see_the_same_pixels_the_occlusion_map_is_the_weighted_mean_of_theirs():
    one, other = Member(), Turned(name="turned")
    found = explain_image(package((0.75, one), (0.25, other)), "x.png", image="x.png", target="yes")
    maps = [
        explain_pixels(model, PIXELS, whole_image(SIZE), image="x.png", method="occlusion", target="yes").map
        for model in (one, other)
    ]
    np.testing.assert_allclose(found.map, 0.75 * maps[0] + 0.25 * maps[1], atol=1e-6)
    assert (found.model, found.method, found.target) == ("both", "occlusion", "yes")
    expected = 0.75 * one.scores(PIXELS[None])[0] + 0.25 * other.scores(PIXELS[None])[0]
    assert found.score == pytest.approx(expected[found_index(one, "yes")])
    assert "0.75" in found.parameters["members"] and "turned 0.25" in found.parameters["members"]


def found_index(model, name):
    return model.classes.index(name)


def test_an_ensemble_has_no_inside():
    both = package((0.5, Member()), (0.5, Turned(name="turned")))
    with pytest.raises(
        UsageError, match=r"grad-cam: needs .*both averages 2 models.*Use occlusion or rise or lime or kernel-shap"
    ):
        explain_image(both, "x.png", image="x.png", method="grad-cam")
    with pytest.raises(UsageError, match="unknown"):
        explain_image(both, "x.png", image="x.png", method="magic")
    with pytest.raises(UsageError, match="does not know 'perhaps'"):
        explain_image(both, "x.png", image="x.png", target="perhaps")


def test_a_model_of_several_views_is_explained_on_the_plain_one_and_says_so():
    class Looking(Member):
        views = (0, 1, 2)

        @property
        def plain(self):
            return Member()

    found = explain_image(package((1.0, Looking())), "x.png", image="x.png")
    plain = explain_pixels(Member(), PIXELS, whole_image(SIZE), image="x.png")
    np.testing.assert_allclose(found.map, plain.map, atol=1e-7)
    assert found.method == "grad-cam"
    told = next(warning for warning in found.warnings if "views" in warning)
    assert "mean over 3 views" in told and f"the model gives {found.target!r} {plain.score:.2f}" in told


def test_views_that_change_the_answer_are_said():
    class Looking(Turned):
        views = (0, 1)

        @property
        def plain(self):
            return Member()

    both = package((0.5, Looking(name="looking")), (0.5, Turned(name="turned")))
    found = explain_image(both, "x.png", image="x.png")
    assert found.method == "occlusion" and "looking 0.50" in found.parameters["members"]
    assert any("mean over 2 views of it (looking: 2)" in warning for warning in found.warnings)
    alone = explain_image(package((1.0, Looking(name="looking"))), "x.png", image="x.png")
    other = "no" if alone.target == "yes" else "yes"
    assert any(f"Of the image itself the model would say {other!r}" in warning for warning in alone.warnings)


def test_members_that_see_different_parts_are_averaged_and_asked_nothing_else():
    class Padding(Turned):
        @property
        def recipe(self):
            return replace(super().recipe, keep_aspect=True)

    one, other = Member(), Padding(name="padding")
    both = package((0.75, one), (0.25, other))
    found = explain_image(both, "x.png", image="x.png", target="yes")
    maps = [
        explain_pixels(model, PIXELS, whole_image(SIZE), image="x.png", method="occlusion", target="yes").map
        for model in (one, other)
    ]
    np.testing.assert_allclose(found.map, 0.75 * maps[0] + 0.25 * maps[1], atol=1e-6)
    with pytest.raises(
        UsageError, match=r"rise: both: its members see different parts of an image .*padding: .*keep_aspect true"
    ):
        explain_image(both, "x.png", image="x.png", method="rise")
