"""What every method keeps, for every family it is defined for."""

import numpy as np
import pytest
import torch
from explanation_models import BrightnessNetwork, Keyhole, whole_image
from explanation_networks import FAMILIES, ensemble, family, pixels_for

from vitrail.errors import UsageError
from vitrail.explanation import (
    EXPLAINERS,
    KernelShap,
    Lime,
    Occlusion,
    Rise,
    defined_methods,
    explain_batch,
    explain_pixels,
    plan_methods,
    total_cost,
)
from vitrail.explanation.run_explain import OF_NO_CLASS

QUICK = {
    name: explainer
    for name, explainer in EXPLAINERS.items()
    if name
    in (
        "cam",
        "grad-cam",
        "grad-cam-plus-plus",
        "layer-cam",
        "hires-cam",
        "gradient",
        "gradient-times-input",
        "guided-backpropagation",
        "attention",
        "attention-rollout",
        "gradient-rollout",
        "activations",
    )
}
ATTENTION = {"attention", "attention-rollout", "gradient-rollout"}
MANY = [name for name in EXPLAINERS if name not in QUICK]
DRAWING = ("expected-gradients", "smooth-grad")
"""Methods that draw at random and need a gradient."""
WITH_ERRORS = (*DRAWING, "rise", "lime", "kernel-shap")


def defined(model, among=tuple(EXPLAINERS)):
    return tuple(name for name, reason in defined_methods(model).items() if not reason and name in among)


def explained(model, pixels, methods, **wishes):
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    places = (whole_image(model.recipe.size),) * len(pixels)
    return explain_batch(model, pixels, places, images=names, methods=methods, **wishes)


def check(model, methods):
    pixels = pixels_for(model, 3)
    kept, scores = pixels.copy(), model.scores(pixels)
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    many = explained(model, pixels, methods, seed=4)
    again = explained(model, pixels[1:2], methods, seed=4)
    assert set(many) == set(methods)
    for name, explanations in many.items():
        assert [one.image for one in explanations] == ["0.png", "1.png", "2.png"]
        for one in explanations:
            assert one.map.shape == pixels.shape[1:3] and one.map.dtype == np.float32
            nothing = any("same everywhere" in warning for warning in one.warnings)
            assert np.isfinite(one.map).all() and (np.abs(one.map).max() > 0 or nothing), name
            assert one.method == name and one.forward_passes > 0 and one.seconds > 0
            assert (one.seed, one.package) == (4, model.fingerprint)
            assert (one.standard_error is not None) == (name in WITH_ERRORS)
        scale = np.abs(explanations[1].map).max() + 1e-12
        np.testing.assert_allclose(again[name][0].map, explanations[1].map, atol=2e-4 * scale, rtol=0, err_msg=name)
    np.testing.assert_array_equal(pixels, kept)
    np.testing.assert_array_equal(model.scores(pixels), scores)
    assert torch.equal(torch.random.get_rng_state(), random) and torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", FAMILIES)
