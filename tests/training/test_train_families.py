"""The contract of every family: trained on three easy classes, it keeps what the pipeline relies on."""

import contextlib
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from training_data import CLASSES, scanned, split_of

from vitrail import study as study_module
from vitrail.datasets import scan_folder
from vitrail.explanation import explain_pixels
from vitrail.models import FAMILIES, check_model, load_package, save_package
from vitrail.preprocess import prepare_file
from vitrail.progress import SILENT, SilentProgress
from vitrail.records import Training
from vitrail.storage import read_record, write_record
from vitrail.study import (
    BoostedSettings,
    CnnSettings,
    DataSettings,
    FinetuneSettings,
    ForestSettings,
    PreprocessSettings,
    ProbeSettings,
    Study,
    SvmSettings,
    TrainingSettings,
    TransformerSettings,
)
from vitrail.training import Job, features, train
from vitrail.training import fit as fit_module

SMALL = PreprocessSettings(size=32)
LARGER = PreprocessSettings(size=64)
QUICK = {
    "forest": ForestSettings(trees=20, preprocess=SMALL),
    "boosted": BoostedSettings(rounds=15, components=8, min_samples_leaf=3, preprocess=SMALL),
    "svm": SvmSettings(components=16, preprocess=SMALL),
    "probe": ProbeSettings(preprocess=LARGER, inverse_regularisation=100.0),
    "probe with dense layers": ProbeSettings(
        preprocess=LARGER, dense=(16,), training=TrainingSettings(epochs=40, batch_size=16, learning_rate=0.01)
    ),
    "cnn": CnnSettings(
        filters=(6, 8),
        preprocess=SMALL,
        training=TrainingSettings(epochs=25, patience=25, batch_size=8, learning_rate=0.02),
    ),
    "finetune": FinetuneSettings(
        backbone="test_resnet",
        pretrained=False,
        strategy="partial",
        frozen_layers=4,
        head_epochs=1,
        layer_decay=0.9,
        preprocess=SMALL,
        training=TrainingSettings(epochs=15, patience=15, batch_size=8, learning_rate=0.003),
    ),
    "transformer": TransformerSettings(
        dimension=24,
        depth=2,
        heads=2,
        preprocess=SMALL,
        training=TrainingSettings(epochs=25, patience=25, batch_size=8, learning_rate=0.003),
    ),
}
"""One quick variant per family at least."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    manifest = scanned(tmp_path_factory.mktemp("families"))
    return SimpleNamespace(manifest=manifest, split=split_of(manifest))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A tiny timm model with random weights, in timm's local-dir format."""
    import safetensors.torch
    import timm
    import torch

    folder = tmp_path_factory.mktemp("backbone")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", num_classes=2)
    config = {key: model.pretrained_cfg[key] for key in ("input_size", "mean", "std", "first_conv", "classifier")}
    content = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": {**config, "num_classes": 2}}
    (folder / "config.json").write_text(json.dumps(content))
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    return f"local-dir:{folder}"


def trained_in(folder, data, settings, *, seed=4, progress=SILENT):
    """Train one model of a study and pack it, as the pipeline does."""
    study = Study(data=DataSettings(path=data.manifest.root), models=(settings,), seed=seed, output=folder)
    (settings,) = study.models
    check_model(settings, study.preprocess_for(settings))
    job = Job(study, data.manifest, data.split, folder / "model", folder / "cache", progress)
    trained = train(settings, job)
    save_package(
        folder / "package",
        name=settings.name,
        family=settings.model,
        description=trained.training.description,
        classes=data.manifest.classes,
        embedder=trained.embedder,
        head=trained.head,
        data_fingerprint=data.manifest.fingerprint,
        study_fingerprint=study.fingerprint,
    )
    return SimpleNamespace(
        trained=trained, package=load_package(folder / "package"), study=study, settings=settings, folder=folder
    )


@pytest.fixture(scope="module", params=QUICK)
def model(request, data, backbone, tmp_path_factory):
    settings = QUICK[request.param]
    if settings.model == "probe":
        settings = settings.model_copy(update={"backbone": backbone})
    return trained_in(tmp_path_factory.mktemp("first"), data, settings)


def scores_of(model, data, rows):
    vectors = features(model.package.embedder, data.manifest, rows, cache=model.folder / "cache")
    return model.package.head.scores(vectors)


def test_every_family_is_tested_here():
    trained = {name for name, family in FAMILIES.items() if family.training != "ensemble"}
    assert {settings.model for settings in QUICK.values()} == trained == set(study_module.FAMILIES) - {"ensemble"}


def test_it_tells_what_anyone_tells_apart(model, data):
    rows = data.split.rows("validation")
    scores = scores_of(model, data, rows)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-9)
    truth = data.manifest.labels[rows]
    accuracies = [(scores.argmax(axis=1) == truth)[truth == label].mean() for label in range(3)]
    assert min(accuracies) > 0.8 and np.mean(accuracies) > 0.9


def test_its_record_says_how_it_was_trained(model, data, tmp_path):
    training = model.trained.training
    assert (training.model, training.family) == (model.settings.name, model.settings.model)
    assert training.images == len(data.split.rows("train"))
    assert training.parameters > 0 and training.seconds > 0 and training.description and training.stopped
    resolved = model.study.training_for(model.settings)
    if training.epochs:
        assert [epoch.number for epoch in training.epochs] == list(range(1, len(training.epochs) + 1))
        losses = [epoch.validation_loss for epoch in training.epochs]
        assert training.best_epoch == 1 + int(np.argmin(losses))
        assert len(training.epochs) <= resolved.epochs and training.epochs[0].learning_rate == resolved.learning_rate
    else:
        assert training.best_epoch == 0 and training.stopped == "fitted in one go"
    assert training.settings["preprocess"]["size"] == model.package.recipe.size, "what was left open is resolved"
    assert training.settings["preprocess"]["scaling"] == model.settings.preprocess_defaults.scaling
    assert training.settings["training"] == resolved.model_dump(mode="json")
    write_record(tmp_path / "training.json", training)
    assert read_record(tmp_path / "training.json", Training) == training


