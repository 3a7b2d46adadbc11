import dataclasses

import numpy as np
import pytest
import torch
from models_recipes import GREY, pixels_of

from vitrail.errors import StudyError
from vitrail.models import OnnxEmbedder, check_model, cnn
from vitrail.models.network import DenseLayers, export_onnx
from vitrail.preprocess import normalise
from vitrail.study import CnnSettings, PreprocessSettings

# ---------------------------------------------------------------------------------------------------- dense layers


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
def test_dense_layers_leave_torch_as_the_same_function(activation, hidden):
    generator = np.random.default_rng(0)
    seen = (generator.normal(3, 5, (50, 6)) * [1, 10, 0.1, 1, 1, 1]).astype(np.float32)
    layers = DenseLayers.seeded(6, hidden, 3, activation=activation, dropout=0.5, standardise_like=seen, seed=1).eval()
    vectors = generator.normal(3, 5, (9, 6)).astype(np.float32)
    with torch.no_grad():
        expected = layers(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(layers.to_head().logits(vectors), expected, rtol=1e-3, atol=1e-4)


def test_inputs_are_standardised_like_the_training_vectors():
    seen = np.random.default_rng(0).normal(7, 3, (200, 4)).astype(np.float32)
    layers = DenseLayers.seeded(4, (), 2, activation="relu", dropout=0.0, standardise_like=seen, seed=0)
    with torch.no_grad():
        expected = layers.layers[0](torch.from_numpy((seen - seen.mean(axis=0)) / seen.std(axis=0)))
        np.testing.assert_allclose(layers(torch.from_numpy(seen)).numpy(), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("level", [0.0, 5.3, -0.1, 100.7])
def test_a_feature_that_is_constant_in_training_is_not_blown_up(level):
    # In single precision the mean of many equal numbers is not that number, and their deviation is not zero.
    seen = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    seen[:, 1] = level
    layers = DenseLayers.seeded(3, (), 2, activation="relu", dropout=0.0, standardise_like=seen, seed=0)
    assert layers.spread[1] == 1
    assert float(layers.centre[1]) == pytest.approx(level, abs=1e-5)


def test_weights_come_from_the_seed_and_torchs_own_generator_is_left_alone():
    seen = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, again, other = (
        DenseLayers.seeded(4, (3,), 2, activation="relu", dropout=0.0, standardise_like=seen, seed=seed).to_head()
        for seed in (1, 1, 2)
    )
    networks = [cnn.build(CnnSettings(filters=(2,)), GREY, classes=2, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first.weights[0], again.weights[0])
    assert np.abs(first.weights[0] - other.weights[0]).max() > 0
    kernels = [network.trunk.maps[0].weight for network in networks]
    assert torch.equal(kernels[0], kernels[1]) and not torch.equal(kernels[0], kernels[2])


# ---------------------------------------------------------------------------------------------------- cnn


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_an_exported_network_answers_as_torch_does(pooling, activation, tmp_path):
    recipe = dataclasses.replace(GREY, size=21)  # odd sides: pooling drops the last row and column
    asked = CnnSettings(filters=(3, 5), kernel=5, convolutions=2, pooling=pooling, activation=activation, dense=(4,))
    network = cnn.build(asked, recipe, classes=3, seed=0)
    with torch.no_grad():  # statistics of batch normalisation that are not those of an untrained network
        network(torch.from_numpy(normalise(pixels_of(recipe, count=8, seed=9), recipe)))
    path = tmp_path / "trunk.onnx"
    path.write_bytes(export_onnx(network.trunk, channels=1, size=21, outputs=("activations", "embedding")))
    assert network.trunk.training, "the export leaves the mode as it was"
    network.eval()
    embedder = OnnxEmbedder(path, recipe, pooling)
    pixels = pixels_of(recipe, count=37)  # more than one batch

    with torch.no_grad():
        activations, embedding = network.trunk(torch.from_numpy(normalise(pixels, recipe)))
        scores = network(torch.from_numpy(normalise(pixels, recipe))).softmax(dim=1)

    assert activations.shape == (37, 5, 5, 5) and embedding.shape == (37, 125 if pooling == "flatten" else 5)
    vectors = embedder.embed(pixels)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(network.head.to_head().scores(vectors), scores.numpy(), atol=1e-5)
    maps, vector = embedder.embed_with_maps(pixels[4:5])
    np.testing.assert_allclose(maps, activations[4].numpy(), atol=1e-5)
    np.testing.assert_allclose(vector, embedding[4].numpy(), atol=1e-5)
    pooled = {"average": maps.mean(axis=(1, 2)), "max": maps.max(axis=(1, 2)), "flatten": maps.ravel()}[pooling]
    np.testing.assert_allclose(vector, pooled, atol=1e-6)


def test_blocks_are_built_as_asked():
    asked = CnnSettings(filters=(3, 5), kernel=7, convolutions=2, batch_normalisation=False, activation="tanh", dense=(9,))
    network = cnn.build(asked, GREY, classes=4, seed=0)
    kinds = [type(layer).__name__ for layer in network.trunk.maps]
    assert kinds == ["Conv2d", "Tanh", "Conv2d", "Tanh", "MaxPool2d"] * 2
    shapes = [tuple(layer.weight.shape) for layer in network.trunk.maps if hasattr(layer, "weight")]
    assert shapes == [(3, 1, 7, 7), (3, 3, 7, 7), (5, 3, 7, 7), (5, 5, 7, 7)]
    assert [tuple(layer.weight.shape) for layer in network.head.layers] == [(9, 5), (4, 9)]


def test_blocks_can_share_a_pooling():
    network = cnn.build(CnnSettings(filters=(2, 3, 4, 5, 6), blocks_per_pooling=2, pooling="flatten"), GREY, classes=2, seed=0)
    kinds = [type(layer).__name__ for layer in network.trunk.maps if type(layer).__name__ in ("Conv2d", "MaxPool2d")]
    assert kinds == ["Conv2d", "Conv2d", "MaxPool2d"] * 2 + ["Conv2d"]
    side = GREY.size // 4
    assert network(torch.zeros(2, 1, GREY.size, GREY.size)).shape == (2, 2)
    assert network.head.layers[0].in_features == 6 * side * side
    check_model(CnnSettings(filters=(2,) * 8, blocks_per_pooling=8), PreprocessSettings(size=16))
    check_model(CnnSettings(filters=(2,) * 5, blocks_per_pooling=2), PreprocessSettings(size=16))
    with pytest.raises(StudyError, match="16 px allows at most 4 blocks"):
        check_model(CnnSettings(filters=(2,) * 5), PreprocessSettings(size=16))


@pytest.mark.parametrize("dense", [(), (5, 4)])
def test_without_blocks_a_network_is_dense_layers_on_the_pixels(dense, tmp_path):
    recipe = dataclasses.replace(GREY, size=16, colour="rgb")
    asked = CnnSettings(filters=(), dense=dense, activation="tanh")
    check_model(asked, PreprocessSettings(size=16))
    network = cnn.build(asked, recipe, classes=3, seed=0).eval()
    path = tmp_path / "trunk.onnx"
    path.write_bytes(export_onnx(network.trunk, channels=3, size=16, outputs=network.trunk.outputs))
    embedder = OnnxEmbedder(path, recipe, network.trunk.pooling)
    pixels = pixels_of(recipe, count=5)
    inputs = normalise(pixels, recipe)
    vectors = embedder.embed(pixels)
    np.testing.assert_allclose(vectors, inputs.reshape(5, -1), atol=1e-6)
    value = inputs.reshape(5, -1).astype(np.float64)
    for number, layer in enumerate(network.head.layers):  # by hand
        value = np.tanh(value) if number else value
        value = value @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    np.testing.assert_allclose(network.head.to_head().logits(vectors), value, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(inputs)).numpy(), value, atol=1e-4)
    assert embedder.embed_with_maps(pixels[:1]) is None, "pixels are no feature maps: a map of them would be the image"
    assert "fully connected" in cnn.describe(asked)


@pytest.mark.parametrize(("size", "blocks"), [(16, 4), (31, 4), (32, 5), (33, 5)])
def test_an_input_too_small_for_the_blocks_is_found_early_and_only_then(size, blocks):
    recipe = dataclasses.replace(GREY, size=size)
    fits, too_many = (CnnSettings(name="deep", filters=(2,) * count) for count in (blocks, blocks + 1))
    check_model(fits, PreprocessSettings(size=size))
    logits = cnn.build(fits, recipe, classes=2, seed=0)(torch.zeros(2, 1, size, size))
    assert logits.shape == (2, 2)
    for late in (False, True):
        with pytest.raises(
            StudyError, match=rf"models\.deep\.filters: .*{size} px allows at most {blocks} blocks.*Found: {blocks + 1}"
        ):
            if late:
                cnn.build(too_many, recipe, classes=2, seed=0)
            else:
                check_model(too_many, PreprocessSettings(size=size))
