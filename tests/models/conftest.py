"""Tiny trained models, and tiny timm models saved as folders of weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from models_recipes import pixels_of
from PIL import Image

from vitrail.records import Recipe
from vitrail.study import CnnSettings, ForestSettings


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small matrices: threads of torch would wait for one another longer than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def save_timm_model(tmp_path_factory):
    """Return a function that saves a timm model with random weights in timm's local-dir format and returns its study name."""
    import safetensors.torch
    import timm
    import torch

    def save(architecture: str) -> str:
        folder = tmp_path_factory.mktemp(architecture)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = timm.create_model(architecture, num_classes=7)
        settings = {
            key: model.pretrained_cfg[key]
            for key in ("input_size", "fixed_input_size", "mean", "std", "first_conv", "classifier")
        }
        content = {"architecture": architecture, "num_classes": 7, "pretrained_cfg": {**settings, "num_classes": 7}}
        (folder / "config.json").write_text(json.dumps(content))
        safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
        return f"local-dir:{folder}"

    return save


@pytest.fixture(scope="session")
def halves(tmp_path_factory):
    """The two halves of one small model per kind: a forest, a cnn (linear head), a cnn's trunk with hidden layers behind."""
    from vitrail.models import OnnxEmbedder, cnn, forest
    from vitrail.models.network import DenseLayers, export_onnx

    generator = np.random.default_rng(0)
    recipe = Recipe(32, "grey", False, True, "unit")
    descriptors = forest.embedder(ForestSettings(), recipe)
    vectors = descriptors.embed(pixels_of(recipe, count=24))
    trees, _ = forest.fit(
        ForestSettings(trees=12),
        vectors,
        generator.permutation(np.arange(24) % 3),
        groups=np.arange(len(vectors)),
        class_weights=False,
        seed=0,
    )

    recipe = Recipe(32, "rgb", True, False, "standardise")
    network = cnn.build(CnnSettings(filters=(4, 6), pooling="average"), recipe, classes=3, seed=0).eval()
    path = tmp_path_factory.mktemp("trunk") / "embedder.onnx"
    path.write_bytes(export_onnx(network.trunk, channels=3, size=32, outputs=("activations", "embedding")))
    trunk = OnnxEmbedder(path, recipe, "average")
    hidden = DenseLayers.seeded(
        6, (5,), 3, activation="gelu", dropout=0.3, standardise_like=generator.normal(size=(9, 6)).astype(np.float32), seed=0
    )
    return {"forest": (descriptors, trees), "cnn": (trunk, network.head.to_head()), "dense": (trunk, hidden.to_head())}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Three image files of different shapes and formats."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(3)
    paths = []
    for number, (width, height, suffix) in enumerate(((60, 40, "png"), (33, 70, "jpg"), (50, 50, "bmp"))):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        paths.append(folder / f"{number}.{suffix}")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths
