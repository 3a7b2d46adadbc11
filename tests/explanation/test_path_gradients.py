"""Integrated gradients, expected gradients and SmoothGrad against closed forms and Captum."""

import numpy as np
import pytest
import torch
from explanation_models import whole_image
from explanation_networks import family, pixels_for
from scipy.ndimage import gaussian_filter
from test_gradients import Forward, linear_package

from vitrail.explanation import explain_batch
from vitrail.explanation.graph import INPUT, LOGITS, network_graph
from vitrail.explanation.path_gradients import ExpectedGradients, IntegratedGradients, SmoothGrad, clenshaw_curtis
from vitrail.records import Placement


def asked(model, explainer, pixels, targets, **wishes):
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    places = (whole_image(model.recipe.size),) * len(pixels)
    return explain_batch(model, pixels, places, images=names, methods={"one": explainer}, targets=targets, **wishes)["one"]


def logits_of(model, pixels):
    graph = network_graph(model.network)
    return graph.run({INPUT: graph.scaled(pixels)})[LOGITS].numpy()


SLOW = pytest.param("mobilenet", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["cnn", "cnn-hidden", "cnn-gelu", "dense", "transformer", SLOW, "vit-class", "swin"])
def test_integrated_gradients_are_complete(name):
    model = family(name)
    pixels = pixels_for(model, 2)
    black = logits_of(model, np.zeros_like(pixels[:1]))[0]
    for number, one in enumerate(asked(model, IntegratedGradients(), pixels, ("a", "c"))):
        target = (0, 2)[number]
        difference = float(logits_of(model, pixels)[number, target] - black[target])
        assert one.parameters["completeness_error"] <= 0.01 or any("adds up to" in warning for warning in one.warnings)
        if one.parameters["completeness_error"] <= 0.01:
            assert one.map.sum() == pytest.approx(difference, abs=0.011 * max(abs(difference), 1e-3))


def test_most_networks_need_no_warning():
    found = [
        asked(family(name), IntegratedGradients(), pixels_for(family(name)), ("b",))[0] for name in ("cnn", "cnn-gelu", "dense")
    ]
    assert not any("adds up to" in warning for one in found for warning in one.warnings)


def test_too_few_steps_are_said():
    (one,) = asked(
        family("vit-class"), IntegratedGradients(steps=1, most_steps=1, tolerance=1e-6), pixels_for(family("vit-class")), ("a",)
    )
    assert any("With 1 steps the map still adds up to" in warning for warning in one.warnings)
    assert one.forward_passes == 4 and one.backward_passes == 4


@pytest.mark.parametrize("steps", [2, 4, 16, 64])
def test_the_rule_is_exact_for_polynomials_and_keeps_its_places(steps):
    places, weights = (np.array(one) for one in clenshaw_curtis(steps))
    for power in range(steps + 1):
        assert (weights * places**power).sum() == pytest.approx(1 / (power + 1), rel=1e-9)
    assert set(places) <= set(clenshaw_curtis(2 * steps)[0])


def test_places_are_used_again():
    model = family("vit-class")
    (one,) = asked(model, IntegratedGradients(steps=4, most_steps=32, tolerance=0.0), pixels_for(model), ("a",))
    assert one.parameters["steps"] == 32 and one.backward_passes == 32 + 1 + 2


def test_of_a_linear_network_one_step_is_exact():
    model = linear_package()
    pixels = pixels_for(model)
    weight = model.network.weights[0].reshape(2, 3, 8, 8)
    (one,) = asked(model, IntegratedGradients(steps=1), pixels, ("b",))
    slope = 1 / 255 / np.array(model.recipe.deviation)[:, None, None]
    expected = (weight[1] * slope * pixels[0].transpose(2, 0, 1)).sum(axis=0)
    np.testing.assert_allclose(one.map, expected, rtol=1e-4, atol=1e-4)
    assert one.parameters["steps"] == 1


def test_integrated_gradients_agree_with_captum():
    captum = pytest.importorskip("captum.attr")
    model = family("vit-class")  # smooth: both rules are exact
    pixels = pixels_for(model, 2)
    inputs = network_graph(model.network).scaled(pixels)
    black = network_graph(model.network).scaled(np.zeros_like(pixels))
    library = captum.IntegratedGradients(Forward(model))
    expected = library.attribute(inputs, black, target=[0, 1], n_steps=64, method="gausslegendre")
    found = asked(model, IntegratedGradients(steps=64), pixels, ("a", "b"))
    maps = np.stack([one.map for one in found])
    np.testing.assert_allclose(maps, expected.detach().numpy().sum(axis=1), rtol=2e-3, atol=1e-4 * np.abs(maps).max())


@pytest.mark.parametrize("baseline", ["black", "blur", "median"])
def test_the_baseline_is_chosen_and_recorded(baseline):
    model = family("cnn")
    (one,) = asked(model, IntegratedGradients(baseline=baseline), pixels_for(model), ("a",))
    assert one.parameters["baseline"] == baseline and np.abs(one.map).max() > 0


# ---------------------------------------------------------------------------------------------------- expected gradients


def test_of_a_linear_network_expected_gradients_are_known():
    model = linear_package()
    pixels, others = pixels_for(model), pixels_for(model, 3, seed=9)
    weight = model.network.weights[0].reshape(2, 3, 8, 8)
    slope = 1 / 255 / np.array(model.recipe.deviation)[:, None, None]
    (one,) = asked(model, ExpectedGradients(samples=400), pixels, ("a",), background=others)
    expected = (weight[0] * slope * (pixels[0] - others.mean(axis=0)).transpose(2, 0, 1)).sum(axis=0)
    away = np.abs(one.map - expected) / np.maximum(one.standard_error, 1e-9)
    assert np.quantile(away, 0.9) < 3 and one.standard_error.max() > 0
    assert one.parameters["baselines"] == "3 images" and not any("blurred" in warning for warning in one.warnings)


