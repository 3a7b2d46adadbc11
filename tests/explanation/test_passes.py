"""What methods share: scores, passes, and what must not be computed."""

import numpy as np
import pytest
import torch
from explanation_models import whole_image
from explanation_networks import family, pixels_for

from vitrail.errors import PackageError
from vitrail.explanation import explain_batch
from vitrail.explanation import graph as graph_module
from vitrail.explanation.graph import INPUT, LOGITS, NetworkGraph, network_graph
from vitrail.explanation.passes import SharedPasses
from vitrail.models.package import ModelPackage


def asked(model, methods, pixels, **wishes):
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    places = (whole_image(model.recipe.size),) * len(pixels)
    return explain_batch(model, pixels, places, images=names, methods=methods, **wishes)


def test_methods_that_ask_for_scores_alone_get_nothing_else(monkeypatch):
    model = family("cnn")

    def never(*_):
        raise AssertionError("nobody wants feature maps")

    monkeypatch.setattr(ModelPackage, "embed_with_maps", never)
    monkeypatch.setattr(ModelPackage, "embedding_gradient", never)
    asked(model, ("occlusion",), pixels_for(model))


@pytest.mark.parametrize("name", ["cnn", "vit-class"])
def test_a_method_gives_the_same_whoever_is_asked_beside_it(name):
    model = family(name)
    pixels = pixels_for(model, 2)
    alone = asked(model, ("occlusion",), pixels)["occlusion"]
    together = asked(model, ("gradient", "occlusion"), pixels)["occlusion"]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.map, other.map)


@pytest.mark.parametrize("name", ["cnn", "vit-class", "swin"])
@pytest.mark.parametrize("wants", [{"input gradient"}, {"feature maps", "feature map gradient"}, set()])
@pytest.mark.parametrize("images", [1, 3, 6])
def test_the_scores_are_the_packages_whatever_run_gives_them(name, wants, images):
    model = family(name)
    pixels = pixels_for(model, images)
    passes = SharedPasses(model, pixels, wants=wants)
    np.testing.assert_allclose(passes.scores, model.scores(pixels), atol=1e-5)


def test_a_transformer_goes_on_in_torch_where_its_maps_are(monkeypatch):
    model = family("vit-class")
    pixels = pixels_for(model, 5)
    graph, begun = network_graph(model.network), []
    expected = asked(model, ("grad-cam", "gradient"), pixels)["grad-cam"]  # the whole network, held against the package
    monkeypatch.setattr(graph_module, "MOST_TOGETHER", 2)
    vars(graph).pop("images_per_pass")
    assert graph.images_per_pass == 2
    before = graph.run

    def run(feeds, *arguments, **wishes):
        begun.append((INPUT in feeds, len(next(iter(feeds.values())))))
        return before(feeds, *arguments, **wishes)

    monkeypatch.setattr(graph, "run", run)
    found = asked(model, ("grad-cam",), pixels)["grad-cam"]
    assert begun == [(False, 2), (False, 2), (False, 1)]
    vars(graph).pop("images_per_pass")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-3 * np.abs(other.map).max())
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_network_that_is_not_the_packages_is_refused(monkeypatch):
    model = family("vit-class")
    pixels = pixels_for(model)
    other = ModelPackage(model.description, model.embedder, model.head)  # of whose network nothing is known yet
    graph = network_graph(other.network)
    name = next(name for name in graph.weights if name.startswith("head."))
    graph._constants[name] = graph._constants[name] * 3
    with pytest.raises(PackageError, match=r"rebuilt for gradients, gives other scores than the package.*occlusion"):
        asked(other, ("gradient",), pixels)
    assert asked(other, ("occlusion",), pixels)


def test_scores_that_are_not_finite_are_told_as_such_and_prove_nothing(monkeypatch):
    model = family("vit-class")
    other = ModelPackage(model.description, model.embedder, model.head)
    graph = network_graph(other.network)
    name = next(name for name in graph.weights if name.startswith("head."))
    graph._constants[name] = graph._constants[name] * np.nan
    with monkeypatch.context() as patch:
        patch.setattr(ModelPackage, "scores", lambda package, pixels: np.full((len(pixels), 3), np.nan))
        with pytest.raises(PackageError, match=r"the scores of 0\.png are not finite"):
            asked(other, ("gradient",), pixels_for(other))
    with pytest.raises(PackageError, match="gives other scores than the package"):
        asked(other, ("gradient",), pixels_for(other))


def test_values_from_the_runtime_are_held_against_the_package(monkeypatch):
    """Where the scores came from the package, whatever was recorded must give the same."""
    model = family("vit-class")
    pixels = pixels_for(model, 6)
    asked(model, ("grad-cam",), pixels)
    inside = ModelPackage.values_inside

    def wrong(package, some, names):
        return {name: np.roll(value, 1, axis=-1) for name, value in inside(package, some, names).items()}

    monkeypatch.setattr(ModelPackage, "values_inside", wrong)
    with pytest.raises(PackageError, match="gives other scores than the package"):
        asked(model, ("grad-cam",), pixels)


@pytest.mark.parametrize("name", ["vit-class", "swin", "convnext"])
def test_kept_sizes_are_those_of_the_images_at_hand(name):
    """Calculations of sizes are done once per number of images; nothing else is kept."""
    model = family(name)
    graph = NetworkGraph(model.network)
    for images in (1, 3, 1, 3):
        pixels = pixels_for(model, images)
        inputs = graph.scaled(pixels).requires_grad_()
        logits = graph.run({INPUT: inputs})[LOGITS]
        np.testing.assert_allclose(logits.detach().double().softmax(dim=1).numpy(), model.scores(pixels), atol=1e-5)
        (gradient,) = torch.autograd.grad(logits.sum(), inputs)
        fresh = NetworkGraph(model.network)
        again = fresh.scaled(pixels).requires_grad_()
        (expected,) = torch.autograd.grad(fresh.run({INPUT: again})[LOGITS].sum(), again)
        np.testing.assert_allclose(gradient, expected, atol=1e-6)
    kept = graph._sizes[tuple(inputs.shape)]
    assert kept and not any(value.requires_grad for value in kept.values())
    assert sum(value.numel() for value in kept.values()) < 10_000
