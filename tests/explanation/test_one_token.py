"""Where one token is read, the others are left out, and nothing else changes."""

import numpy as np
import pytest
import timm
import torch
from explanation_networks import SIZE, SMALL_VIT, family, packed, pixels_for, random_head, recipe_of, settle

from vitrail.explanation.graph import INPUT, LOGITS, NetworkGraph, network_graph
from vitrail.explanation.layers import Layers, network_layers
from vitrail.models.backbones import Features, pooling_and_dimension


def vit(name, **wishes):
    network = settle(timm.create_model(name, pretrained=False, num_classes=0, **{**SMALL_VIT, **wishes}), 0)
    pooling, dimension = pooling_and_dimension(network, torch.rand(2, 3, SIZE, SIZE))
    return packed(Features(network, pooling).eval(), random_head(dimension), recipe_of("rgb"), pooling)


@pytest.mark.parametrize("make", [lambda: family("vit-class"), lambda: vit("deit3_small_patch16_224", init_values=0.1)])
def test_scores_and_gradients_are_the_same_without_the_other_tokens(make):
    model = make()
    layers = network_layers(model.network)
    graph, rules = layers.graph, layers.one_token
    assert rules
    inputs = graph.scaled(pixels_for(model, 3))
    for name in (layers.default.value, layers.attentions[-1].softmax, layers.layers[-1].value):
        begin, found = graph.run({INPUT: inputs}, (name, *graph.cut(name))), []
        for wished in ({}, rules):
            feeds = {fed: value.clone().requires_grad_(fed == name) for fed, value in begin.items()}
            logits = graph.run(feeds, rules=wished)[LOGITS]
            found.append((logits.detach(), torch.autograd.grad(logits[:, 1].sum(), feeds[name])[0]))
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5 * float(other.abs().max()))


def test_the_last_block_works_on_one_token_after_its_attention():
    model = family("vit-class")
    layers = network_layers(model.network)
    of_block = [name for name in layers.graph.values if "blocks.1/mlp" in name]
    inputs = layers.graph.scaled(pixels_for(model, 2))
    values = layers.graph.run({INPUT: inputs}, of_block, rules=layers.one_token)
    assert of_block and {value.shape[:2] for value in values.values()} == {(2, 1)}
    before = layers.graph.run({INPUT: inputs}, (layers.attentions[-1].softmax,), rules=layers.one_token)
    assert before[layers.attentions[-1].softmax].shape[-2:] == (17, 17), "attention is between all tokens"


@pytest.mark.parametrize("name", ["cnn", "dense", "transformer", "vit-registers", "vit-attention-pool", "swin", "convnext"])
def test_where_all_tokens_are_read_none_is_left_out(name):
    assert Layers(NetworkGraph(family(name).network)).one_token == {}


def test_where_two_tokens_are_read_none_is_left_out():
    model = vit("deit_tiny_distilled_patch16_224")
    assert network_layers(model.network).one_token == {}
    assert network_graph(model.network) is network_layers(model.network).graph