def test_expected_gradients_add_up_within_their_error():
    model = family("cnn-hidden")
    pixels, others = pixels_for(model), pixels_for(model, 4, seed=5)
    (one,) = asked(model, ExpectedGradients(samples=400), pixels, ("a",), background=others)
    difference = float(logits_of(model, pixels)[0, 0] - logits_of(model, others)[:, 0].mean())
    assert one.map.sum() == pytest.approx(difference, abs=0.15 * abs(difference))


def test_without_images_blurred_versions_stand_in_and_that_is_said():
    (one,) = asked(family("cnn"), ExpectedGradients(samples=8), pixels_for(family("cnn")), ("a",))
    assert any("blurred versions" in warning for warning in one.warnings)
    assert one.parameters["baselines"] == "4 blurred versions"


# ---------------------------------------------------------------------------------------------------- padding

WIDE = Placement(10, 32, 0, 0, 10, 32, 11, 0, 21, 32)


def padded(model, count=1, seed=0):
    """Return images of three times the width of their height, with black padding above and below."""
    pixels = pixels_for(model, count, seed)
    pixels[:, :11] = pixels[:, 21:] = 0
    return pixels


def value_against(model, pixels, baseline):
    """Return how far the logits of the image are above those of what stands in for it, where the image is."""
    graph = network_graph(model.network)
    inputs, other = graph.scaled(pixels), graph.scaled(pixels)
    other[:, :, 11:21] = graph.scaled(baseline)[:, :, 11:21]
    return (graph.run({INPUT: inputs})[LOGITS] - graph.run({INPUT: other})[LOGITS]).numpy()[0].astype(float)


def of_wide(model, explainer, pixels, **wishes):
    (one,) = explain_batch(model, pixels, (WIDE,), images=("x",), methods={"one": explainer}, targets=("a",), **wishes)["one"]
    return one


@pytest.mark.parametrize("name", ["cnn-hidden", "transformer", "vit-class"])
@pytest.mark.parametrize("baseline", ["black", "blur", "median"])
def test_padding_takes_nothing_from_the_sum(name, baseline):
    model = family(name)
    pixels, other = padded(model), padded(model)
    shown = pixels[0, 11:21].astype(float)
    if baseline == "blur":
        other[0, 11:21] = np.rint(gaussian_filter(shown, (4, 4, 0), mode="nearest"))
    else:
        other[0, 11:21] = np.rint(np.median(shown, axis=(0, 1))) if baseline == "median" else 0
    one = of_wide(model, IntegratedGradients(baseline=baseline, steps=64, most_steps=512), pixels)
    difference = value_against(model, pixels, other)[0]
    assert one.map.shape == (10, 32) and one.parameters["completeness_error"] <= 0.01
    assert one.map.sum() == pytest.approx(difference, abs=0.011 * max(abs(difference), 1e-3))


@pytest.mark.parametrize("given", [False, True])
def test_expected_gradients_of_a_padded_image_add_up(given):
    model = family("vit-class")
    pixels, other = padded(model), pixels_for(model, 1, seed=5)
    if given:
        against, wishes = value_against(model, pixels, other)[0], {"background": other}
    else:
        blurred = [padded(model) for _ in range(4)]
        for one, width in zip(blurred, (0.5, 1, 2, 4), strict=True):
            one[0, 11:21] = np.rint(gaussian_filter(pixels[0, 11:21].astype(float), (width, width, 0), mode="nearest"))
        against, wishes = np.mean([value_against(model, pixels, one)[0] for one in blurred]), {}
    found = of_wide(model, ExpectedGradients(samples=600), pixels, **wishes)
    assert found.map.sum() == pytest.approx(against, abs=0.1 * abs(against))


# ---------------------------------------------------------------------------------------------------- SmoothGrad


def test_of_a_linear_network_smooth_grad_is_the_gradient_without_error():
    model = linear_package("grey", "unit")
    (one,) = asked(model, SmoothGrad(samples=5), pixels_for(model), ("a",))
    np.testing.assert_allclose(one.map, model.network.weights[0][0].reshape(8, 8) / 255, rtol=1e-4)
    assert one.standard_error.max() <= 1e-6 * np.abs(one.map).max()


def test_smooth_grad_agrees_with_captum_within_its_error():
    captum = pytest.importorskip("captum.attr")
    model = family("cnn-gelu")
    pixels = pixels_for(model)
    inputs = network_graph(model.network).scaled(pixels).requires_grad_()
    torch.manual_seed(0)
    tunnel = captum.NoiseTunnel(captum.Saliency(Forward(model)))
    width = 0.15 * float(inputs.max() - inputs.min())
    expected = tunnel.attribute(
        inputs, target=0, nt_type="smoothgrad", nt_samples=600, nt_samples_batch_size=50, stdevs=width, abs=False
    )
    (one,) = asked(model, SmoothGrad(samples=200), pixels, ("a",))
    away = np.abs(one.map - expected.detach().numpy()[0, 0] / 255) / one.standard_error
    assert np.median(away) < 1.2 and np.quantile(away, 0.99) < 5


def test_more_samples_make_the_error_smaller():
    model = family("cnn-hidden")
    few, many = (
        asked(model, SmoothGrad(samples=count), pixels_for(model), ("a",))[0].standard_error.mean() for count in (16, 256)
    )
    assert many == pytest.approx(few / 4, rel=0.3)
