"""Which values lie on the image, how people name them, and where a network attends."""

import numpy as np
import pytest
import torch
from explanation_networks import FAMILIES, family, pixels_for

from vitrail.errors import UsageError
from vitrail.explanation.graph import INPUT, LOGITS, explained
from vitrail.explanation.layers import network_layers
from vitrail.explanation.passes import SharedPasses

DEFAULTS = {
    "cnn": ("activations", (6, 8, 8), 0),
    "cnn-hidden": ("activations", (6, 8, 8), 0),
    "cnn-gelu": ("activations", (6, 8, 8), 0),
    "transformer": ("norm.LayerNormalization", (16, 4, 4), 0),
    "mobilenet": ("activations", (1280, 4, 4), 0),
    "convnext": ("stages.3.blocks.0.Add", (16, 4, 4), 0),
    "vit-class": ("blocks.1.norm1.LayerNormalization", (24, 4, 4), 1),
    "vit-registers": ("blocks.1.Add_1", (24, 4, 4), 4),
    "swin": ("norm.LayerNormalization", (24, 8, 8), 0),
}


def layers_of(name):
    return network_layers(family(name).network)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_is_the_last_layer_whose_places_reach_the_logits(name):
    layer = layers_of(name).default
    expected, shape, prefix = DEFAULTS[name]
    assert layer.name.endswith(expected) and layer.shape == shape and layer.layout.prefix == prefix


def test_a_network_on_pixels_alone_has_no_layer_on_the_image():
    layers = layers_of("dense")
    assert layers.default is None
    with pytest.raises(UsageError, match="none whose places lie on the image"):
        layers.layer("")


@pytest.mark.parametrize("name", ["cnn", "mobilenet", "transformer", "vit-class", "vit-registers", "convnext", "swin"])
def test_layers_lie_where_the_image_says(name):
    """Changing the pixels of one corner changes a shallow layer there, and not in the opposite corner."""
    model, layers = family(name), layers_of(name)
    first = layers.layers[0]
    pixels = pixels_for(model)
    changed = pixels.copy()
    changed[:, :4, -4:] = 255 - changed[:, :4, -4:]
    scaled = [torch.from_numpy(one) for one in (pixels / 255.0 - 0.5, changed / 255.0 - 0.5)]
    maps = [
        first.layout.maps(layers.graph.run({INPUT: one.permute(0, 3, 1, 2).float()}, (first.value,))[first.value])
        for one in scaled
    ]
    difference = (maps[0] - maps[1]).abs().sum(dim=1)[0]
    assert difference[0, -1] > 0 and difference[-1, 0] == 0


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "dense"])
def test_every_layer_has_a_name_of_its_own_and_the_shape_it_says(name):
    layers = layers_of(name)
    names = [layer.name for layer in layers.layers]
    assert len(set(names)) == len(names) > 0
    values = layers.graph.run({INPUT: layers.graph.scaled(pixels_for(family(name)))}, [layer.value for layer in layers.layers])
    for layer in layers.layers:
        assert layer.layout.maps(values[layer.value]).shape == (1, *layer.shape)


def test_a_layer_is_found_by_its_module():
    layers = layers_of("vit-class")
    assert layers.layer("blocks.0").name == "blocks.0.Add_1"
    assert layers.layer("blocks.0.norm1.LayerNormalization").name == "blocks.0.norm1.LayerNormalization"
    with pytest.raises(UsageError, match=r"layer: must be one of .*blocks.1.norm1.*Found: 'blocks.7'"):
        layers.layer("blocks.7")


def test_attention_is_found_with_its_heads_tokens_and_grid():
    for name, tokens, prefix, heads in (("vit-class", 17, 1, 3), ("vit-registers", 20, 4, 3), ("transformer", 16, 0, 2)):
        places = layers_of(name).attentions
        assert [place.name.rsplit(".", 1)[1] for place in places] == ["attn", "attn"]
        for place in places:
            assert (place.heads, place.queries, place.keys, place.windows) == (heads, tokens, tokens, 1)
            assert (place.layout.prefix, place.layout.rows, place.layout.columns) == (prefix, 4, 4)
    windowed = layers_of("swin").attentions
    assert [(place.windows, place.keys, place.layout) for place in windowed] == [(16, 16, None), (16, 16, None), (4, 16, None)]
    assert layers_of("cnn").attentions == () and layers_of("convnext").attentions == ()


def test_attention_times_values_is_the_product():
    layers = layers_of("vit-class")
    place = layers.attentions[0]
    values = layers.graph.run(
        {INPUT: layers.graph.scaled(pixels_for(family("vit-class"), 2))}, (LOGITS, place.softmax, place.values, place.product)
    )
    np.testing.assert_allclose(values[place.softmax].sum(dim=-1).numpy(), 1, atol=1e-5)
    torch.testing.assert_close(values[place.softmax] @ values[place.values], values[place.product])


@pytest.mark.parametrize("name", ["vit-class", "transformer", "swin"])
def test_the_shared_passes_give_attention_and_what_of_it_raises_the_logit(name):
    """dL/dA = dL/dO V^T, where O = A V; what raises L is the mean over heads of max(0, A dL/dA)."""
    model, graph = family(name), network_layers(family(name).network).graph
    pixels, targets = pixels_for(model, 5), np.array([0, 1, 2, 0, 1])
    passes = SharedPasses(model, pixels, targets, model.scores(pixels), wants={"attention", "attention gradient"})
    products = [place.product for place in passes.places]
    found = graph.run({INPUT: graph.scaled(pixels)}, (LOGITS, *(place.values for place in passes.places)), leaves=tuple(products))
    total = explained(found[LOGITS], targets, "logit").sum()
    of_products = torch.autograd.grad(total, [found[one] for one in products])
    for place, attention, speaking, of_product in zip(
        passes.places, passes.attentions(), passes.speaking_attentions(), of_products, strict=True
    ):
        assert attention.shape == (5 * place.windows, place.heads, place.queries, place.keys)
        np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-5)
        gradient = (of_product @ found[place.values].mT).detach().numpy()
        expected = np.maximum(attention * gradient, 0).mean(axis=1)
        assert expected.max() > 0
        np.testing.assert_allclose(speaking, expected, rtol=1e-3, atol=1e-5 * expected.max())
