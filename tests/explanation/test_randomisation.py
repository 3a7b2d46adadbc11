"""Networks that have forgotten what they learnt: what is drawn anew, and which maps notice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from toy_network import gradient_maps, placements, striped, trained_toy

from vitrail.errors import PackageError, UsageError
from vitrail.explanation.grading.asking import method_of
from vitrail.explanation.grading.baselines import baseline_maps
from vitrail.explanation.grading.randomisation import randomisation_test
from vitrail.explanation.grading.redrawn import RedrawnModel, cascade

pytest.importorskip("torch")
IMAGES = 12


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return trained_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def pixels():
    return striped(IMAGES, seed=9)[0]


def test_the_toy_has_learnt_and_the_redrawn_one_has_not(toy):
    pixels, labels, _ = striped(100, seed=5)
    assert (toy.scores(pixels).argmax(axis=1) == labels).mean() > 0.95
    scores = RedrawnModel(toy, seed=1).scores(pixels)
    assert (scores.argmax(axis=1) == labels).mean() < 0.8
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_every_tensor_keeps_its_values_in_another_order_and_the_model_is_left_as_it_is(toy, pixels):
    before = toy.scores(pixels)
    redrawn = RedrawnModel(toy, seed=1)
    assert set(redrawn.network.replaced) == set(toy.graph.weights) and len(toy.graph.weights) == 6
    for name, value in toy.graph.weights.items():
        other = redrawn.network.replaced[name]
        np.testing.assert_array_equal(np.sort(other.ravel()), np.sort(value.numpy().ravel()))
        assert value.numel() < 8 or not np.array_equal(other, value.numpy())  # few values may fall into their old order
    np.testing.assert_array_equal(toy.scores(pixels), before)
    np.testing.assert_array_equal(redrawn.scores(pixels), RedrawnModel(toy, seed=1).scores(pixels))
    assert not np.array_equal(redrawn.scores(pixels), RedrawnModel(toy, seed=2).scores(pixels))


@pytest.mark.parametrize("name", ["vit-class", "vit-registers", "convnext", "swin"])
def test_nothing_that_a_backbone_has_learnt_is_left_in_place(name):
    import timm
    import torch
    from explanation_networks import BACKBONES, SIZE, packed, pixels_for, random_head, recipe_of

    from vitrail.explanation.graph import network_graph
    from vitrail.models.backbones import Features, pooling_and_dimension

    architecture, wishes = BACKBONES[name]
    backbone = timm.create_model(architecture, pretrained=False, num_classes=0, **wishes).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    pooling, dimension = pooling_and_dimension(backbone, torch.rand(2, 3, SIZE, SIZE))
    model = packed(Features(backbone, pooling), random_head(dimension), recipe_of("rgb", "channel"), pooling)
    redrawn = RedrawnModel(model, seed=1)
    before, after = network_graph(model.network).weights, redrawn.network.replaced
    assert not any("Constant" in tensor for tensor in before)  # Swin's attention masks are no weights
    moved = [value.numpy() for tensor, value in before.items() if not np.array_equal(value.numpy(), after[tensor])]
    there = np.concatenate([value.ravel() for value in moved])
    for parameter, values in backbone.named_parameters():
        assert np.isin(values.detach().numpy(), there).all(), f"{parameter} is where it was"
    pixels = pixels_for(model, 2)
    scores = redrawn.scores(pixels)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert not np.allclose(scores, model.scores(pixels), atol=0.01)


def test_the_cascade_goes_from_the_logits_down_and_keeps_what_it_drew(toy):
    stages = list(cascade(toy, seed=0, stages=3))
    names = [set(model.network.replaced) for _, model in stages]
    assert names[0] == {"head.0.weight", "head.0.bias"} and [len(one) for one in names] == [2, 4, 6]
    assert names[0] < names[1] < names[2] and stages[-1][0] == "all weights"
    for before, after in pairwise(stages):
        for name, value in before[1].network.replaced.items():
            np.testing.assert_array_equal(after[1].network.replaced[name], value)


def test_its_head_and_maps_are_those_of_the_redrawn_weights(toy, pixels):
    redrawn = RedrawnModel(toy, seed=1)
    maps, embedding = redrawn.embed_with_maps(pixels[:1])
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), embedding, rtol=1e-5)
    weight, bias = (redrawn.network.replaced[f"head.0.{what}"] for what in ("weight", "bias"))
    np.testing.assert_allclose(redrawn.embedding_gradient(embedding, 1), weight[1])
    logits = weight @ embedding + bias
    np.testing.assert_allclose(redrawn.scores(pixels[:1])[0], np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)


def test_gradients_pass_and_edges_of_the_image_fail(toy, pixels):
    targets = toy.scores(pixels).argmax(axis=1)
    groups = np.arange(IMAGES)
    maps = gradient_maps(toy, pixels, targets)
    stages = [(name, gradient_maps(model, pixels, targets)) for name, model in cascade(toy, seed=0)]
    found = randomisation_test(maps, stages, placements(IMAGES), groups, seed=0)
    assert found.passed and found.last.value < found.threshold and found.last.n == IMAGES
    assert len(found.stages) == len(found.similarities) == 4 and found.similarities[0] > found.similarities[-1]
    edges = baseline_maps(pixels, placements(IMAGES), seed=0)["edges of the image"]
    failed = randomisation_test(edges, [("all weights", edges)], placements(IMAGES), groups, seed=0)
    assert failed.passed is False and failed.similarities == (pytest.approx(1.0),)


def test_maps_that_say_nothing_are_neither_passed_nor_failed(toy, pixels):
    flat, some = np.ones((IMAGES, 16, 16), dtype=np.float32), np.random.default_rng(0).random((IMAGES, 16, 16))
    groups = np.arange(IMAGES)
    found = randomisation_test(flat, [("all weights", some)], placements(IMAGES), groups, seed=0)
    assert found.passed is None and found.similarities == (None,)
    found = randomisation_test(some, [("all weights", flat)], placements(IMAGES), groups, seed=0)
    assert found.passed and found.similarities == (0.0,)


def test_any_method_can_be_asked_of_the_redrawn_network(toy, pixels):
    targets = np.ones(IMAGES, dtype=np.int64)
    asked = {
        model.name: method_of(model, "grad-cam", seed=0)(pixels, placements(IMAGES), targets)
        for model in (toy, RedrawnModel(toy, seed=1))
    }
    trained, redrawn = asked.values()
    assert trained.values.shape == redrawn.values.shape == (IMAGES, 16, 16)
    assert not np.allclose(trained.values, redrawn.values) and trained.passes == 1


def test_a_model_without_a_network_has_no_redrawn_twin():
    from explanation_models import Keyhole

    with pytest.raises(UsageError, match="re-drawn weights: keyhole has no network"):
        RedrawnModel(Keyhole(), seed=0)


def test_nobody_is_told_to_train_a_network_that_has_forgotten_everything(toy, pixels, monkeypatch):
    redrawn = RedrawnModel(toy, seed=1)
    monkeypatch.setattr(redrawn, "scores", lambda pixels: np.full((len(pixels), 2), np.nan))
    with pytest.raises(PackageError, match=r"with re-drawn weights: the scores of image are not finite\.$"):
        method_of(redrawn, "occlusion", seed=0)(pixels, placements(IMAGES), np.ones(IMAGES, dtype=np.int64))
