"""Explaining image files with packages of several models, or of several views."""

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
        parts=parts,
        scores_of=lambda image: sum(weight * model.scores(PIXELS[None])[0] for weight, model in parts),
    )


def test_a_single_model_is_explained_as_ever():
    found = explain_image(package((1.0, Member())), "x.png", image="x.png")
    expected = explain_pixels(Member(), PIXELS, whole_image(SIZE), image="x.png")
    np.testing.assert_array_equal(found.map, expected.map)
    assert (found.method, found.score, found.warnings) == (expected.method, expected.score, expected.warnings)


def test_the_map_of_an_ensemble_is_the_weighted_mean_of_its_members_occlusion_maps():
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


def test_maps_in_units_of_their_own_are_not_averaged():
    both = package((0.5, Member()), (0.5, Turned(name="turned")))
    with pytest.raises(UsageError, match=r"grad-cam: both averages 2 models.*Use occlusion"):
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
    assert any("mean over 3 views" in warning for warning in found.warnings)
