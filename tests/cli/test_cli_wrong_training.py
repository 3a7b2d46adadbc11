"""Wrong settings of models and training: told before any image is read, with the key, the rule and what was found."""

from __future__ import annotations

import pytest
from cli_data import ask, kept, options

from vitrail.models import training_bytes
from vitrail.study import CnnSettings, FinetuneSettings, ForestSettings, PreprocessSettings, Study
from vitrail.training import batches

FINETUNE = ("models.0.backbone=test_resnet", "models.0.pretrained=false")


@pytest.mark.parametrize(
    ("model", "settings", "told"),
    [
        ("cnn", ["training.learning_rate=-0.1"], "training.learning_rate: must be greater than 0"),
        ("cnn", ["training.weight_decay=-1"], "training.weight_decay: must be greater than or equal to 0"),
        ("cnn", ["training.epochs=0"], "training.epochs: must be greater than or equal to 1"),
        (
            "cnn",
            ["training.optimiser=adm"],
            "training.optimiser: must be one of 'adam', 'adamw', 'sgd' or 'rmsprop'. Did you mean",
        ),
        ("cnn", ["training.loss=focall"], "training.loss: must be one of 'cross_entropy' or 'focal'. Did you mean 'focal'?"),
        ("cnn", ["training.schedule=cosin"], "'cosine'. Did you mean 'cosine'?"),
        ("cnn", ["training.label_smoothing=1"], "training.label_smoothing: must be less than 1"),
        (
            "cnn",
            ["training.device=gpu"],
            "training.device: must be auto, cpu, cuda, mps or xpu, or one of several such",
        ),
        ("cnn", ["training.device=cuda:99"], "models.cnn.training.device: must be a device of this machine as torch sees it: "),
        ("cnn", ["models.0.training.device=xpu:99"], "auto takes the first of them. Found: xpu:99"),
        ("cnn", ["training.warmup=9", "training.epochs=4"], "models.cnn.training.warmup: must be fewer than"),
        ("cnn", ["preprocess.size=16", "models.0.filters=[2,2,2,2,2]"], "models.cnn.filters: every pooling halves the image"),
        ("cnn", ["preprocess.size=16", "models.0.kernel=7"], "models.cnn.kernel: must be at most 3"),
        ("finetune", [*FINETUNE, "models.0.head_epochs=4", "training.epochs=4"], "finetune.head_epochs: must be less than its"),
        (
            "finetune",
            [*FINETUNE, "models.0.head_epochs=12"],
            "models.finetune.head_epochs: must be less than its training.epochs (12)",
        ),
        (
            "finetune",
            [*FINETUNE, "training.batch_size=1", "models.0.head=[{layer: batch_normalisation}]"],
            "training.batch_size: must be at least 2",
        ),
        ("finetune", ["models.0.backbone=test_resnett", "models.0.pretrained=false"], "Close: test_resnet"),
        ("finetune", [*FINETUNE, "models.0.strategy=partial", "models.0.frozen_layers=9999"], "frozen_layers: must be 1 to"),
        ("finetune", [*FINETUNE, "models.0.head=[{layer: dense, units: 3, activation: softmax}]"], "added by itself"),
        ("finetune", [*FINETUNE, "models.0.head=[{layer: dense}]"], "must say units"),
        ("probe", ["models.0.backbone=test_vit.r160_in1k", "preprocess.size=17"], "models.probe.preprocess.size: test_vit"),
    ],
)
def test_wrong_training_is_told_before_it_begins(images, tmp_path, model, settings, told):
    result = ask("run", images, "--output", tmp_path / "out", "--models", model, *options(*settings), "--quiet")
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert not kept(tmp_path / "out")


def test_a_batch_larger_than_the_training_part_is_remarked(images, tmp_path):
    settings = (
        "models.cnn.training.epochs=1",
        "models.cnn.training.batch_size=500",
        "models.cnn.filters=[2]",
        "tracking.enabled=false",
    )
    result = ask("train", images, "--output", tmp_path / "out", "--models", "cnn", *options("preprocess.size=16", *settings))
    assert result.exit_code == 0
    told = " ".join(result.stderr.split())
    assert "models.cnn.training.batch_size (500) is more than the" in told
    assert "loss" in told and "validation loss" in told and "balanced accuracy" in told


def test_a_step_that_the_machine_cannot_hold_is_remarked_with_figures(images, tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "machine_memory", lambda: 2**20)
    settings = ("models.cnn.training.epochs=1", "models.cnn.filters=[32]", "tracking.enabled=false", "preprocess.size=64")
    result = ask("train", images, "--output", tmp_path / "out", "--models", "cnn", *options(*settings))
    assert result.exit_code == 0
    assert "a training step needs about 0.1 GiB, and this machine has 0.0." in " ".join(result.stderr.split())


def test_the_memory_of_a_step_is_that_of_its_layers():
    study = Study(data={"path": "images"}, models=[CnnSettings(filters=(4,), pooling="max"), ForestSettings()])
    cnn, forest = study.models
    fixed, each = training_bytes(cnn, study.preprocess_for(cnn).model_copy(update={"size": 16}), size=16)
    # Convolution, normalisation and activation give 4 maps of 16 x 16, pooling 4 of 8 x 8; all but the image have gradients.
    assert each == 4 * (2 * (3 * 4 * 16 * 16 + 4 * 8 * 8) + 16 * 16)
    assert fixed == 5 * 4 * (4 * 9 + 2 * 4)
    assert training_bytes(forest, study.preprocess_for(forest), size=16) is None
    small = FinetuneSettings(backbone="test_resnet", pretrained=False)
    assert training_bytes(small, PreprocessSettings(size=64, colour="rgb"), size=64) is not None
    frozen = small.model_copy(update={"strategy": "frozen"})
    assert training_bytes(frozen, PreprocessSettings(size=64, colour="rgb"), size=64) is None
