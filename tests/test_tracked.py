import dataclasses
from pathlib import Path

import pytest

from vitrail.records import (
    AuditReport,
    Energy,
    Epoch,
    Estimate,
    Evaluation,
    Finding,
    ImageFile,
    Manifest,
    ModelResult,
    Provenance,
    RunResult,
    Scores,
    Split,
    Training,
)
from vitrail.tracked import Measurement, describe_run, score_metrics


def estimate(value, low=None, high=None):
    return Estimate(value=value, low=low, high=high, n=9, groups=8, method="bootstrap of 8 groups, 2,000 resamples")


def scores(accuracy):
    return Scores(
        n=9,
        groups=8,
        overall={"accuracy": estimate(accuracy, accuracy - 0.1, accuracy + 0.05), "auc_weighted": estimate(None)},
        per_class={"glioma": {"sensitivity": estimate(0.5, 0.0, 1.0)}, "no_tumor": {"sensitivity": estimate(0.75)}},
        confusion=((4, 1), (1, 3)),
    )


@pytest.fixture
def result(tmp_path):
    epochs = tuple(Epoch(number, 1 / number, 2 / number, 0.5, 0.001, 3.0) for number in (1, 2))
    training = Training(
        model="cnn",
        family="cnn",
        description="three convolutions",
        parameters=1234,
        images=20,
        epochs=epochs,
        best_epoch=2,
        stopped="all epochs done",
        seconds=6.5,
        settings={"epochs": 2, "weights": None, "training": {"learning_rate": 0.001, "optimiser": "adamw"}, "blocks": [8, 16]},
    )
    evaluation = Evaluation("cnn", ("glioma", "no_tumor"), scores(0.75), scores(0.6), scores(0.5), test_openings=1)
    files = tuple(ImageFile(f"glioma/patient-{number}.jpg", "glioma", None, 10, "ab", "readable") for number in range(3))
    finding = Finding("LEAK301", "copies", "error", 1, "one copy", "it matters", "remove it", "none")
    return RunResult(
        name="brain",
        folder=tmp_path / "run-1",
        manifest=Manifest(tmp_path, ("glioma", "no_tumor"), files, tmp_path / "thumbnails.npy", tmp_path / "facts.npy"),
        audit=AuditReport(3, 3, (finding,), (), (0, 1, 2), frozenset(), frozenset()),
        split=Split(("train",) * 3, ("",) * 3, (0, 1, 2), seed=7, origin="the folder's own test part"),
        models=(
            ModelResult("cnn", "cnn", tmp_path / "package", training, evaluation),
            ModelResult("forest", "forest", failure="too few images"),
        ),
        champion="cnn",
        provenance=Provenance("0.1.0", "3.11", "Linux", {}, "code00", 7, "study00", "data00", "2026-01-01T00:00:00+00:00"),
        study="data: {path: images}\n",
    )


def test_every_estimate_comes_with_its_interval_and_nothing_stands_for_not_estimable():
    assert score_metrics(scores(0.75), prefix="test") == {
        "test.n": 9,
        "test.groups": 8,
        "test.accuracy": 0.75,
        "test.accuracy.low": 0.65,
        "test.accuracy.high": 0.8,
        "test.sensitivity.glioma": 0.5,
        "test.sensitivity.glioma.low": 0.0,
        "test.sensitivity.glioma.high": 1.0,
        "test.sensitivity.no_tumor": 0.75,
    }


def test_a_model_shows_its_settings_its_epochs_and_its_scores(result):
    cnn, forest = describe_run(result, model_figures={"cnn": {"confusion.svg": "<svg/>"}}).models
    assert cnn.params == {
        "epochs": "2",
        "weights": "null",
        "training.learning_rate": "0.001",
        "training.optimiser": "adamw",
        "blocks": "[8, 16]",
    }
    assert [cnn.metrics[f"{part}.accuracy"] for part in ("validation", "test", "test_clean")] == [0.75, 0.6, 0.5]
    assert cnn.metrics["training.seconds"] == 6.5 and cnn.metrics["test_openings"] == 1
    assert [item for item in cnn.history if item.name == "epoch.validation_loss"] == [
        Measurement("epoch.validation_loss", 1, 2.0),
        Measurement("epoch.validation_loss", 2, 1.0),
    ]
    assert len(cnn.history) == 10
    assert cnn.package == result.models[0].package and cnn.figures == {"confusion.svg": "<svg/>"}
    assert (forest.failure, forest.metrics, forest.package) == ("too few images", {}, None)


def test_the_study_shows_its_audit_and_the_champions_clean_score(result):
    run = describe_run(result, files=(Path("report.html"),))
    assert (run.name, run.experiment) == ("run-1", "brain")
    assert describe_run(result, experiment="lab").experiment == "lab"
    assert run.metrics["images"] == 3 and run.metrics["audit.errors"] == 1 and run.metrics["audit.warnings"] == 0
    assert run.metrics["test_clean.accuracy"] == 0.5
    assert run.params["seed"] == "7" and run.tags["champion"] == "cnn" and run.files == (Path("report.html"),)


def test_no_image_is_named(result):
    assert "patient-" not in repr(describe_run(result))


def test_the_key_follows_folder_study_data_and_the_models_that_were_trained(result):
    import dataclasses

    def key(**changes):
        return describe_run(dataclasses.replace(result, **changes)).key

    other = dataclasses.replace(result.provenance, data_fingerprint="data01")
    keys = {
        key(),
        key(folder=result.folder.with_name("run-2")),
        key(provenance=other),
        key(models=result.models[1:], champion=""),
    }
    assert len(keys) == 4
    assert key() == key(study="# a comment\n" + result.study) and key().startswith("run-1-")


def test_energy_is_a_metric_where_it_was_measured_and_a_sentence_where_not(result):
    known = Energy(0.5, 0.028, 60.0, "metered", "")
    training = dataclasses.replace(result.models[0].training, energy=known)
    models = (dataclasses.replace(result.models[0], training=training), result.models[1])
    run = describe_run(dataclasses.replace(result, models=models, energy=Energy(note="not measured: no meter")))
    assert not [name for name in run.metrics if name.startswith("energy")]
    assert run.tags["energy"] == "not measured: no meter"
    cnn, forest = run.models
    assert cnn.metrics["training.energy.kwh"] == 0.5 and cnn.metrics["training.energy.co2_kg"] == 0.028
    assert cnn.tags["energy"] == "metered"
    assert not [name for name in forest.metrics if "energy" in name]
