"""What the record of a training says beside its epochs."""

from training_data import scanned, split_of

from vitrail.study import CnnSettings, DataSettings, PreprocessSettings, Study, TrainingSettings
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


def test_a_batch_that_fits_is_the_one_asked_for(tmp_path):
    assert trained_in(tmp_path).batch_size == 8
