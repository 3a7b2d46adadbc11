"""Training that goes on from a trained network's weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import CLASSES, scanned, split_of

from vitrail.errors import StudyError, UsageError
from vitrail.models import check_model, family_module, identity, load_package, load_weights, save_package
from vitrail.models.continued import read_start
from vitrail.preprocess import normalise, prepare_file
from vitrail.records import Continuation, Manifest, Training
from vitrail.storage import read_record, write_record
from vitrail.study import CnnSettings, FinetuneSettings, PreprocessSettings, Study, TrainingSettings, TransformerSettings
from vitrail.training import Job, train

SMALL = PreprocessSettings(size=32)
QUICK = TrainingSettings(epochs=2, patience=9, batch_size=16, learning_rate=0.003)
NETWORKS = {
    "cnn": CnnSettings(filters=(4, 6), preprocess=SMALL, training=QUICK, name="cnn"),
    "finetune": FinetuneSettings(
        backbone="test_resnet",
        pretrained=False,
        strategy="partial",
        frozen_layers=4,
        layer_decay=0.9,
        preprocess=SMALL,
        training=QUICK,
        name="finetune",
    ),
    "transformer": TransformerSettings(dimension=16, depth=1, heads=2, preprocess=SMALL, training=QUICK, name="transformer"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Manifest:
    return scanned(tmp_path_factory.mktemp("images"), each=12)


def trained(folder: Path, data: Manifest, settings, *, seed: int = 0, split=None) -> tuple[Path, Training]:
    """Train and pack as the pipeline does; the folder of the model and its record."""
    study = Study.model_validate({"data": {"path": data.root}, "seed": seed, "models": [settings.model_dump(mode="json")]})
    settings = study.models[0]
    place = folder / "models" / settings.name
    place.mkdir(parents=True)
    job = Job(study, data, split or split_of(data), place, folder / "cache")
    check_model(settings, study.preprocess_for(settings))
    done = train(settings, job)
    save_package(
        place / "package",
        name=settings.name,
        family=settings.model,
        description=done.training.description,
        classes=data.classes,
        embedder=done.embedder,
        head=done.head,
        data_fingerprint=data.fingerprint,
        study_fingerprint=study.fingerprint,
    )
    write_record(place / "training.json", done.training)
    return place, done.training


@pytest.fixture(scope="module")
def before(tmp_path_factory, data) -> dict[str, tuple[Path, Training]]:
    folder = tmp_path_factory.mktemp("before")
    return {name: trained(folder / f"run-{name}", data, settings) for name, settings in NETWORKS.items()}


def further(settings, folder: Path, **training: object):
    """The same network, going on for two epochs."""
    return settings.model_copy(update={"continues": folder, "training": settings.training.model_copy(update=training)})


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_saved_weights_are_those_of_the_package(name, before, data):
    place, _ = before[name]
    package = load_package(place / "package")
    network = family_module(name).build(NETWORKS[name], package.recipe, classes=3, seed=99)
    load_weights(network, read_start(place, key="continues"))
    pixels = np.stack([prepare_file(data.root / file.path, package.recipe)[0] for file in data.files[::5]])
    with torch.no_grad():
        scores = network.eval()(torch.from_numpy(normalise(pixels, package.recipe))).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, package.scores(pixels), atol=1e-4)


def test_it_goes_on_from_the_saved_weights(before, data, tmp_path):
    """Epochs at a learning rate of next to nothing leave a network without batch normalisation as it was."""
    place, first = before["transformer"]
    still = {"learning_rate": 1e-12, "weight_decay": 0.0, "schedule": "constant"}
    new, record = trained(tmp_path, data, further(NETWORKS["transformer"], place, **still))
    then, now = (load_file(folder / "weights.safetensors") for folder in (place, new))
    assert all(torch.allclose(then[name], now[name], atol=1e-8) for name in then)
    count = first.best_epoch
    assert record.continues == Continuation(record.continues.package, "run-transformer", "transformer", count)
    assert record.epochs[:count] == first.epochs[:count] and len(record.epochs) == count + 2
    assert [epoch.number for epoch in record.epochs] == list(range(1, count + 3))
    assert record.epochs[count].validation_loss == pytest.approx(first.epochs[count - 1].validation_loss, abs=1e-5)


def test_the_same_twice_is_the_same_bit_for_bit_and_other_than_the_first_epochs(before, data, tmp_path):
    place, _ = before["cnn"]
    settings = further(NETWORKS["cnn"], place)
    one, two = (trained(tmp_path / name, data, settings)[0] for name in ("one", "two"))
    for file in ("weights.safetensors", "package/embedder.onnx", "package/head.safetensors"):
        assert (one / file).read_bytes() == (two / file).read_bytes() != (place / file).read_bytes()


def test_it_learns_more(before, data, tmp_path):
    place, first = before["cnn"]
    _, record = trained(tmp_path, data, further(NETWORKS["cnn"], place, epochs=12))
    assert record.epochs[-1].training_loss < first.epochs[-1].training_loss
    best = min(epoch.validation_loss for epoch in record.epochs)
    assert record.epochs[record.best_epoch - 1].validation_loss == best < first.epochs[first.best_epoch - 1].validation_loss


def test_weights_that_no_new_epoch_betters_stay(before, data, tmp_path):
    place, first = before["cnn"]
    new, record = trained(tmp_path, data, further(NETWORKS["cnn"], place, learning_rate=1.0))
    assert record.best_epoch == first.best_epoch and "none of them is better" in record.stopped
    assert (new / "weights.safetensors").read_bytes() == (place / "weights.safetensors").read_bytes()
    old, again = load_package(place / "package"), load_package(new / "package")
    assert [answer.scores for answer in again.description.golden] == [answer.scores for answer in old.description.golden]


def test_a_chain_counts_all_its_epochs(before, data, tmp_path):
    place, first = before["cnn"]
    second_place, second = trained(tmp_path / "second", data, further(NETWORKS["cnn"], place))
    _, third = trained(tmp_path / "third", data, further(NETWORKS["cnn"], second_place))
    assert third.continues is not None and third.continues.epochs == second.best_epoch >= first.best_epoch
    assert len(third.epochs) == second.best_epoch + 2


def test_another_split_or_other_data_is_refused(before, data, tmp_path):
    place, _ = before["cnn"]
    split = split_of(data)
    parts = list(split.parts)
    one, other = parts.index("train"), parts.index("validation")
    parts[one], parts[other] = parts[other], parts[one]
    with pytest.raises(UsageError, match=r"models\.cnn\.continues: must go on with the split"):
        trained(tmp_path / "split", data, further(NETWORKS["cnn"], place), split=replace(split, parts=tuple(parts)))
    with pytest.raises(UsageError, match=r"models\.cnn\.continues: must go on with the data"):
        trained(tmp_path / "data", replace(data, files=data.files[:-1]), further(NETWORKS["cnn"], place))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"filters": [4, 8]}, "these settings differ: filters"),
        ({"activation": "tanh"}, "these settings differ: activation"),
        ({"preprocess": {"size": 48}}, r"preprocess\.size"),
    ],
)
def test_another_network_or_input_is_refused(settings, told, before, data):
    plain = further(NETWORKS["cnn"], before["cnn"][0]).model_dump(mode="json")
    study = Study.model_validate({"data": {"path": data.root}, "models": [{**plain, **settings}]})
    with pytest.raises(StudyError, match=told):
        check_model(study.models[0], study.preprocess_for(study.models[0]))


def test_other_families_and_damaged_folders_are_refused(before, data, tmp_path):
    place, _ = before["cnn"]

    def refusal(settings) -> str:
        study = Study.model_validate({"data": {"path": data.root}, "models": [settings.model_dump(mode="json")]})
        with pytest.raises(StudyError) as refused:
            check_model(study.models[0], study.preprocess_for(study.models[0]))
        return str(refused.value)

    assert "of the same family (transformer), it is of family cnn" in refusal(further(NETWORKS["transformer"], place))
    assert "must be the folder of a trained model" in refusal(further(NETWORKS["cnn"], tmp_path))
    old = shutil.copytree(place, tmp_path / "old")
    (old / "weights.safetensors").write_bytes((before["transformer"][0] / "weights.safetensors").read_bytes())
    assert "the file there is another one" in refusal(further(NETWORKS["cnn"], old))
    (old / "weights.safetensors").unlink()
    assert "An older vitrail did not keep it" in refusal(further(NETWORKS["cnn"], old))


def test_a_record_of_before_is_still_read(before, tmp_path):
    content = json.loads((before["cnn"][0] / "training.json").read_text())
    del content["weights"], content["continues"]
    (tmp_path / "training.json").write_text(json.dumps(content))
    assert read_record(tmp_path / "training.json", Training).weights == ""


def test_what_is_continued_is_part_of_what_a_model_is(before):
    settings = NETWORKS["cnn"]
    with_it = identity(further(settings, before["cnn"][0]))
    assert identity(settings) is None and with_it is not None
    assert with_it != identity(further(settings, before["transformer"][0])) and len(CLASSES) == 3
