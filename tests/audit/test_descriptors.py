from __future__ import annotations

import numpy as np
import pytest
from picture_data import blob, blobs, scanned

from vitrail.audit import descriptors
from vitrail.audit.descriptors import describe, describe_all, neighbours


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return scanned(tmp_path_factory.mktemp("descriptors"), blobs(20, classes=4)).manifest


def test_the_shape_and_scale_are_as_promised(manifest):
    vectors = describe(manifest, range(80))
    assert vectors.shape == (80, 64)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert (vectors**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    spread = vectors.std(axis=0)
    assert (np.diff(spread) <= 1e-6).all()


def test_the_axes_are_principal_axes(manifest):
    vectors = describe(manifest, range(80)).astype(np.float64)
    covariance = vectors.T @ vectors
    off = covariance - np.diag(np.diag(covariance))
    assert np.abs(off).max() < 1e-4 * covariance[0, 0]


def test_the_same_input_gives_the_same_numbers(manifest):
    np.testing.assert_array_equal(describe(manifest, range(80)), describe(manifest, range(80)))


def test_pictures_of_one_kind_are_nearer_than_others(manifest):
    vectors = describe(manifest, range(80))
    near = neighbours(vectors, range(80), count=1)
    assert (manifest.labels[near.rows[:, 0]] == manifest.labels).mean() > 0.8


def test_a_large_set_is_fitted_on_a_sample_and_described_in_blocks(manifest, monkeypatch):
    whole = describe(manifest, range(80))
    monkeypatch.setattr(descriptors, "FITTED_ON", 60)
    monkeypatch.setattr(descriptors, "BLOCK", 7)
    sampled = describe(manifest, range(80))
    assert sampled.shape == (80, 59)
    distances = [np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[np.triu_indices(80, 1)] for vectors in (whole, sampled)]
    assert np.corrcoef(distances)[0, 1] > 0.98


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_or_no_images_are_described_too(manifest, count):
    vectors = describe(manifest, range(count))
    assert vectors.shape[0] == count
    assert vectors.shape[1] >= 1
    assert np.isfinite(vectors).all()


def test_unreadable_files_get_zeros(tmp_path):
    pictures = blobs(4)
    context = scanned(tmp_path, pictures)
    (tmp_path / "images" / "cyst" / "broken.png").write_bytes(b"no image")
    context = scanned(tmp_path, pictures)
    everything = describe_all(context.manifest)
    broken = next(row for row, file in enumerate(context.manifest.files) if not file.readable)
    assert not everything[broken].any()
    np.testing.assert_array_equal(np.delete(everything, broken, axis=0), describe(context.manifest, context.readable()))


def test_identical_images_share_a_descriptor_and_black_ones_are_no_accident(tmp_path):
    pictures = {f"cyst/{name}.png": np.zeros((40, 40), np.uint8) for name in "ab"}
    pictures |= {f"healthy/{name}.png": blob(number) for number, name in enumerate("abc")}
    vectors = describe(scanned(tmp_path, pictures).manifest, range(5))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.linalg.norm(vectors[0] - vectors[2]) > 0.5


# ---------------------------------------------------------------------------------------------------- neighbours


def by_brute_force(vectors, groups, count):
    distances = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[None], axis=2)
    distances[np.equal.outer(groups, groups)] = np.inf
    return np.sort(distances, axis=1)[:, :count]


@pytest.mark.parametrize(("size", "groups"), [(3, 3), (40, 7), (700, 500), (700, 2)])
def test_neighbours_are_the_nearest_of_other_groups(size, groups):
    rng = np.random.default_rng(size)
    vectors = rng.normal(size=(size, 6)).astype(np.float32)
    group = rng.integers(groups, size=size)
    found = neighbours(vectors, group.tolist(), count=4)
    expected = by_brute_force(vectors, group, 4)
    np.testing.assert_allclose(found.distances[:, : expected.shape[1]], expected, rtol=1e-4)
    there = found.rows >= 0
    np.testing.assert_array_equal(there, np.isfinite(found.distances))
    assert (group[found.rows[there]] != np.repeat(group[:, None], 4, axis=1)[there]).all()


def test_without_another_group_there_are_no_neighbours():
    found = neighbours(np.ones((5, 2), dtype=np.float32), [0] * 5, count=3)
    assert (found.rows == -1).all()
    assert np.isinf(found.distances).all()


def test_of_many_images_a_seeded_sample_is_searched(monkeypatch):
    monkeypatch.setattr(descriptors, "REFERENCES", 100)
    vectors = np.random.default_rng(1).normal(size=(400, 5)).astype(np.float32)
    found = neighbours(vectors, range(400), count=5)
    assert len(np.unique(found.rows)) <= 100
    np.testing.assert_array_equal(found.rows, neighbours(vectors, range(400), count=5).rows)
    nearest = np.linalg.norm(vectors[found.rows[:, 0]] - vectors, axis=1)
    np.testing.assert_allclose(nearest, found.distances[:, 0], rtol=1e-5)
