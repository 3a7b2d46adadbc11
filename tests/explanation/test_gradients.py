"""Gradients against closed forms and Captum."""

import numpy as np
import pytest
import torch
from explanation_models import Keyhole, whole_image
from explanation_networks import family, packed, pixels_for, random_head, recipe_of
from torch import nn

from vitrail.errors import UsageError
from vitrail.explanation import EXPLAINERS, explain_batch
from vitrail.explanation.graph import INPUT, LOGITS, network_graph
from vitrail.explanation.layers import network_layers
from vitrail.models.cnn import Flattened
from vitrail.models.heads import DenseHead


def asked(model, method, pixels, targets=None, **wishes):
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    places = (whole_image(model.recipe.size),) * len(pixels)
    return explain_batch(model, pixels, places, images=names, methods=(method,), targets=targets, **wishes)[method]


def maps(model, method, pixels, targets=None, **wishes):
    return np.stack([one.map for one in asked(model, method, pixels, targets, **wishes)])


class Forward(nn.Module):
    """The rebuilt network as a module, for libraries that want one."""

    def __init__(self, model):
        super().__init__()
        self.graph = network_graph(model.network)

    def forward(self, inputs):
        return self.graph.run({INPUT: inputs})[LOGITS]


def linear_package(colour="rgb", scaling="channel", bias=(0.5, -1.0)):
    recipe = recipe_of(colour, scaling, size=8)
    weight = np.random.default_rng(0).normal(size=(2, recipe.channels * 64)).astype(np.float32)
    return packed(Flattened(), DenseHead((weight,), (np.array(bias, np.float32),), "relu"), recipe, "none", ("a", "b"))


@pytest.mark.parametrize(
    ("colour", "scaling"), [("rgb", "channel"), ("grey", "unit"), ("rgb", "minmax"), ("grey", "standardise")]
)
def test_of_a_linear_network_the_gradient_is_the_weight_per_grey_level(colour, scaling):
    model = linear_package(colour, scaling)
    pixels = pixels_for(model, 2)
    weight = model.network.weights[0].reshape(2, model.recipe.channels, 8, 8)
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float64)
    if scaling == "channel":
        slope = 1 / 255 / np.array(model.recipe.deviation)[:, None, None]
    elif scaling == "unit":
        slope = 1 / 255
    else:
        spread = np.ptp(planes, axis=(1, 2, 3)) if scaling == "minmax" else planes.std(axis=(1, 2, 3))
        slope = 1 / spread[:, None, None, None]
    found = maps(model, "gradient", pixels, ("a", "b"))
    expected = (weight * slope).sum(axis=1)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape) if len(expected) == len(found) else found, rtol=1e-4)
    times = maps(model, "gradient-times-input", pixels, ("a", "b"))
    np.testing.assert_allclose(times, (weight * slope * planes).sum(axis=1), rtol=1e-4, atol=1e-4)


def test_without_biases_gradient_times_input_adds_up_to_the_logit():
    model = linear_package("grey", "unit", bias=(0.0, 0.0))
    pixels = pixels_for(model, 3)
    logits = Forward(model)(network_graph(model.network).scaled(pixels)).numpy()
    found = maps(model, "gradient-times-input", pixels, ("b",) * 3)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), logits[:, 1], rtol=1e-4)


@pytest.mark.parametrize("name", ["cnn", "cnn-hidden", "cnn-gelu", "vit-class"])
def test_gradients_agree_with_captum(name):
    captum = pytest.importorskip("captum.attr")
    model = family(name)
    pixels = pixels_for(model, 3)
    inputs = network_graph(model.network).scaled(pixels).requires_grad_()
    targets = [0, 1, 2]
    slope = 1 / 255 if model.recipe.scaling == "unit" else 1 / 255 / np.array(model.recipe.deviation)[:, None, None]
    saliency = captum.Saliency(Forward(model)).attribute(inputs, target=targets, abs=False).detach().numpy()
    found = maps(model, "gradient", pixels, ("a", "b", "c"))
    np.testing.assert_allclose(found, (saliency * slope).sum(axis=1), rtol=1e-3, atol=1e-5 * np.abs(found).max())
    if model.recipe.scaling == "unit":
        product = captum.InputXGradient(Forward(model)).attribute(inputs, target=targets).detach().numpy().sum(axis=1)
        times = maps(model, "gradient-times-input", pixels, ("a", "b", "c"))
        np.testing.assert_allclose(times, product, rtol=1e-3, atol=1e-5 * np.abs(times).max())


