"""What the record of a training says beside its epochs."""

import numpy as np
from training_data import CLASSES, scanned, split_of

from vitrail.preprocess.examples import load_examples
from vitrail.records import Computation
from vitrail.study import AugmentSettings, CnnSettings, DataSettings, PreprocessSettings, Study, TrainingSettings
from vitrail.training import Job, train
from vitrail.training.examples import PixelExamples

SMALL = CnnSettings(filters=(2,), preprocess=PreprocessSettings(size=16), training=TrainingSettings(epochs=1, batch_size=8))


def trained_in(folder, settings=SMALL, **study_settings):
    manifest = scanned(folder, each=6)
    study = Study(data=DataSettings(path=manifest.root), models=(settings,), output=folder, **study_settings)
    (folder / "model").mkdir()
    return train(study.models[0], Job(study, manifest, split_of(manifest), folder / "model", folder / "cache")).training


def test_the_batch_size_is_that_which_fitted(tmp_path, monkeypatch):
    batch = PixelExamples.training_batch

    def tight(self, positions, generator):
        if len(positions) > 3:
            raise MemoryError
        return batch(self, positions, generator)

    monkeypatch.setattr(PixelExamples, "training_batch", tight)
    training = trained_in(tmp_path)
    assert training.batch_size == 2  # 8, 4, 2
    assert training.settings["training"]["batch_size"] == 8


def test_a_batch_that_fits_is_the_one_asked_for_and_the_device_is_told(tmp_path):
    training = trained_in(tmp_path, training=TrainingSettings(device="cpu"))
    assert training.batch_size == 8
    assert training.computed == Computation("CPU", "full", processes=1)


def test_examples_of_the_augmentation_are_kept(tmp_path):
    trained_in(tmp_path)
    pictures, names = load_examples(tmp_path / "model" / "augmented.npz")
    assert names == CLASSES
    assert pictures.dtype == np.uint8 and pictures.shape == (3, 5, 16, 16, 1)
    assert all((variant != strip[0]).any() for strip in pictures for variant in strip[1:])


def test_no_examples_where_nothing_is_augmented(tmp_path):
    trained_in(tmp_path, SMALL.model_copy(update={"augment": False}))
    assert not (tmp_path / "model" / "augmented.npz").exists()


def test_no_examples_where_every_change_is_zero(tmp_path):
    nothing = AugmentSettings(rotation=0, zoom=0, translation=0, brightness=0, contrast=0)
    trained_in(tmp_path, augment=nothing)
    assert not (tmp_path / "model" / "augmented.npz").exists()
