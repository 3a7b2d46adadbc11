"""Unequal classes, from the settings to the trained model, in every way of training."""

from types import SimpleNamespace

import numpy as np
import pytest
from training_data import scanned, split_of

from vitrail.errors import StudyError
from vitrail.models import forest, probe
from vitrail.models.embedders import DescriptorEmbedder
from vitrail.preprocess import normalise, prepare_file
from vitrail.records import Recipe, Split
from vitrail.study import (
    CnnSettings,
    DataSettings,
    ForestSettings,
    PreprocessSettings,
    ProbeSettings,
    Study,
    TrainingSettings,
)
from vitrail.training import Job, train
from vitrail.training import fit as fit_module

SMALL = PreprocessSettings(size=16)
FOREST = ForestSettings(trees=5, features=("pixels",), preprocess=SMALL)
PROBE = ProbeSettings(preprocess=SMALL)
DENSE = ProbeSettings(preprocess=SMALL, dense=(4,), training=TrainingSettings(epochs=1))
CNN = CnnSettings(filters=(4,), preprocess=SMALL, augment=False, training=TrainingSettings(epochs=1))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """8, 8 and 2 training images of the classes: most of the last one's test."""
    manifest = scanned(tmp_path_factory.mktemp("imbalance"), each=15)
    split = split_of(manifest)
    last = [row for row in split.rows("train") if manifest.labels[row] == 2]
    parts = tuple("test" if row in last[2:] else part for row, part in enumerate(split.parts))
    return SimpleNamespace(manifest=manifest, split=Split(parts, split.notes, split.groups, 0, "by position"))


def trained(data, folder, settings, imbalance, **training):
    settings = settings.model_copy(
        update={"name": "mine", "training": settings.training.model_copy(update={"imbalance": imbalance, **training})}
    )
    study = Study(data=DataSettings(path=data.manifest.root), models=(settings,), output=folder)
    return train(study.models[0], Job(study, data.manifest, data.split, folder / "model", folder / "cache"))


@pytest.fixture
def pixels_as_features(monkeypatch):
    """The probe's backbone is replaced by the grey pixels: fast, and a turn of the image shows."""
    embedder = DescriptorEmbedder(Recipe(16, "grey", False, False, "unit"), ("pixels",))
    monkeypatch.setattr(probe, "embedder", lambda settings, preprocess, *, cache, progress: embedder)


class Stop(Exception):
    """Carries what reached the fit."""


def what_is_fitted(monkeypatch, data, folder, settings, imbalance):
    """Return vectors and labels of the training images as they reach whoever fits, and whether the classes are weighted."""

    def seen(vectors, labels, validation, weighted):
        raise Stop(vectors, labels, validation, weighted)

    def seen_by_forest(_, vectors, labels, *, groups, class_weights, seed):
        assert len(groups) == len(labels)
        seen(vectors, labels, None, class_weights)

    monkeypatch.setattr(forest, "fit", seen_by_forest)
    monkeypatch.setattr(
        probe, "fit_linear", lambda _, vectors, labels, *, class_weights: seen(vectors, labels, None, class_weights)
    )
    monkeypatch.setattr(fit_module, "fit", lambda module, examples, *, settings, **_: seen_by_loop(seen, examples, settings))
    with pytest.raises(Stop) as caught:
        trained(data, folder, settings, imbalance)
    return caught.value.args


def seen_by_loop(seen, examples, settings):
    positions = np.arange(len(examples.training_labels))
    vectors = examples.training_batch(positions, np.random.default_rng(0)).numpy().reshape(len(positions), -1)
    everybody = np.arange(len(examples.validation_labels))
    validation = examples.validation_batch(everybody).numpy().reshape(len(everybody), -1)
    seen(vectors, examples.training_labels, validation, settings.imbalance == "weights")


def prepared(data, part, scaling):
    recipe = Recipe(16, "grey", False, False, scaling)
    rows = data.split.rows(part)
    pixels = np.stack([prepare_file(data.manifest.root / data.manifest.files[row].path, recipe)[0] for row in rows])
    return normalise(pixels, recipe)[:, 0], data.manifest.labels[rows]


@pytest.mark.parametrize("settings", [FOREST, PROBE, DENSE, CNN], ids=["forest", "probe", "dense", "cnn"])
@pytest.mark.parametrize("imbalance", ["none", "weights", "sampling", "rotations"])
def test_every_way_of_training_is_given_what_the_setting_says(
    settings, imbalance, data, tmp_path, monkeypatch, pixels_as_features
):
    vectors, labels, validation, weighted = what_is_fitted(monkeypatch, data, tmp_path, settings, imbalance)
    images, truth = prepared(data, "train", "standardise" if settings is CNN else "unit")
    assert np.bincount(truth).tolist() == [8, 8, 2]
    assert weighted == (imbalance == "weights")
    np.testing.assert_allclose(vectors[: len(truth)], images.reshape(len(truth), -1), atol=1e-5)
    np.testing.assert_array_equal(labels[: len(truth)], truth)

    copies = vectors[len(truth) :]
    filled = imbalance == "rotations" or (imbalance == "sampling" and settings is not CNN)  # the loop draws anew every epoch
    assert len(copies) == (6 if filled else 0)
    assert (labels[len(truth) :] == 2).all()
    turns = (1, 2, 3) if imbalance == "rotations" else (0,)
    allowed = np.stack([np.rot90(image, turn).ravel() for image in images[truth == 2] for turn in turns])
    found = [int(np.abs(allowed - copy).max(axis=1).argmin()) for copy in copies]
    for copy, number in zip(copies, found, strict=True):
        np.testing.assert_allclose(copy, allowed[number], atol=1e-5)
    if filled:
        assert set(found) == set(range(len(allowed))), "two images in three turns each; or two images, three times each"
    if validation is not None:
        expected, _ = prepared(data, "validation", "standardise" if settings is CNN else "unit")
        np.testing.assert_allclose(validation, expected.reshape(len(expected), -1), atol=1e-5)


@pytest.mark.parametrize("imbalance", ["sampling", "rotations"])
@pytest.mark.parametrize("settings", [FOREST, PROBE, DENSE, CNN], ids=["forest", "probe", "dense", "cnn"])
def test_it_trains_and_counts_its_images_once(settings, imbalance, data, tmp_path, pixels_as_features):
    result = trained(data, tmp_path, settings, imbalance)
    assert result.training.images == 18
    assert result.training.settings["training"]["imbalance"] == imbalance


def test_a_warm_up_as_long_as_the_training_is_refused_before_any_work(data, tmp_path):
    with pytest.raises(StudyError, match=r"models\.mine\.training\.warmup: must be fewer than .*epochs \(1\).*Found: 2"):
        trained(data, tmp_path, CNN, "none", warmup=2)
    assert not (tmp_path / "cache").exists()
