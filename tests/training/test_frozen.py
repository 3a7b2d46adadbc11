"""Frozen layers are computed once: the same training as when they are computed in every epoch."""

from __future__ import annotations

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn
from training_data import scanned, split_of

from vitrail.models import finetune
from vitrail.models.backbones import Features
from vitrail.models.border import find_border, output_at, run_from
from vitrail.models.network import HeadLayers
from vitrail.preprocess import normalise
from vitrail.progress import SILENT, SilentProgress
from vitrail.study import AugmentSettings, DataSettings, FinetuneSettings, PreprocessSettings, Study, TrainingSettings
from vitrail.training import Job, frozen, train
from vitrail.training.device import ComputeDevice
from vitrail.training.state import TrainingState

NOT_CHANGED = AugmentSettings(rotation=0, zoom=0, translation=0, brightness=0, contrast=0)


class Heard(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    manifest = scanned(tmp_path_factory.mktemp("frozen"), each=13)
    return SimpleNamespace(manifest=manifest, split=split_of(manifest))


def asked(backbone="test_resnet", *, size=32, epochs=3, **settings):
    training = TrainingSettings(epochs=epochs, patience=9, batch_size=7, learning_rate=0.01, average=0.9)
    preprocess = PreprocessSettings(size=size)
    return FinetuneSettings(backbone=backbone, pretrained=False, preprocess=preprocess, training=training, **settings)


def trained(folder, data, settings, *, augment=NOT_CHANGED, progress=SILENT, **study):
    study = Study(data=DataSettings(path=data.manifest.root), models=(settings,), augment=augment, output=folder, **study)
    job = Job(study, data.manifest, data.split, folder / "model", folder / "cache", progress)
    found = train(study.models[0], job)
    return found, (folder / "model" / "weights.safetensors").read_bytes()


def forwards(monkeypatch):
    """Count the images that pass the frozen part."""
    passed = []
    original = finetune.FinetunedNetwork.frozen_part

    def counted(self, pixels):
        passed.append((self.frozen_up_to, len(pixels)))
        return original(self, pixels)

    monkeypatch.setattr(finetune.FinetunedNetwork, "frozen_part", counted)
    return passed


CASES = {
    "frozen": asked(strategy="frozen"),
    "in two phases": asked(head_epochs=2),
    "partial": asked(strategy="partial", frozen_layers=9),
    "partial in two phases": asked(strategy="partial", frozen_layers=9, head_epochs=1),
    "partial transformer": asked("test_vit", size=None, strategy="partial", frozen_layers=16),
    "partial, other blocks": asked("test_efficientnet", size=64, strategy="partial", frozen_layers=12),
    "partial, scales in blocks": asked("test_convnext", size=64, strategy="partial", frozen_layers=12),
}


@pytest.mark.parametrize("case", CASES)
def test_the_training_is_the_same_as_without_and_each_image_passes_once(case, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "frozen_once", lambda network, examples, training, **_: contextlib.nullcontext(examples))
        before, _ = trained(tmp_path / "before", data, CASES[case])
    passed = forwards(monkeypatch)
    once, _ = trained(tmp_path / "once", data, CASES[case])
    measured = [[(one.training_loss, one.validation_loss) for one in model.training.epochs] for model in (before, once)]
    np.testing.assert_allclose(measured[0][0], measured[1][0], rtol=1e-5)
    np.testing.assert_allclose(*measured, rtol=0.02)  # rounding grows, above all where normalisations of small batches learn
    images = len(data.split.rows("train")) + len(data.split.rows("validation"))
    parts = {part for part, _ in passed}
    assert len(parts) == (2 if case == "partial in two phases" else 1)
    assert sum(count for _, count in passed) == images * len(parts)
    assert max(count for _, count in passed) == CASES[case].training.batch_size
    assert not list(tmp_path.rglob("*frozen*"))


@pytest.mark.parametrize("case", ["frozen", "partial in two phases"])
def test_the_seed_decides_every_bit_also_when_a_training_goes_on(case, data, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(state, epoch, add=TrainingState.add):
        add(state, epoch)
        state.save(tmp_path / "killed" / "model" / "checkpoint.pt")
        if epoch.number == 2:
            raise Killed

    _, weights = trained(tmp_path / "whole", data, CASES[case])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainingState, "add", kill)
        trained(tmp_path / "killed", data, CASES[case])
    assert trained(tmp_path / "killed", data, CASES[case])[1] == weights


def test_augmented_images_pass_the_frozen_layers_in_every_epoch_and_it_is_said(data, tmp_path, monkeypatch):
    heard, passed = Heard(), forwards(monkeypatch)
    trained(tmp_path, data, asked(strategy="frozen"), augment=AugmentSettings(), progress=heard)
    assert passed == [] and any("frozen layers are computed in each of them" in text for text in heard.said)


def test_where_all_layers_learn_nothing_is_kept(data, tmp_path, monkeypatch):
    passed = forwards(monkeypatch)
    trained(tmp_path, data, asked(epochs=1))
    assert passed == []


def test_what_is_too_large_is_computed_every_time_and_it_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "LARGEST", 100)
    heard = Heard()
    trained(tmp_path, data, asked(strategy="frozen", epochs=1), progress=heard)
    assert any("too much to keep" in text for text in heard.said)


