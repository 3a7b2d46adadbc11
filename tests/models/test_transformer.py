"""The compact vision transformer: built as asked, the same in ONNX, its tokens as feature maps."""

import dataclasses

import numpy as np
import pytest
import torch
from models_recipes import GREY, pixels_of
from timm.models.vision_transformer import Block

from vitrail.errors import StudyError
from vitrail.models import OnnxEmbedder, check_model, transformer
from vitrail.models.network import export_onnx
from vitrail.preprocess import normalise
from vitrail.study import PreprocessSettings, TransformerSettings


def small(**settings):
    return TransformerSettings.model_validate({"dimension": 24, "depth": 2, "heads": 3, **settings})


@pytest.mark.parametrize("stem", ["convolution", "patch"])
@pytest.mark.parametrize(("size", "patch", "colour"), [(32, 4, "grey"), (48, 16, "rgb")])
def test_an_exported_transformer_answers_as_torch_does(stem, size, patch, colour, tmp_path):
    recipe = dataclasses.replace(GREY, size=size, colour=colour)
    network = transformer.build(small(stem=stem, patch=patch), recipe, classes=3, seed=0).eval()
    path = tmp_path / "trunk.onnx"
    path.write_bytes(export_onnx(network.trunk, channels=recipe.channels, size=size, outputs=network.trunk.outputs))
    pixels = pixels_of(recipe, count=37)  # more than one batch
    with torch.no_grad():
        planes = torch.from_numpy(normalise(pixels, recipe))
        expected = network(planes).softmax(dim=1).numpy()
        by_timm = network.trunk.model(planes).numpy()  # timm's own way from pixels to the mean of the tokens
    embedder = OnnxEmbedder(path, recipe, network.trunk.pooling)
    vectors = embedder.embed(pixels)
    assert vectors.shape == (37, 24)
    np.testing.assert_allclose(vectors, by_timm, atol=1e-5)
    np.testing.assert_allclose(network.head.to_head().scores(vectors), expected, atol=1e-5)
    maps, vector = embedder.embed_with_maps(pixels[3:4])
    assert maps.shape == (24, size // patch, size // patch)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), vector, atol=1e-5)


@pytest.mark.parametrize("stem", ["convolution", "patch"])
def test_a_token_lies_in_the_maps_where_it_lies_in_the_image(stem):
    network = transformer.build(small(stem=stem, patch=8), GREY, classes=2, seed=0).eval()
    plain = torch.zeros(1, 1, 32, 32)
    spotted = plain.clone()
    spotted[:, :, 10:14, 18:22] = 5.0  # second row, third column of the 4 x 4 tokens
    with torch.no_grad():
        tokens = [network.trunk.model.patch_embed(image) for image in (plain, spotted)]
    change = (tokens[1] - tokens[0]).abs().sum(dim=2).unflatten(1, network.trunk.grid)[0]
    assert divmod(int(change.argmax()), 4) == (1, 2)


def test_blocks_are_timms_own_and_as_many_as_asked():
    network = transformer.build(small(depth=3, expansion=3, stochastic_depth=0.2), GREY, classes=4, seed=0)
    blocks = list(network.trunk.model.blocks)
    assert [type(block) for block in blocks] == [Block] * 3
    assert blocks[0].attn.num_heads == 3 and blocks[0].mlp.fc1.out_features == 72
    assert blocks[2].drop_path1.drop_prob == pytest.approx(0.2)
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 4)


def test_the_convolutional_stem_has_one_stage_per_halving():
    network = transformer.build(small(patch=8), GREY, classes=2, seed=0)
    kinds = [type(layer).__name__ for layer in network.trunk.model.patch_embed.stages]
    assert kinds == ["Conv2d", "ReLU", "MaxPool2d"] * 3


def test_weights_come_from_the_seed_and_torchs_own_generator_is_left_alone():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, again, other = (transformer.build(small(), GREY, classes=2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    name = "trunk.model.blocks.0.attn.qkv.weight"
    assert not torch.equal(first[name], other[name])


def test_what_does_not_fit_together_is_found_early():
    with pytest.raises(StudyError) as caught:
        check_model(TransformerSettings(name="vit", dimension=100, heads=3), PreprocessSettings(size=90))
    found = [(problem.key, problem.value) for problem in caught.value.problems]
    assert found == [("models.vit.dimension", "100"), ("models.vit.preprocess.size", "90")]
    assert "multiple of heads (3)" in str(caught.value) and "for example 88" in str(caught.value)
    check_model(TransformerSettings(), PreprocessSettings(size=88))


def test_the_description_says_what_it_is():
    expected = "Vision transformer from scratch, 4 blocks of 128 values and 4 heads, a convolutional stem of 8 px"
    assert transformer.describe(TransformerSettings()) == expected
