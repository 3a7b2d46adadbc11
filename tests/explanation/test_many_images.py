"""A long series of explanations: memory does not grow with the number of images, and the model stays what it was."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from explanation_models import whole_image
from explanation_networks import family, packed, pixels_for, random_head, recipe_of, settle

from vitrail.explanation import EXPLAINERS, Relevance, defined_methods, explain_batch
from vitrail.explanation.graph import NetworkGraph, network_graph
from vitrail.models.backbones import Features, pooling_and_dimension

QUICK = (
    *("cam", "grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam", "gradient", "gradient-times-input"),
    *("guided-backpropagation", "activations"),
)
BATCH = 20
IMAGES = 1000
WARM = 200
"""Images after which everything that is kept for good (graphs, plans, what libraries reserve) is there."""
MOST_GROWTH = 8 * 2**20
"""Bytes by which the most that the process holds among the last 100 images may exceed the most among the 100 after the first 200.
One map kept per image and method would be three times that for the smaller network (700 x 9 x 4 kB = 26 MB), and 30 times for the
larger one."""


@cache
def backbone():
    """MobileNetV2 with random weights at 96 pixels: 50 layers, ReLU6, average pooling."""
    torch.manual_seed(5)
    model = settle(timm.create_model("mobilenetv2_050", pretrained=False, num_classes=0), seed=2)
    recipe = recipe_of("rgb", "channel", size=96)
    pooling, dimension = pooling_and_dimension(model, torch.rand(2, 3, 96, 96))
    return packed(Features(model, pooling), random_head(dimension), recipe, pooling)


def model_of(name):
    return backbone() if name == "mobilenet" else family("cnn")


def own_memory() -> int:
    """Return the memory of this process that no file stands behind, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def explained(model, pixels, methods):
    names = tuple(map(str, range(len(pixels))))
    return explain_batch(model, pixels, (whole_image(model.recipe.size),) * len(pixels), images=names, methods=methods)


def weights_hash(model) -> str:
    """Return one hash over the file of the trunk, the head, and every value that the graph for gradients holds."""
    digest = hashlib.sha256(model.embedder.path.read_bytes())
    for array in (*model.head.weights, *model.head.biases):
        digest.update(array.tobytes())
    for name, value in network_graph(model.network).weights.items():
        digest.update(name.encode() + value.numpy().tobytes() + bytes([value.requires_grad, value.grad is not None]))
    return digest.hexdigest()


def state_of(model, pixels):
    return weights_hash(model), model.scores(pixels).tobytes(), torch.is_grad_enabled(), torch.get_num_threads()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read as Linux tells it")
@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_memory_is_flat_over_a_thousand_images(name):
    model = model_of(name)
    methods = tuple(method for method, reason in defined_methods(model).items() if not reason and method in QUICK)
    assert len(methods) == len(QUICK)
    shown = pixels_for(model, 4)
    before = state_of(model, shown)
    held = []
    for start in range(0, IMAGES, BATCH):
        explained(model, pixels_for(model, BATCH, seed=start), methods)
        held.append(own_memory())
    window = 100 // BATCH  # what is freed late makes single looks differ by some MiB; the most of a window does not
    growth = max(held[-window:]) - max(held[WARM // BATCH : WARM // BATCH + window])
    assert growth < MOST_GROWTH, [f"{value / 2**20:.1f} MiB" for value in held]
    assert state_of(model, shown) == before


class Broken:
    """A method that asks for everything that is shared and then fails."""

    needs = "nothing"
    wants = frozenset({"input gradient", "feature maps", "feature map gradient"})

    def refusal(self, model):
        return ""

    def relevance(self, model, question) -> Relevance:
        assert question.shared is not None and question.shared.input_gradient().any()
        raise MemoryError("no more")


@pytest.mark.parametrize("name", ["cnn", "mobilenet"])
def test_an_error_in_the_middle_leaves_the_model_as_it_was(name, monkeypatch):
    model = model_of(name)
    pixels = pixels_for(model, 6)
    before = state_of(model, pixels)
    methods = {one: EXPLAINERS[one] for one in QUICK}
    whole = explained(model, pixels, methods)
    assert state_of(model, pixels) == before
    with pytest.raises(MemoryError):
        explained(model, pixels, {"guided-backpropagation": methods["guided-backpropagation"], "broken": Broken()})
    assert state_of(model, pixels) == before

    run, runs = NetworkGraph.run, []

    def interrupted(self, *arguments, **wishes):
        runs.append(1)
        if len(runs) == 2:  # the first chunk of the shared passes is done
            raise KeyboardInterrupt
        return run(self, *arguments, **wishes)

    monkeypatch.setattr(NetworkGraph, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explained(model, pixels, methods)
    monkeypatch.undo()
    assert len(runs) == 2 and state_of(model, pixels) == before
    for method, again in explained(model, pixels, methods).items():
        for one, other in zip(again, whole[method], strict=True):
            np.testing.assert_array_equal(one.map, other.map)
