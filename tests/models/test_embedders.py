import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_recipes import GREY, pixels_of

from vitrail.errors import PackageError
from vitrail.models import DescriptorEmbedder, OnnxEmbedder, embedders
from vitrail.models.embedders import load_embedder
from vitrail.models.texture import ANGLES, DIMENSION, DISTANCES, texture
from vitrail.preprocess import normalise
from vitrail.records import NetworkParts


def test_pixels_are_the_scaled_grey_image():
    recipe = dataclasses.replace(GREY, colour="rgb")
    pixels = pixels_of(recipe)
    vectors = DescriptorEmbedder(recipe, ("pixels",)).embed(pixels)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, (pixels.mean(axis=3) / 255).reshape(5, -1), atol=1e-6)


def test_hog_sees_the_direction_of_edges():
    columns = np.tile(np.where(np.arange(32) // 4 % 2, 220, 30).astype(np.uint8), (32, 1))
    pixels = np.stack([columns, columns.T, 255 - columns])[..., None]
    upright, lying, inverted = DescriptorEmbedder(GREY, ("hog",)).embed(pixels)
    assert upright.shape == (7 * 7 * 2 * 2 * 9,)
    histograms = upright.reshape(-1, 9).sum(axis=0), lying.reshape(-1, 9).sum(axis=0)
    assert histograms[0].argmax() == 0 and histograms[1].argmax() == 4  # 9 orientations over 180 degrees
    np.testing.assert_allclose(upright, inverted, atol=1e-3)  # dark on bright or bright on dark: the same edge


def test_descriptors_stand_in_the_order_asked_for():
    pixels = pixels_of(GREY)
    parts = {name: DescriptorEmbedder(GREY, (name,)).embed(pixels) for name in ("pixels", "hog")}
    for order in (("pixels", "hog"), ("hog", "pixels")):
        embedder = DescriptorEmbedder(GREY, order)
        np.testing.assert_array_equal(embedder.embed(pixels), np.concatenate([parts[name] for name in order], axis=1))
    assert DescriptorEmbedder(GREY, ("pixels", "hog")).fingerprint != DescriptorEmbedder(GREY, ("hog", "pixels")).fingerprint


# ---------------------------------------------------------------------------------------------------- texture

PATTERN_VALUES = DIMENSION - 6 * len(DISTANCES) * len(ANGLES)


def histograms(vector):
    """The histograms of the patterns: whole image and regions, small radius and large."""
    small = 17 * 10
    return vector[:small].reshape(17, 10), vector[small:PATTERN_VALUES].reshape(17, 18)


def statistics(vector):
    """Statistics of co-occurrence, shape (statistic, distance, angle)."""
    return vector[PATTERN_VALUES:].reshape(6, len(DISTANCES), len(ANGLES))


def uniform_patterns(image):
    """Codes of the 8 neighbours at radius 1 away from the border, written out from the paper."""
    codes = np.zeros((image.shape[0] - 2, image.shape[1] - 2), dtype=int)
    for row, column in np.ndindex(codes.shape):
        ring = []
        for turn in range(8):
            down, right = -np.sin(turn * np.pi / 4), np.cos(turn * np.pi / 4)
            top, left = int(np.floor(row + 1 + down + 1e-9)), int(np.floor(column + 1 + right + 1e-9))
            below, beside = row + 1 + down - top, column + 1 + right - left
            corners = image[top : top + 2, left : left + 2].astype(float)
            weights = np.outer([1 - below, below], [1 - beside, beside])[: corners.shape[0], : corners.shape[1]]
            ring.append((corners * weights).sum() >= image[row + 1, column + 1])
        turns = sum(ring[turn] != ring[turn - 1] for turn in range(8))
        codes[row, column] = sum(ring) if turns <= 2 else 9
    return codes


def test_local_binary_patterns_are_those_of_the_paper():
    image = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    regions = histograms(texture(image))[0][1:].reshape(4, 4, 10)
    codes = np.zeros((48, 48), dtype=int)
    codes[1:-1, 1:-1] = uniform_patterns(image)
    for row, column in ((1, 1), (2, 1), (2, 2)):  # regions that do not touch the border
        expected = np.bincount(codes[row * 12 : row * 12 + 12, column * 12 : column * 12 + 12].ravel(), minlength=10) / 144
        np.testing.assert_allclose(regions[row, column], expected, atol=1e-6)


def test_co_occurrence_is_what_counting_pairs_gives():
    image = np.random.default_rng(1).integers(0, 256, (20, 24), dtype=np.uint8)
    levels = image.astype(int) // 8
    first, second = levels[:, :-2].ravel(), levels[:, 2:].ravel()  # distance 2, to the right
    difference = np.concatenate([first - second, second - first])
    matrix = np.zeros((32, 32))
    np.add.at(matrix, (np.concatenate([first, second]), np.concatenate([second, first])), 1 / (2 * len(first)))
    correlation = np.corrcoef(np.concatenate([first, second]), np.concatenate([second, first]))[0, 1]
    asm = (matrix**2).sum()
    expected = [(difference**2).mean(), abs(difference).mean(), (1 / (1 + difference**2)).mean(), asm, np.sqrt(asm), correlation]
    np.testing.assert_allclose(statistics(texture(image))[:, 1, 0], expected, rtol=1e-5)


def test_texture_tells_stripes_from_their_quarter_turn_and_from_noise():
    stripes = np.tile(np.where(np.arange(32) // 2 % 2, 200, 40).astype(np.uint8), (32, 1))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    across, along = statistics(texture(stripes)), statistics(texture(stripes.T))
    assert across[0, 1, 0] > 10 * across[0, 1, 2] and along[0, 1, 2] > 10 * along[0, 1, 0]
    assert across[3].mean() > 10 * statistics(texture(noise))[3].mean()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(16, 50), st.integers(16, 50))
def test_texture_has_one_length_and_patterns_see_no_brightness(seed, height, width):
    image = np.random.default_rng(seed).integers(0, 100, (height, width), dtype=np.uint8)
    vector, brighter = texture(image), texture((2 * image + 40).astype(np.uint8))
    assert vector.shape == (DIMENSION,) and vector.dtype == np.float32
    for found in histograms(vector):
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    # Twice and forty more is exact in whole numbers; between pixels, interpolation may round a tie the other way.
    for found, expected in zip(histograms(brighter), histograms(vector), strict=True):
        np.testing.assert_allclose(found[0], expected[0], atol=0.02)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_flat_image_has_a_texture_without_surprises(value):
    vector = texture(np.full((16, 16), value, np.uint8))
    assert np.isfinite(vector).all()
    np.testing.assert_array_equal(statistics(vector)[:, 0, 0], [0, 0, 1, 1, 1, 1])


def test_texture_is_read_before_scaling_and_stands_with_the_others():
    recipe = dataclasses.replace(GREY, colour="rgb", scaling="minmax")
    pixels = pixels_of(recipe)
    grey = np.rint(pixels.mean(axis=3)).astype(np.uint8)
    vectors = DescriptorEmbedder(recipe, ("hog", "texture")).embed(pixels)
    np.testing.assert_array_equal(vectors[:, -DIMENSION:], np.stack([texture(image) for image in grey]))
    np.testing.assert_array_equal(vectors[:, :-DIMENSION], DescriptorEmbedder(recipe, ("hog",)).embed(pixels))


def test_a_package_with_texture_is_read_back(tmp_path):
    embedder = DescriptorEmbedder(GREY, ("hog", "texture"))
    again = load_embedder(tmp_path, embedder.save(tmp_path), GREY)
    assert again.fingerprint == embedder.fingerprint != DescriptorEmbedder(GREY, ("hog",)).fingerprint
    np.testing.assert_array_equal(again.embed(pixels_of(GREY)), embedder.embed(pixels_of(GREY)))


# ---------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("size", [16, 17, 50, 64])
def test_hog_takes_any_size_of_input(size):
    recipe = dataclasses.replace(GREY, size=size)
    vectors = DescriptorEmbedder(recipe, ("hog",)).embed(pixels_of(recipe, count=2))
    assert vectors.shape[1] > 500 and np.isfinite(vectors).all()


@pytest.mark.parametrize("kind", ["forest", "cnn"])
def test_an_image_is_embedded_alike_alone_and_in_any_batch(halves, kind):
    embedder, _ = halves[kind]
    pixels = pixels_of(embedder.recipe, count=40)
    together = embedder.embed(pixels)
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(embedder.embed(pixels[order]), together[order], atol=1e-5)
    np.testing.assert_allclose(embedder.embed(pixels[7:8]), together[7:8], atol=1e-5)


@pytest.mark.parametrize("kind", ["forest", "cnn"])
def test_the_fingerprint_changes_with_the_recipe_and_the_weights(halves, kind, tmp_path):
    embedder, _ = halves[kind]
    other = dataclasses.replace(embedder.recipe, scaling="minmax")
    description = embedder.save(tmp_path)
    assert load_embedder(tmp_path, description, embedder.recipe).fingerprint == embedder.fingerprint
    assert load_embedder(tmp_path, description, other).fingerprint != embedder.fingerprint
    if kind == "cnn":
        (tmp_path / "embedder.onnx").write_bytes(embedder.path.read_bytes() + b"\0")
        assert load_embedder(tmp_path, description, embedder.recipe).fingerprint != embedder.fingerprint


def test_there_are_no_maps_without_feature_maps(halves):
    trunk, _ = halves["cnn"]
    assert OnnxEmbedder(trunk.path, trunk.recipe, "none").embed_with_maps(pixels_of(trunk.recipe, count=1)) is None


def test_values_inside_are_those_of_the_whole_network(halves, monkeypatch):
    import onnx
    import torch

    from vitrail.explanation.graph import INPUT, NetworkGraph

    trunk, _ = halves["cnn"]
    pixels = pixels_of(trunk.recipe, count=40)  # more than go together
    inner = next(node.output[0] for node in onnx.load(str(trunk.path)).graph.node if node.op_type == "Conv")
    head = np.zeros((2, trunk.embed(pixels[:1]).shape[1]), np.float32), np.zeros(2, np.float32)
    graph = NetworkGraph(NetworkParts(trunk.path, trunk.recipe, trunk.pooling, (head[0],), (head[1],), ()))
    for names in ((inner,), (inner, "activations"), (inner,)):
        values = trunk.values_inside(pixels, names)
        expected = graph.run({INPUT: torch.from_numpy(normalise(pixels, trunk.recipe))}, names)
        assert tuple(values) == names
        for name in names:
            np.testing.assert_allclose(values[name], expected[name], atol=1e-4)
    monkeypatch.setattr(embedders, "LARGE", 0)
    assert trunk.values_inside(pixels, (inner,)) is None, "a second copy of a large network is not made"


def test_unknown_kinds_and_damaged_graphs_are_refused_by_name(tmp_path):
    with pytest.raises(PackageError, match=r"embedder 'quantum'.*descriptors, onnx"):
        load_embedder(tmp_path, {"kind": "quantum"}, GREY)
    with pytest.raises(PackageError, match=r"descriptor 'gabor'.*pixels, hog"):
        load_embedder(tmp_path, {"kind": "descriptors", "features": ["pixels", "gabor"]}, GREY)
    (tmp_path / "embedder.onnx").write_bytes(b"no graph")
    embedder = load_embedder(tmp_path, {"kind": "onnx", "pooling": "average"}, GREY)
    with pytest.raises(PackageError, match=r"embedder\.onnx"):
        embedder.embed(pixels_of(GREY))
