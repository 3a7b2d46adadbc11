"""The baselines: what each is by an independent computation, and what all of them keep to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from training_data import CLASSES, scanned, split_of

from vitrail.records import Manifest
from vitrail.training import BASELINES, fit_baseline
from vitrail.training.baselines import NEIGHBOURS, Majority, NearestThumbnail, NuisanceOnly

NAMES = [baseline.name for baseline in BASELINES]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    return scanned(tmp_path_factory.mktemp("baselines"), each=16)


def other_labels(manifest: Manifest, rows: np.ndarray) -> Manifest:
    """The same data set, but that the labels of some rows are all another."""
    files = list(manifest.files)
    for row in rows:
        files[row] = replace(files[row], label=CLASSES[(CLASSES.index(files[row].label) + 1) % len(CLASSES)])
    return replace(manifest, files=tuple(files))


# ---------------------------------------------------------------------------------------------------- what all keep to


def test_no_two_share_a_name():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("baseline", BASELINES, ids=NAMES)
def test_scores_have_a_row_per_image_that_sums_to_one(baseline, manifest):
    predict, training = fit_baseline(baseline, manifest, split_of(manifest), seed=0)
    rows = split_of(manifest).rows("test")
    scores = predict(rows)
    assert scores.shape == (len(rows), len(CLASSES)) and scores.dtype == np.float64
    assert np.all(scores >= 0)
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(rows)))
    assert predict(rows[:0]).shape == (0, len(CLASSES))
    assert (training.model, training.split) == (baseline.name, split_of(manifest).fingerprint)


@pytest.mark.parametrize("baseline", BASELINES, ids=NAMES)
def test_the_same_seed_gives_the_same_scores_whoever_else_is_asked_for(baseline, manifest):
    split = split_of(manifest)
    train, test = split.rows("train"), split.rows("test")
    once, again = (baseline.fit(manifest, train, seed=3)(test) for _ in range(2))
    assert np.array_equal(once, again)
    one_by_one = np.concatenate([baseline.fit(manifest, train, seed=3)(test[:2]), once[2:]])
    assert np.array_equal(one_by_one, once)


@pytest.mark.parametrize("baseline", BASELINES, ids=NAMES)
def test_labels_outside_the_training_part_change_nothing(baseline, manifest):
    split = split_of(manifest)
    held_out = np.concatenate([split.rows("validation"), split.rows("test")])
    before, _ = fit_baseline(baseline, manifest, split, seed=0)
    after, _ = fit_baseline(baseline, other_labels(manifest, held_out), split, seed=0)
    assert np.array_equal(before(held_out), after(held_out))
    trained_otherwise, _ = fit_baseline(baseline, other_labels(manifest, split.rows("train")[:7]), split, seed=0)
    assert not np.array_equal(before(held_out), trained_otherwise(held_out))


@pytest.mark.parametrize("baseline", BASELINES, ids=NAMES)
def test_a_class_without_training_images_gets_no_score(baseline, manifest):
    train = np.flatnonzero(manifest.labels != 1)
    scores = baseline.fit(manifest, train, seed=0)(np.arange(len(manifest)))
    assert np.all(scores[:, 1] == 0) and np.all(scores[:, [0, 2]].sum(axis=1) > 0.999)


@pytest.mark.parametrize("baseline", BASELINES, ids=NAMES)
def test_a_single_training_image_is_enough(baseline, manifest):
    assert np.array_equal(baseline.fit(manifest, np.array([0]), seed=0)(np.array([1, 40])), [[1, 0, 0], [1, 0, 0]])


# ---------------------------------------------------------------------------------------------------- each by itself


def test_the_majority_is_the_shares_of_the_classes(manifest):
    train = np.array([0, 1, 2, 16, 32, 33])  # three corners, one disc, two stripes
    assert Majority().fit(manifest, train, seed=0)(np.array([5, 20])) == pytest.approx(np.array([[3, 1, 2], [3, 1, 2]]) / 6)


def test_the_nearest_thumbnails_are_those_of_a_slow_search(manifest):
    split = split_of(manifest)
    train, test = split.rows("train"), split.rows("test")
    small = manifest.thumbnails[:].astype(float).reshape(-1, 32, 4, 32, 4).mean(axis=(2, 4)).reshape(len(manifest), -1)
    shares = np.bincount(manifest.labels[train], minlength=3) / len(train)
    expected = []
    for row in test:
        distances = np.sqrt(((small[train] - small[row]) ** 2).sum(axis=1))
        nearest = np.argsort(distances)[:NEIGHBOURS]
        weights = (1 / distances[nearest]) / (1 / distances[nearest]).sum()
        votes = np.array([weights[manifest.labels[train[nearest]] == label].sum() for label in range(3)])
        expected.append((NEIGHBOURS * votes + shares) / (NEIGHBOURS + 1))
    assert NearestThumbnail().fit(manifest, train, seed=0)(test) == pytest.approx(np.array(expected))


def test_a_copy_outvotes_all_other_neighbours(manifest):
    train = split_of(manifest).rows("train")
    scores = NearestThumbnail().fit(manifest, train, seed=0)(train)
    assert np.array_equal(scores.argmax(axis=1), manifest.labels[train])


def test_nuisance_only_finds_what_the_files_tell_and_is_blind_to_the_picture(manifest, tmp_path):
    rng = np.random.default_rng(0)
    sizes = [int(rng.integers(5000, 6000)) + 4000 * CLASSES.index(file.label) for file in manifest.files]
    alike = {"width": 40, "height": 40, "format": "PNG", "encoding": ""}
    files = tuple(replace(file, size_bytes=size, **alike) for file, size in zip(manifest.files, sizes, strict=True))
    facts = np.zeros_like(manifest.facts)  # nothing but the size of the files differs by class
    np.save(tmp_path / "facts.npy", facts)
    np.save(tmp_path / "noise.npy", rng.integers(0, 256, (len(files), 128, 128), dtype=np.uint8))
    telling = replace(manifest, files=files, facts_path=tmp_path / "facts.npy")
    split = split_of(manifest)
    train, test = split.rows("train"), split.rows("test")
    scores = NuisanceOnly().fit(telling, train, seed=0)(test)
    assert np.mean(scores.argmax(axis=1) == manifest.labels[test]) == 1.0
    blind = replace(telling, thumbnails_path=tmp_path / "noise.npy")
    assert np.array_equal(NuisanceOnly().fit(blind, train, seed=0)(test), scores)


def test_nuisance_only_does_not_look_at_names(manifest):
    split = split_of(manifest)
    train, test = split.rows("train"), split.rows("test")
    renamed = replace(manifest, files=tuple(replace(file, path=f"{file.label}/a/{file.path}") for file in manifest.files))
    expected = NuisanceOnly().fit(manifest, train, seed=0)(test)
    assert np.array_equal(NuisanceOnly().fit(renamed, train, seed=0)(test), expected)


def test_a_scanner_never_seen_in_training_is_no_error(manifest):
    train, test = split_of(manifest).rows("train"), split_of(manifest).rows("test")
    sources = ["A | 1"] * len(manifest)
    for row in test:
        sources[row] = "B | 2"
    files = tuple(replace(file, source=source) for file, source in zip(manifest.files, sources, strict=True))
    scores = NuisanceOnly().fit(replace(manifest, files=files), train, seed=0)(test)
    assert np.isfinite(scores).all()
