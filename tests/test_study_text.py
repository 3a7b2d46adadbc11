"""Settings as text: every problem at once and in words; a commented file that reads back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from study_data import PLAIN_STUDIES, study
from vitrail.errors import Problem, StudyError
from vitrail.model_settings import CnnSettings
from vitrail.settings import Acceptance, AuditSettings, TrainingSettings
from vitrail.study import Study, commented_yaml

FAULTY = """
spilt: {validation: 0.1}
seed: many
data: {path: images, pth: x}
models:
  - model: forest
    trees: 0
  - model: cnn
    filtres: [1]
    training: {epoch: 3, optimiser: adamm}
    kernel: 4
  - {model: forrest}
  - {trees: 3}
audit:
  accept:
    - {cod: LEAK301, reason: x, until: soon}
output: 3
"""


def problems(text: str, folder: Path) -> tuple[Problem, ...]:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        Study.from_yaml(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    return caught.value.problems


# ---------------------------------------------------------------------------------------------------- problems


def test_every_problem_of_a_file_is_told_at_once_and_in_its_order(tmp_path):
    found = problems(FAULTY, tmp_path)
    assert [problem.key for problem in found] == [
        "spilt",
        "seed",
        "data.pth",
        "models[0].trees",
        "models[1].filtres",
        "models[1].training.epoch",
        "models[1].training.optimiser",
        "models[1].kernel",
        "models[2].model",
        "models[3].model",
        "audit.accept[0].cod",
        "audit.accept[0].reason",
        "audit.accept[0].until",
        "audit.accept[0].code",
        "output",
    ]


@pytest.mark.parametrize(
    ("key", "message", "value"),
    [
        ("seed", "must be a valid integer, unable to parse string as an integer.", "'many'"),
        ("models[0].trees", "must be greater than or equal to 1.", "0"),
        ("models[1].training.optimiser", "must be one of 'adam', 'adamw', 'sgd' or 'rmsprop'. Did you mean 'adam'?", "'adamm'"),
        ("models[1].kernel", "must be one of 3, 5 or 7.", "4"),
        (
            "models[2].model",
            "unknown model. Did you mean 'forest'? Known: forest, boosted, svm, cnn, probe, finetune, transformer, ensemble.",
            "'forrest'",
        ),
        ("models[3].model", "missing: every model names its family, for example `model: forest`.", "{'trees': 3}"),
        ("audit.accept[0].reason", "must have at least 3 characters.", "'x'"),
        ("audit.accept[0].until", "must be a day, YYYY-MM-DD.", "'soon'"),
        ("audit.accept[0].code", "missing, and it has no default.", "nothing"),
        ("output", "must be a path.", "3"),
    ],
)
def test_a_problem_names_key_rule_and_value(tmp_path, key, message, value):
    (found,) = [problem for problem in problems(FAULTY, tmp_path) if problem.key == key]
    assert (found.message, found.value) == (message, value)


@pytest.mark.parametrize(
    ("key", "meant", "settings"),
    [
        ("spilt", "split", Study),
        ("data.pth", "path", type(study().data)),
        ("models[1].filtres", "filters", CnnSettings),
        ("models[1].training.epoch", "epochs", TrainingSettings),
        ("audit.accept[0].cod", "code", Acceptance),
    ],
)
def test_an_unknown_key_gets_a_suggestion_and_the_known_keys_of_its_place(tmp_path, key, meant, settings):
    (found,) = [problem for problem in problems(FAULTY, tmp_path) if problem.key == key]
    assert found.message == f"unknown setting. Did you mean {meant!r}? Known here: {', '.join(settings.model_fields)}."
    assert found.value.startswith(key.rsplit(".")[-1] + ": ")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("", "(whole file)", "must hold settings as `key: value` lines. Found: nothing."),
        ("- a\n- b\n", "(whole file)", "must hold settings as `key: value` lines. Found: list."),
        ("just words", "(whole file)", "Found: str."),
        ("data: {path: x}\nsplit: [\n", "line 3", "is not valid YAML."),
        ("data: {path: x}\n\tseed: 1\n", "line 2", "is not valid YAML."),
        ("data: {path: x}\nseed: 1\nseed: 2\n", "line 3", "'seed' is given twice"),
        ("data: {path: x}\naudit: {accept: [{code: A1, reason: known, until: 2025-02-30}]}", "(whole file)", "not valid YAML."),
        ("a: !!python/object:os.system {}", "line 1", "is not valid YAML."),
        ("cnn: {trees: 1}\ndata: {path: x}", "cnn", "unknown setting. Known here: name, seed"),
        ("1: x\ndata: {path: x}", "[1]", "unknown setting. Known here: name, seed"),
        ("seed: 1\n", "data", "missing, and it has no default. Found: nothing."),
        ("data: {}\n", "data.path", "missing"),
        ("data: images\n", "data", "must hold settings as `key: value` lines. Found: 'images'."),
        ("data: {path: [a]}\n", "data.path", "must be a path. Found: ['a']."),
        ("data: {path: x}\nmodels: forest\n", "models", "must be a list, for example [a, b]. Found: 'forest'."),
        ("data: {path: x}\nmodels: []\n", "models", "must have at least 1 item, not 0."),
        ("data: {path: x}\nmodels: [3]\n", "models[0]", "must hold settings as `key: value` lines. Found: 3."),
        (
            "data: {path: x}\nmodels: [vit]\n",
            "models[0].model",
            "unknown model. Known: forest, boosted, svm, cnn, probe, finetune, transformer, ensemble. Found: 'vit'.",
        ),
        ("data: {path: x}\nmodels: [cnn, {model: forest, name: CNN}]\n", "models", "different names, and 2 are called 'cnn'"),
        ("data: {path: x}\nsplit: {validation: 0.7}\n", "split.validation", "must be less than 0.5. Found: 0.7."),
        ("data: {path: x}\ntracking: {enabled: perhaps}\n", "tracking.enabled", "must be a valid boolean"),
    ],
)
def test_one_problem_alone(tmp_path, text, key, words):
    (found,) = problems(text, tmp_path)
    assert found.key == key
    assert words in str(found)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(StudyError, match=r"absent.yaml: 1 problem\n.*cannot be read. Found: No such file"):
        Study.from_yaml(tmp_path / "absent.yaml")


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(StudyError, match="is not text in UTF-8"):
        Study.from_yaml(tmp_path / "study.yaml")


def test_long_values_are_shortened(tmp_path):
    (found,) = problems(f"data: {{path: x}}\nseed: {'x' * 1000}\n", tmp_path)
    assert len(found.value) == 120


def test_brackets_without_end_are_told(tmp_path):
    (found,) = problems("a: " + "[" * 1500, tmp_path)
    assert found.message == "is not valid YAML."


# ---------------------------------------------------------------------------------------------------- a commented file


@given(PLAIN_STUDIES)
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_commented_file_reads_back_to_an_equal_study(plain):
    before = Study.from_mapping(plain)
    assert Study.from_mapping(yaml.safe_load(commented_yaml(before))) == before


def test_every_setting_stands_under_its_sentence():
    lines = commented_yaml(study()).splitlines()
    for name, field in CnnSettings.model_fields.items():
        if name not in ("model", "preprocess", "training"):
            position = next(number for number, line in enumerate(lines) if line == f"    # {field.description}")
            assert any(line.startswith(f"    {name}: ") for line in lines[position:])
    assert "  - model: cnn" in lines


def test_what_a_model_sets_for_itself_is_written():
    made = study(models=[{"model": "cnn", "training": {"epochs": 3}, "preprocess": {"size": 32}}])
    again = yaml.safe_load(commented_yaml(made))
    assert again["models"][0]["training"]["epochs"] == 3
    assert again["models"][0]["preprocess"]["size"] == 32


def test_reasons_of_several_lines_and_odd_letters_survive():
    reason = "first: line\nsecond # line\t\x85 é 😀 ' \" ..."
    made = study(audit=AuditSettings(accept=(Acceptance(code="DUP201", reason=reason),)))
    assert Study.from_mapping(yaml.safe_load(commented_yaml(made))) == made