def torch_twin(model):
    """The network of ``cnn-hidden`` as modules, with the package's weights: what libraries that look for ReLU modules need."""
    weights = network_graph(model.network).weights
    kernels = [value for value in weights.values() if value.ndim == 4]
    biases = [value for name, value in weights.items() if value.ndim == 1 and not name.startswith("head")]
    layers = []
    for kernel, bias in zip(kernels, biases, strict=True):
        convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding=1)
        convolution.weight.data, convolution.bias.data = kernel.clone(), bias.clone()
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
    layers.append(nn.Flatten())
    for number in (0, 1):
        weight, bias = weights[f"head.{number}.weight"], weights[f"head.{number}.bias"]
        dense = nn.Linear(weight.shape[1], weight.shape[0])
        dense.weight.data, dense.bias.data = weight.clone(), bias.clone()
        layers += [dense, nn.ReLU()] if number == 0 else [dense]
    return nn.Sequential(*layers).eval()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU")
def test_guided_backpropagation_agrees_with_captum():
    captum = pytest.importorskip("captum.attr")
    model = family("cnn-hidden")
    twin, pixels = torch_twin(model), pixels_for(model, 3)
    inputs = network_graph(model.network).scaled(pixels)
    torch.testing.assert_close(twin(inputs), Forward(model)(inputs), rtol=1e-4, atol=1e-5)
    expected = captum.GuidedBackprop(twin).attribute(inputs.requires_grad_(), target=[0, 1, 2]).detach().numpy() / 255
    found = maps(model, "guided-backpropagation", pixels, ("a", "b", "c"))
    np.testing.assert_allclose(found, expected.sum(axis=1), rtol=1e-3, atol=1e-6 * np.abs(found).max())
    assert np.abs(found - maps(model, "gradient", pixels, ("a", "b", "c"))).max() > 0.05 * np.abs(found).max()


@pytest.mark.parametrize("name", ["cnn", "cnn-hidden", "mobilenet"])
def test_plain_and_guided_gradients_share_one_pass_forth_and_do_not_touch_one_another(name, monkeypatch):
    model, pixels = family(name), pixels_for(family(name), 3)
    names, places = ("0", "1", "2"), (whole_image(model.recipe.size),) * 3
    methods = ("grad-cam", "gradient", "guided-backpropagation")
    alone = {method: maps(model, method, pixels) for method in methods}
    graph, forth = network_layers(model.network).graph, []
    assert network_layers(model.network).default is not None  # found by passes of its own
    run = graph.run
    monkeypatch.setattr(graph, "run", lambda *given, **wishes: forth.append(given) or run(*given, **wishes))
    together = explain_batch(model, pixels, places, images=names, methods=methods)
    assert len(forth) == 1
    for method in methods:
        found = np.stack([one.map for one in together[method]])
        np.testing.assert_allclose(found, alone[method], rtol=1e-4, atol=1e-5 * np.abs(found).max(), err_msg=method)


def test_relu6_has_no_slope_at_its_corners_as_in_torch():
    recipe = recipe_of("grey", "unit", size=4)
    weight = np.array([[1.0] * 16, [0.0] * 16], np.float32)
    model = packed(Clipped(), DenseHead((weight,), (np.zeros(2, np.float32),), "relu"), recipe, "none", ("a", "b"))
    leaf = torch.tensor([0.0, 0.2, 0.5, 0.8]).repeat(4).reshape(1, 1, 4, 4).requires_grad_()  # 10 x - 2 is -2, 0, 3, 6
    (found,) = torch.autograd.grad(network_graph(model.network).run({INPUT: leaf})[LOGITS][0, 0], leaf)
    np.testing.assert_array_equal(found[0, 0].numpy(), np.tile([0, 0, 10, 0], (4, 1)))