def test_what_would_fill_the_disk_is_computed_every_time_and_it_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    heard = Heard()
    trained(tmp_path, data, asked(strategy="frozen", epochs=1), progress=heard)
    assert any("more than half of the 0.0 GiB" in text for text in heard.said)


def test_in_mixed_precision_nothing_is_kept_and_it_is_said(data, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "choose_device", lambda _: ComputeDevice(torch.device("cpu"), torch.bfloat16))
    heard, passed = Heard(), forwards(monkeypatch)
    trained(tmp_path, data, asked(strategy="frozen", epochs=1), progress=heard)
    assert passed == [] and any("mixed precision" in text for text in heard.said)


def test_what_was_kept_of_the_first_phase_is_gone_in_the_second(data, tmp_path, monkeypatch):
    found = []

    def compute(self, part, size, *, original=frozen.FrozenExamples._compute):
        found.append((part, list(self._folder.iterdir())))
        return original(self, part, size)

    monkeypatch.setattr(frozen.FrozenExamples, "_compute", compute)
    trained(tmp_path, data, CASES["partial in two phases"])
    assert [part for part, _ in found] == ["embedding", "model.maxpool"]
    assert [files for _, files in found] == [[], []]


def test_turned_copies_of_small_classes_are_kept_as_turned(tmp_path, monkeypatch, data):
    parts = list(data.split.parts)
    small = [row for row in data.split.rows("train") if data.manifest.labels[row] == 0][2:]
    for row in small:
        parts[row] = "excluded"
    unequal = SimpleNamespace(manifest=data.manifest, split=dataclasses.replace(data.split, parts=tuple(parts)))
    settings = asked(strategy="frozen")
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"imbalance": "rotations"})})
    with monkeypatch.context() as patch:
        patch.setattr(frozen, "frozen_once", lambda network, examples, training, **_: contextlib.nullcontext(examples))
        before, _ = trained(tmp_path / "before", unequal, settings)
    once, _ = trained(tmp_path / "once", unequal, settings)
    losses = [[one.training_loss for one in model.training.epochs] for model in (before, once)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- where the border is


class Trunk(nn.Module):
    """Three convolutions; with a shortcut the third sees what the first gives, with dropout what the second gives is drawn."""

    def __init__(self, *, shortcut=False, dropout=0.0):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.drop, self.after, self.shortcut = nn.Dropout(dropout), nn.ReLU(inplace=True), shortcut

    def forward(self, pixels):
        first = self.first(pixels)
        second = self.after(self.drop(self.second(first)))
        maps = self.third(second + first if self.shortcut else second)
        return maps, maps.mean(dim=(2, 3))


def border(trunk, *fixed, pixels=None):
    if pixels is None:
        pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return find_border(trunk.eval(), list(fixed), pixels, train=trunk.train)


def test_the_border_is_the_last_module_before_what_learns():
    trunk = Trunk()
    assert border(trunk, trunk.first, trunk.second) == "after"
    assert border(trunk, trunk.first) == "first"
    assert border(trunk, trunk.second) == "" == border(trunk)


def test_a_border_is_no_place_around_which_a_shortcut_leads():
    trunk = Trunk(shortcut=True)
    assert border(trunk, trunk.first, trunk.second) == "first"


def test_nothing_behind_a_random_choice_is_frozen():
    trunk = Trunk(dropout=0.5)
    assert border(trunk, trunk.first, trunk.second) == "second"


def test_the_rest_goes_on_from_what_was_kept_and_learns():
    trunk = Trunk().eval()
    pixels = torch.randn(5, 3, 8, 8)
    kept = output_at(trunk, "first", pixels)
    rest = run_from(trunk, "first", kept, pixels=(3, 8, 8))
    assert all(torch.equal(one, other) for one, other in zip(rest, trunk(pixels), strict=True))
    rest[-1].sum().backward()
    assert trunk.first.weight.grad is None and trunk.third.weight.grad is not None


def test_the_border_of_a_backbone_is_where_its_blocks_end():
    settings = asked(strategy="partial", frozen_layers=9)  # the stem has six, the first block more than three
    recipe = finetune.recipe(settings, PreprocessSettings(size=64, colour="rgb", scaling="channel"))
    network = finetune.build(settings, recipe, classes=3, seed=0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    network.find_frozen(torch.from_numpy(normalise(pixels, recipe)))
    assert network.frozen_up_to == "model.maxpool"


def test_a_layer_between_a_frozen_vector_and_the_head_is_not_left_out():
    """Some backbones have a dense layer before their embedding: what is kept before it is a vector too."""
    model = timm.create_model("test_convnext", num_classes=0, head_hidden_size=64).eval()
    pixels = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    dimension = model.forward_head(model.forward_features(pixels), pre_logits=True).shape[1]
    settings = FinetuneSettings(strategy="partial", frozen_layers=len(finetune.layers(model)) - 1)
    network = finetune.FinetunedNetwork(Features(model, "none"), HeadLayers(dimension, (), 3), settings)
    network.find_frozen(pixels)
    assert border(network.trunk, *finetune.layers(model)[:-1], pixels=pixels) == "model.head.flatten"
    assert network.frozen_up_to == "", "its vector cannot be told from the finished one"
