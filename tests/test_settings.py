"""Settings: every one explained, every one bounded, places and names safe."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from study_data import EVERY_CLASS, study
from vitrail.model_settings import FAMILIES, ModelSettings, NetworkSettings
from vitrail.models import FAMILIES as CATALOGUE
from vitrail.settings import DataSettings
from vitrail.study import Study


@pytest.mark.parametrize("settings", EVERY_CLASS, ids=lambda settings: settings.__name__)
def test_every_field_of_every_settings_class_has_a_sentence(settings):
    assert settings.model_fields
    for name, field in settings.model_fields.items():
        assert field.description, f"{settings.__name__}.{name}"
        assert field.description.endswith(".") and "\n" not in field.description


def test_the_json_schema_carries_every_sentence():
    schema = Study.model_json_schema()
    parts = {"Study": schema, **schema["$defs"]}
    for settings in EVERY_CLASS:
        if settings in (ModelSettings, NetworkSettings):  # only their families appear in a study
            continue
        properties = parts[settings.__name__]["properties"]
        assert list(properties) == list(settings.model_fields)
        for name, field in settings.model_fields.items():
            shown = properties[name]
            section = schema["$defs"].get(shown.get("$ref", "").rpartition("/")[2], {})  # says it where the words are the same
            assert shown.get("description", section.get("description")) == field.description


def test_the_json_schema_refuses_unknown_keys_and_names_the_families():
    schema = Study.model_json_schema()
    assert all(part.get("additionalProperties") is False for part in [schema, *schema["$defs"].values()])
    assert set(schema["properties"]["models"]["items"]["discriminator"]["mapping"]) == set(FAMILIES)


def test_settings_and_catalogue_know_the_same_families():
    assert set(FAMILIES) == set(CATALOGUE)
    assert all(settings.model_fields["model"].default == name for name, settings in FAMILIES.items())


TRAINED = {name: settings for name, settings in FAMILIES.items() if CATALOGUE[name].training != "ensemble"}


@pytest.mark.parametrize("settings", TRAINED.values(), ids=TRAINED)
def test_every_family_decides_what_the_study_may_leave_open(settings):
    preprocess = settings.preprocess_defaults.model_dump()
    assert {name for name, value in preprocess.items() if value is None} <= {"size"}  # a backbone brings its own
    if CATALOGUE[settings.model_fields["model"].default].training != "grown":  # those are fitted in one go
        training = settings.training_defaults.model_dump()
        assert {name for name, value in training.items() if value is None} == {"minutes"}  # null: no limit


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "-rf", "a/b", "a\\b", "a b", "é", "x" * 101, "a\n"])
def test_names_that_would_make_odd_folders_are_refused(name):
    with pytest.raises(ValidationError, match="must be made of letters"):
        study(name=name)
    with pytest.raises(ValidationError, match="must be made of letters"):
        study(models=[{"model": "forest", "name": name}])


@pytest.mark.parametrize("name", ["a", "cnn_2", "7", "brain-mri.v2", "x" * 100])
def test_plain_names_are_taken(name):
    assert study(name=name, models=[{"model": "forest", "name": name}]).models[0].name == name


def test_home_is_understood_in_places(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert study(output="~/runs").output == Path("/home/somebody/runs")
    assert DataSettings(path=Path("~/images")).path == Path("/home/somebody/images")


def test_the_home_of_nobody_is_refused():
    with pytest.raises(ValidationError, match="home of a known user"):
        study(output="~nobody-has-this-name/runs")


def test_a_place_whose_name_is_no_unicode_is_refused():
    with pytest.raises(ValidationError, match="must be valid UTF-8"):
        DataSettings(path=Path("images-\udcff"))


def test_weights_on_disk_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (probe,) = study(models=[{"model": "probe", "backbone": "local-dir:weights/small"}]).models
    assert probe.backbone == f"local-dir:{tmp_path}/weights/small"
    (probe,) = study(models=[{"model": "probe", "backbone": "resnet18"}]).models
    assert probe.backbone == "resnet18"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, "much"])
def test_numbers_are_bounded(value):
    with pytest.raises(ValidationError):
        study(training={"learning_rate": value})


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        study().seed = 3
