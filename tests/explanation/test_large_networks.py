"""A large network is in memory once at a time, and its explanations are those of any other."""

import resource
import subprocess
import sys

import numpy as np
import pytest
from explanation_models import whole_image
from explanation_networks import SIZE, SMALL_VIT, family, packed, pixels_for, random_head, recipe_of

from vitrail.explanation import explain_batch
from vitrail.models import embedders

METHODS = ("attention-rollout", "gradient-rollout", "gradient", "grad-cam", "occlusion")


def in_runtime(model):
    return "_session" in vars(model.embedder)


def maps_of(model, pixels):
    places, images = (whole_image(SIZE),) * len(pixels), ("x.png",) * len(pixels)
    return {name: [one.map for one in found] for name, found in
            explain_batch(model, pixels, places, images=images, methods=METHODS).items()}  # fmt: skip


def test_maps_are_the_same_whether_or_not_the_runtime_lets_go(monkeypatch):
    model = family("vit-class")
    pixels = pixels_for(model, 3)
    kept = maps_of(model, pixels)
    assert in_runtime(model)
    monkeypatch.setattr(embedders, "LARGE", 0)
    let_go = maps_of(model, pixels)
    for name in METHODS:
        np.testing.assert_array_equal(let_go[name], kept[name])


def test_a_large_network_leaves_the_runtime_while_torch_computes(monkeypatch):
    model = family("vit-registers")
    before = model.scores(pixels_for(model))
    monkeypatch.setattr(embedders, "LARGE", 0)
    explain_batch(model, pixels_for(model), (whole_image(SIZE),), images=("x.png",), methods=("gradient",))
    assert not in_runtime(model)
    np.testing.assert_array_equal(model.scores(pixels_for(model)), before)


def test_a_small_network_stays_in_the_runtime():
    model = family("vit-registers")
    explain_batch(model, pixels_for(model), (whole_image(SIZE),), images=("x.png",), methods=("gradient",))
    assert in_runtime(model)


def test_a_network_whose_file_is_gone_is_not_let_go(monkeypatch, tmp_path):
    model = family("cnn")
    path = tmp_path / "embedder.onnx"
    path.write_bytes(model.embedder.path.read_bytes())
    embedder = embedders.OnnxEmbedder(path, model.recipe, model.pooling)
    before = embedder.embed(pixels_for(model))
    monkeypatch.setattr(embedders, "LARGE", 0)
    path.unlink()
    embedder.make_room()
    np.testing.assert_array_equal(embedder.embed(pixels_for(model)), before)
