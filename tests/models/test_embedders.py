import dataclasses

import numpy as np
import pytest
from models_recipes import GREY, pixels_of

from vitrail.errors import PackageError
from vitrail.models import DescriptorEmbedder, OnnxEmbedder
from vitrail.models.embedders import load_embedder


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


def test_unknown_kinds_and_damaged_graphs_are_refused_by_name(tmp_path):
    with pytest.raises(PackageError, match=r"embedder 'quantum'.*descriptors, onnx"):
        load_embedder(tmp_path, {"kind": "quantum"}, GREY)
    with pytest.raises(PackageError, match=r"descriptor 'gabor'.*pixels, hog"):
        load_embedder(tmp_path, {"kind": "descriptors", "features": ["pixels", "gabor"]}, GREY)
    (tmp_path / "embedder.onnx").write_bytes(b"no graph")
    embedder = load_embedder(tmp_path, {"kind": "onnx", "pooling": "average"}, GREY)
    with pytest.raises(PackageError, match=r"embedder\.onnx"):
        embedder.embed(pixels_of(GREY))
