"""A study: YAML in and out, options on top, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from study_data import PLAIN_STUDIES, study
from vitrail.errors import StudyError
from vitrail.places import plain_study
from vitrail.study import CnnSettings, ForestSettings, PreprocessSettings, ProbeSettings, Study, TrainingSettings, changed


def written(folder: Path, text: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------------------------------------------- in and out


@given(PLAIN_STUDIES)
@hypothesis_settings(max_examples=40, deadline=None)
def test_yaml_round_trip(tmp_path_factory, plain):
    before = Study.from_mapping({"output": "/runs", **plain})
    path = written(tmp_path_factory.mktemp("study"), before.to_yaml())
    after = Study.from_yaml(path)
    assert after == before
    assert after.fingerprint == before.fingerprint


def test_the_smallest_file_is_a_study(tmp_path):
    read = Study.from_yaml(written(tmp_path, "data: {path: images}\n"))
    assert [model.name for model in read.models] == ["forest", "probe", "cnn"]
    assert read.name == "images"


def test_names_of_families_stand_for_models_and_sections_may_be_empty(tmp_path):
    read = Study.from_yaml(written(tmp_path, "data:\n  path: images\nsplit:\nmodels: [cnn, forest]\n"))
    assert read.models == (CnnSettings(name="cnn"), ForestSettings(name="forest"))
    assert read.split == study().split


def test_relative_places_are_meant_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = "data: {path: ../brain}\noutput: results\nmodels: [{model: probe, backbone: 'local-dir:weights'}]\n"
    read = Study.from_yaml(written(folder, text))
    assert read.data.path.resolve() == tmp_path / "brain"
    assert read.output == folder / "results"
    assert read.models[0].backbone == f"local-dir:{folder}/weights"


def test_the_default_output_stands_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = written(tmp_path, "data: {path: images}")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Study.from_yaml(path).output == tmp_path / "runs"


def test_a_study_is_named_after_the_folder_that_the_file_means(tmp_path, monkeypatch):
    (tmp_path / "brain mri").mkdir()
    path = written(tmp_path / "brain mri", "data: {path: .}")
    monkeypatch.chdir(tmp_path)
    assert Study.from_yaml(path).name == "brain-mri"


@pytest.mark.parametrize(
    ("folder", "name"), [("/", "study"), ("/.data", "data"), ("/IRM cérébrale", "IRM-c-r-brale"), ("/..x", "x")]
)
def test_names_made_of_folders_are_safe(folder, name):
    assert study(data={"path": folder}).name == name


def test_absolute_places_stay(tmp_path):
    read = Study.from_yaml(written(tmp_path, "data: {path: /data/images}\noutput: /data/runs\n"))
    assert (read.data.path, read.output) == (Path("/data/images"), Path("/data/runs"))


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xef\xbb\xbfdata: {path: images}\r\n")
    assert Study.from_yaml(path).name == "images"


# ---------------------------------------------------------------------------------------------------- options on top


def test_settings_are_changed_by_dotted_keys():
    new = changed(study(), {"seed": 7}, texts=("split.validation=0.15", "tracking.enabled=false", "models.cnn.filters=[4, 8]"))
    assert (new.seed, new.split.validation, new.tracking.enabled) == (7, 0.15, False)
    assert new.models[2].filters == (4, 8)
    assert study().seed == 0


@pytest.mark.parametrize("key", ["models.small.training.epochs", "models.1.training.epochs"])
def test_a_model_is_reached_by_name_or_number(key):
    start = study(models=["forest", {"model": "cnn", "name": "small"}])
    assert changed(start, {}, texts=(f"{key}=3",)).models[1].training.epochs == 3


def test_a_name_goes_before_a_number():
    start = study(models=["forest", {"model": "cnn", "name": "0"}])
    assert changed(start, {}, texts=("models.0.dropout=0.4",)).models[1].dropout == 0.4


def test_chosen_models_can_be_changed_in_the_same_breath():
    new = changed(study(), {"models": ["forest", "cnn"]}, texts=("models.cnn.training.epochs=2", "models.forest.trees=10"))
    assert (new.models[0].trees, new.models[1].training.epochs) == (10, 2)


def test_items_of_lists_are_reached_by_number():
    start = study(models=[{"model": "cnn", "filters": [4, 8]}], audit={"accept": [{"code": "DUP201", "reason": "known"}]})
    new = changed(start, {}, texts=("models.cnn.filters.1=16", "audit.accept.0.reason=known copies"))
    assert new.models[0].filters == (4, 16)
    assert new.audit.accept[0].reason == "known copies"


def test_a_change_of_nothing_changes_nothing():
    assert changed(study(models=["cnn"]), {}) == study(models=["cnn"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("split.validation", "--set: must be KEY=VALUE"),
        ("=3", "--set: must be KEY=VALUE"),
        ("split.=3", "--set: must be KEY=VALUE"),
        ("split.validation=[", "--set: must be KEY=VALUE"),
        ("audit.accept=2025-13-45", "--set: must be KEY=VALUE"),
        ("split.validaton=0.1", "split.validaton: unknown setting. Did you mean 'validation'?"),
        ("spilt.validation=0.1", "spilt: unknown setting. Did you mean 'split'?"),
        ("split.validation.deep=1", "split.validation.deep: no such setting: split.validation holds one value"),
        ("tracking.uri.deep=1", "tracking.uri.deep: no such setting: tracking.uri holds one value"),
        ("models.vit.trees=1", "there is no 'vit' here; there is forest, probe, cnn"),
        ("models.9.trees=1", "there is no '9' here"),
        ("models.cnn.filters.9=1", "there is no '9' here; there is 0, 1, 2, 3"),
        ("models.cnn.filters.0.x=1", "models.cnn.filters.0 holds one value"),
        ("models.cnn.tree=1", "models[2].tree: unknown setting"),
        ("split.validation=0.9", "split.validation: must be less than 0.5. Found: 0.9."),
        ("models.forest=5", "models[0]: must hold settings as `key: value` lines. Found: 5."),
        ("models.forest.name=cnn", "models: must have different names, and 2 are called 'cnn'"),
    ],
)
def test_wrong_changes_are_told(text, expected):
    with pytest.raises(StudyError) as caught:
        changed(study(), {}, texts=(text,))
    assert expected in str(caught.value)


def test_all_wrong_changes_are_told_at_once():
    with pytest.raises(StudyError) as caught:
        changed(study(), {"seed": -1, "output": 3}, texts=("split.test=2", "models.forest.trees=many"))
    assert [problem.key for problem in caught.value.problems] == ["seed", "output", "split.test", "models[0].trees"]


# ---------------------------------------------------------------------------------------------------- what follows


def test_a_model_s_own_wish_goes_before_the_study_s_and_the_family_s():
    made = study(
        preprocess={"size": 96, "colour": "rgb"},
        training={"epochs": 5, "patience": 2},
        models=[{"model": "cnn", "preprocess": {"size": 32}, "training": {"epochs": 1, "imbalance": "none"}}, "forest"],
    )
    cnn, forest = made.models
    family = CnnSettings.preprocess_defaults
    assert made.preprocess_for(cnn) == family.model_copy(update={"size": 32, "colour": "rgb"})
    assert made.preprocess_for(forest) == ForestSettings.preprocess_defaults.model_copy(update={"size": 96, "colour": "rgb"})
    expected = {"epochs": 1, "patience": 2, "imbalance": "none"}
    assert made.training_for(cnn) == CnnSettings.training_defaults.model_copy(update=expected)


def test_false_and_zero_are_wishes():
    made = study(preprocess={"crop_margins": True}, training={"weight_decay": 0.5}, models=[CNN_WITH_ZERO])
    assert made.preprocess_for(made.models[0]).crop_margins is False
    assert made.training_for(made.models[0]).weight_decay == 0


CNN_WITH_ZERO = {"model": "cnn", "preprocess": {"crop_margins": False}, "training": {"weight_decay": 0}}


def test_what_nobody_wishes_stays_open():
    made = study(models=[ProbeSettings()])
    assert made.preprocess_for(made.models[0]).size is None


@pytest.mark.parametrize(
    "text",
    [
        "seed=1",
        "split.validation=0.3",
        "split.use_shipped_test=false",
        "preprocess.size=64",
        "augment.rotation=5",
        "models.forest.trees=299",
        "models.cnn.training.epochs=2",
        "models.probe.backbone=resnet18",
        "training.batch_size=8",
        "evaluation.resamples=500",
        "explanation.gallery=0",
    ],
)
def test_the_fingerprint_changes_with_what_changes_a_result(text):
    assert changed(study(), {}, texts=(text,)).fingerprint != study().fingerprint


@pytest.mark.parametrize(
    "text",
    ["output=/elsewhere", "data.path=/elsewhere", "tracking.enabled=false", "tracking.uri=http://host", "audit.strict=true"],
)
def test_the_fingerprint_does_not_change_with_places_tracking_or_acceptances(text):
    assert changed(study(), {}, texts=(text,)).fingerprint == study().fingerprint


def test_a_star_stands_for_all_models_that_have_a_setting():
    models = [{"model": "forest"}, {"model": "probe", "name": "0"}, {"model": "finetune"}, {"model": "cnn"}]
    texts = ("models.*.pretrained=false", "models.*.training.epochs=2", "models.*.filters=[3]")
    made = {model.name: model for model in changed(study(models=models), {}, texts=texts).models}
    assert [made[name].pretrained for name in ("0", "finetune")] == [False, False]
    assert {model.training.epochs for model in made.values()} == {2} and made["cnn"].filters == (3,)
    fresh = changed(study(), {"models": ["forest", "finetune"]}, texts=texts[:1]).models
    assert fresh[1].pretrained is False
    with pytest.raises(StudyError, match=r"models\.\*\.filtres: no such setting: no model of the study has 'filtres'"):
        changed(study(models=models), {}, texts=("models.*.filtres=[3]",))


def test_the_python_door_takes_settings_as_objects():
    made = Study(
        data={"path": "images"},
        models=(ForestSettings(trees=5), CnnSettings(training=TrainingSettings(epochs=2))),
        preprocess=PreprocessSettings(size=32),
    )
    assert yaml.safe_load(made.to_yaml())["models"][1]["training"]["epochs"] == 2


def test_the_study_of_a_run_has_absolute_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = plain_study(Study.from_mapping({"data": {"path": "images"}, "output": "runs", "explanation": {"masks": "masks"}}))
    assert (plain.data.path, plain.output, plain.explanation.masks) == tuple(
        tmp_path / name for name in ("images", "runs", "masks")
    )