def test_methods_of_one_pass_keep_the_contract(name):
    model = family(name)
    check(model, defined(model, tuple(QUICK)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_methods_of_many_passes_keep_the_contract(name):
    model = family(name)
    check(model, defined(model, tuple(MANY)))


def test_methods_of_many_passes_keep_the_contract_of_a_small_network():
    check(family("cnn"), defined(family("cnn"), tuple(MANY)))


def test_an_ensemble_keeps_the_contract_of_what_asks_for_scores_alone():
    model = ensemble()
    assert defined(model) == ("occlusion", "rise", "lime", "kernel-shap")
    assert all("averages 3 models" in reason for reason in defined_methods(model).values() if reason)
    quick = {"occlusion": Occlusion(), "rise": Rise(most=64), "lime": Lime(samples=50), "kernel-shap": KernelShap(samples=50)}
    check(model, quick)


@pytest.mark.parametrize("name", ["cnn", "vit-class"])
def test_the_same_seed_gives_the_same_map_and_another_one_another(name):
    model = family(name)
    pixels = pixels_for(model)
    for method in defined(model, DRAWING):
        first, second, third = (explained(model, pixels, (method,), seed=seed)[method][0].map for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - third).max() > 0


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cnn", ATTENTION),
        ("cnn-hidden", {"cam", *ATTENTION}),
        ("cnn-gelu", {"cam", "guided-backpropagation", *ATTENTION}),
        ("dense", {"cam", "grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "activations", *ATTENTION}),
        ("mobilenet", ATTENTION),
        ("convnext", {"cam", "guided-backpropagation", *ATTENTION}),
        ("transformer", {"guided-backpropagation"}),
        ("vit-class", {"cam", "guided-backpropagation"}),
        ("vit-attention-pool", {"cam", "guided-backpropagation", *ATTENTION}),
        ("swin", {"cam", "guided-backpropagation", *ATTENTION}),
    ],
)
def test_which_methods_are_defined_for_which_family(name, missing):
    model = family(name)
    reasons = {method: reason for method, reason in defined_methods(model).items() if method in (*QUICK, *DRAWING, "occlusion")}
    assert {method for method, reason in reasons.items() if reason} == missing
    for method in missing:
        with pytest.raises(UsageError, match=rf"^{method}: needs .*Use .*occlusion"):
            explained(model, pixels_for(model), (method,))


def test_where_attention_pools_gradients_pass_and_the_chain_of_attention_ends():
    reasons = defined_methods(family("vit-attention-pool"))
    assert not reasons["integrated-gradients"] and not reasons["grad-cam"]
    assert "pools 16 tokens by attention (attn_pool)" in reasons["attention-rollout"]


def test_a_model_without_a_gradient_is_left_with_what_needs_none():
    assert "occlusion" in defined(Keyhole()) and not set(defined(Keyhole())) & {*QUICK, *DRAWING, "integrated-gradients"}
    assert "grad-cam" in defined(BrightnessNetwork())


def test_auto_says_how_it_chose():
    found = explain_pixels(family("cnn"), pixels_for(family("cnn"))[0], whole_image(32), image="x")
    assert found.method == "grad-cam" and "first method that suits" in found.parameters["chosen"]
    named = explain_pixels(family("cnn"), pixels_for(family("cnn"))[0], whole_image(32), image="x", method="grad-cam")
    assert "chosen" not in named.parameters


def test_the_plan_counts_what_is_shared_once():
    planned = plan_methods(family("cnn"), ("all",))
    assert {one.method for one in planned} == set(EXPLAINERS)
    quick = [one for one in planned if one.method in QUICK and one.shared]
    assert total_cost(quick) == (1, 2), "guided backpropagation goes back once more"
    assert total_cost([one for one in quick if one.method != "guided-backpropagation"]) == (1, 1)
    refused = {one.method for one in plan_methods(family("dense"), ("all",)) if one.refusal}
    assert {"cam", "grad-cam"} <= refused
    assert [one.method for one in plan_methods(family("dense"), ("gradient",))] == ["gradient"]


def test_costs_are_what_was_said(monkeypatch):
    model = family("cnn")
    pixels = pixels_for(model)
    for name in ("gradient", "expected-gradients", "smooth-grad", "grad-cam", "cam", "guided-backpropagation", "activations"):
        (planned,) = plan_methods(model, (name,))
        (one,) = explained(model, pixels, (name,))[name]
        assert (one.forward_passes, one.backward_passes) == (planned.forward, planned.backward), name


def test_images_and_what_belongs_to_them_must_be_as_many():
    model = family("cnn")
    with pytest.raises(UsageError, match=r"same number, at least one. Found: 2, 1, 1, none"):
        explain_batch(model, pixels_for(model, 2), (whole_image(32),), images=("x",))


def test_maps_of_another_class_are_other_maps_except_of_the_methods_that_are_said_to_be_of_no_class():
    model = family("vit-class")
    pixels = pixels_for(model)
    first, second = (explained(model, pixels, defined(model, QUICK), targets=[target]) for target in model.classes[:2])
    same = {name for name in first if np.array_equal(first[name][0].map, second[name][0].map)}
    assert same == OF_NO_CLASS and set(first) >= ATTENTION
