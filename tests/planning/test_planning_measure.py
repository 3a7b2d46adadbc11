"""Timings ask the same questions as the training that they stand for."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from vitrail.datasets import scan_folder
from vitrail.models import finetune
from vitrail.planning import measure
from vitrail.planning.measure import Measured
from vitrail.records import Manifest, Split
from vitrail.study import Study
from vitrail.training import frozen

STILL = {"rotation": 0, "zoom": 0, "translation": 0, "brightness": 0, "contrast": 0}
PARTIAL = {"strategy": "partial", "frozen_layers": 9}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    folder, generator = tmp_path_factory.mktemp("measured"), np.random.default_rng(0)
    for label, bright in (("no", 60), ("yes", 110)):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(8):
            pixels = np.clip(generator.normal(bright, 40, (24, 24)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{number}.png")
    return scan_folder(folder / "images", cache=folder / "scan")


def measured(manifest: Manifest, tmp_path, monkeypatch, *, changes=None, **settings) -> Measured:
    monkeypatch.setattr(sys.modules["vitrail.planning.measure"], "STEP_SECONDS", 0.05)
    model = {"model": "finetune", "backbone": "test_resnet", "pretrained": False, "preprocess": {"size": 32}, **settings}
    asked = {"data": {"path": manifest.root}, "models": [{**model, "training": {"batch_size": 4}}], "augment": changes or {}}
    parts = tuple("validation" if row % 4 == 0 else "train" for row in range(len(manifest)))
    split = Split(parts, ("",) * len(manifest), tuple(range(len(manifest))), 0, "by position")
    usual = {"audit_seconds": 0.0, "limit": 60.0, "kept": None, "path": tmp_path / "kept.json", "cache": tmp_path / "cache"}
    return measure(Study.model_validate(asked), manifest, split, **usual)


@pytest.mark.parametrize(
    "settings", [PARTIAL | {"augment": False}, PARTIAL | {"augment": True, "head_epochs": 2}, {"strategy": "frozen"}]
)
def test_frozen_layers_are_timed_once_where_no_image_is_augmented(manifest, tmp_path, monkeypatch, settings):
    passed = []
    original = finetune.FinetunedNetwork.frozen_part

    def counted(self, pixels):
        passed.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(finetune.FinetunedNetwork, "frozen_part", counted)
    timing = measured(manifest, tmp_path, monkeypatch, changes=STILL, **settings).timings["finetune"]
    assert timing.once > 0 and timing.check is not None and timing.fit > 0
    assert sum(passed) == 2 * 4 + 2  # once kept: a batch and two validation images; once timed: a batch
    assert not list((tmp_path / "cache").glob(".timing-*"))


def test_they_are_timed_in_every_epoch_where_training_computes_them_there(manifest, tmp_path, monkeypatch):
    def never(self, pixels):
        raise AssertionError("training would not compute this part alone")

    with monkeypatch.context() as patch:
        patch.setattr(finetune.FinetunedNetwork, "frozen_part", never)
        for settings in (PARTIAL | {"augment": True}, {"strategy": "full", "augment": False}):
            timing = measured(manifest, tmp_path, patch, **settings).timings["finetune"]
            assert (timing.once, timing.check) == (0.0, None) and timing.fit > 0
    # Room is asked for all images, not for the few that are timed.
    monkeypatch.setattr(frozen, "LARGEST", 12 * 64 * 4)
    timing = measured(manifest, tmp_path, monkeypatch, strategy="frozen", augment=False).timings["finetune"]
    assert (timing.once, timing.check) == (0.0, None)