class Clipped(nn.Module):
    """clip(w x, 0, 6) of one pixel each, then all values."""

    outputs = ("embedding",)

    def forward(self, pixels):
        return (torch.clamp(10 * pixels - 2, 0, 6).flatten(1),)


def test_guided_backpropagation_follows_its_rule_at_relu6():
    recipe = recipe_of("grey", "unit", size=4)
    weight = np.array([[1.0, -1.0] * 8, [0.0] * 16], np.float32)
    model = packed(Clipped(), DenseHead((weight,), (np.zeros(2, np.float32),), "relu"), recipe, "none", ("a", "b"))
    pixels = np.tile(np.array([0, 120, 130, 250], np.uint8), 4).reshape(1, 4, 4, 1)
    (found,) = maps(model, "guided-backpropagation", pixels, ("a",))
    # 0: below; 120 with weight -1: blocked on the way back; 130 with weight 1: passes; 250: above 6
    np.testing.assert_allclose(found, np.tile([0, 0, 10 / 255, 0], (4, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (family("cnn-gelu"), "toy has GELU, for which the method has no rule"),
        (family("vit-class"), "toy has GELU"),
        (linear_package(), "has no ReLU: its map would be the plain gradient"),
        (Keyhole(), "trees and support vectors have no gradient"),
    ],
)
def test_guided_backpropagation_is_refused_where_it_has_no_rule(model, reason):
    with pytest.raises(UsageError, match=f"guided-backpropagation: needs .*{reason}.* Use .*occlusion"):
        asked(
            model, "guided-backpropagation", np.zeros((1, model.recipe.size, model.recipe.size, model.recipe.channels), np.uint8)
        )


class Gated(nn.Module):
    """A convolution with an activation, weighed by a gate of its own means (squeeze and excitation)."""

    outputs = ("activations", "embedding")

    def __init__(self, activation):
        super().__init__()
        self.convolution, self.activation, self.gate = nn.Conv2d(1, 3, 3), activation, nn.Conv2d(3, 3, 1)

    def forward(self, pixels):
        maps = self.activation(self.convolution(pixels))
        maps = maps * torch.sigmoid(self.gate(maps.mean(dim=(2, 3), keepdim=True)))
        return maps, maps.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("activation", "reason"),
    [(nn.ReLU(), ""), (nn.ReLU6(), ""), (nn.SiLU(), "SiLU"), (nn.Hardswish(), "HardSwish"), (nn.ELU(), "Elu")],
)
def test_gates_are_no_activations_but_silu_is(activation, reason):
    model = packed(Gated(activation).eval(), random_head(3), recipe_of(size=8), "average")
    found = EXPLAINERS["guided-backpropagation"].refusal(model)
    assert reason in found and bool(found) == bool(reason)


def test_the_quantity_decides_what_is_differentiated():
    model = family("cnn")
    pixels = pixels_for(model, 2)
    inputs = network_graph(model.network).scaled(pixels).requires_grad_()
    logits = Forward(model)(inputs)
    scores = logits.softmax(dim=1)
    (expected,) = torch.autograd.grad(scores[:, 1].sum(), inputs)
    found = asked(model, "gradient", pixels, ("b", "b"), quantity="probability")
    np.testing.assert_allclose(np.stack([one.map for one in found]), expected.sum(dim=1).numpy() / 255, rtol=1e-3, atol=1e-9)
    assert found[0].quantity == "probability"
    contrast = maps(model, "gradient", pixels, ("b", "b"), quantity="contrast")
    others = logits.detach().clone()
    others[:, 1] = -np.inf
    names = [model.classes[place] for place in others.argmax(dim=1).tolist()]
    difference = maps(model, "gradient", pixels, ("b", "b")) - maps(model, "gradient", pixels, names)
    np.testing.assert_allclose(contrast, difference, atol=1e-6)