def test_its_package_answers_as_what_was_trained(model, data):
    rows = data.split.rows("test")
    paths = [data.manifest.root / data.manifest.files[row].path for row in rows]
    pixels = np.stack([prepare_file(path, model.trained.embedder.recipe)[0] for path in paths])
    expected = model.trained.head.scores(model.trained.embedder.embed(pixels))
    answers = model.package.predict(paths)
    assert model.package.classes == CLASSES
    np.testing.assert_allclose([list(answer.probabilities.values()) for answer in answers], expected, atol=1e-5)
    np.testing.assert_allclose(scores_of(model, data, rows), expected, atol=1e-5)
    assert model.package.description.family == model.settings.model


def test_the_order_of_the_images_does_not_matter(model, data):
    rows = np.arange(len(data.manifest))
    order = np.random.default_rng(0).permutation(rows)
    embedder, head = model.package.embedder, model.package.head
    pixels = np.stack([prepare_file(data.manifest.root / file.path, embedder.recipe)[0] for file in data.manifest.files])
    together = head.scores(embedder.embed(pixels))
    np.testing.assert_allclose(head.scores(embedder.embed(pixels[order])), together[order], atol=1e-5)
    np.testing.assert_allclose(head.scores(embedder.embed(pixels[:1])), together[:1], atol=1e-5)


def test_the_same_seed_gives_the_same_model_bit_for_bit(model, data, tmp_path):
    again = trained_in(tmp_path, data, model.settings)
    rows = np.arange(len(data.manifest))
    np.testing.assert_array_equal(scores_of(again, data, rows), scores_of(model, data, rows))
    timeless = [
        [(epoch.training_loss, epoch.validation_loss) for epoch in found.trained.training.epochs] for found in (model, again)
    ]
    assert timeless[0] == timeless[1]


class KilledInTraining(SilentProgress):
    """Ends the work, as a kill would, after two epochs; all that comes before may finish."""

    @contextlib.contextmanager
    def task(self, title, total):
        done = 0

        def advance(steps=1, note=""):
            nonlocal done
            done += steps
            if "training" in title and done == 2:
                raise KeyboardInterrupt

        yield advance


def test_a_killed_training_goes_on_and_ends_with_the_same_model(model, data, tmp_path, monkeypatch):
    if not model.trained.training.epochs:
        assert model.settings.model in ("forest", "boosted", "svm", "probe"), "fitted in one go: a kill costs one fit"
        return
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        trained_in(tmp_path, data, model.settings, progress=KilledInTraining())
    trained_epochs = []
    one_epoch = fit_module._one_epoch
    monkeypatch.setattr(
        fit_module, "_one_epoch", lambda *given, **named: trained_epochs.append(named["number"]) or one_epoch(*given, **named)
    )
    again = trained_in(tmp_path, data, model.settings)
    assert trained_epochs[0] == 3
    rows = np.arange(len(data.manifest))
    np.testing.assert_array_equal(scores_of(again, data, rows), scores_of(model, data, rows))
    assert again.trained.training.best_epoch == model.trained.training.best_epoch
    assert len(again.trained.training.epochs) == len(model.trained.training.epochs)


def test_test_images_have_no_say_in_training(model, data, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(data.manifest.root, root)
    for row in data.split.rows("test"):
        Image.new("L", (40, 40), 255).save(root / data.manifest.files[row].path)
    other = SimpleNamespace(manifest=scan_folder(root, cache=tmp_path / "scan"), split=data.split)
    assert other.manifest.fingerprint != data.manifest.fingerprint

    again = trained_in(tmp_path, other, model.settings)

    rows = np.concatenate([data.split.rows("train"), data.split.rows("validation")])
    np.testing.assert_array_equal(scores_of(again, other, rows), scores_of(model, data, rows))


def test_it_can_be_explained(model, data):
    row = int(data.split.rows("test")[0])
    file = data.manifest.files[row]
    pixels, placement = model.package.prepare(data.manifest.root / file.path)
    explanation = explain_pixels(model.package, pixels, placement, image=file.path)
    assert explanation.map.shape == (file.height, file.width)
    assert np.isfinite(explanation.map).all() and np.abs(explanation.map).max() > 0
    assert explanation.score == pytest.approx(model.package.scores(pixels[None])[0].max(), abs=1e-6)
    expected = "occlusion" if model.package.pooling == "none" else "grad-cam"
    assert explanation.method == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "pooling"),
    [("inception_v3", 80, "average"), ("mobilenetv2_035", 64, "average"), ("vit_tiny_patch16_224", 64, "none")],
)
def test_well_known_networks_are_trained_from_random_weights_and_packed(backbone, size, pooling, data, tmp_path):
    training = TrainingSettings(epochs=2, batch_size=12)
    preprocess = PreprocessSettings(size=size)
    settings = FinetuneSettings(backbone=backbone, pretrained=False, head_epochs=1, preprocess=preprocess, training=training)
    found = trained_in(tmp_path, data, settings)
    assert [epoch.number for epoch in found.trained.training.epochs] == [1, 2]
    assert found.package.pooling == pooling and found.package.recipe.size == size
    scores = scores_of(found, data, np.arange(len(data.manifest)))
    assert scores.shape == (len(data.manifest), len(CLASSES)) and np.ptp(scores) > 0
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-9)
