"""The recipes: each is a valid study, asks for what its original asked for, and runs to its report from one command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.datasets import PhantomSettings, make_phantom
from vitrail.models import check_model
from vitrail.search import check_space
from vitrail.search.candidates import trials_of
from vitrail.study import Study

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
GRIDS = {"c2-forest-grid": {"forest": 240}, "c5-cnn-grid": {"cnn": 108}, "d-pneumonia-transfer": {"mobilenet-050": 12}}
"""Recipes that can be searched -> model -> number of candidates."""
SMALL = (
    "models.*.pretrained=false",
    "models.*.preprocess.size=32",
    "models.*.training.epochs=2",
    "models.*.trees=5",
    "models.*.rounds=5",
    "models.*.dense=[4]",
    "evaluation.resamples=200",
    "explanation.gallery=1",
    "explanation.grade_images=4",
    "tracking.enabled=false",
)
"""Settings under which a recipe takes seconds; those of settings that no model of a recipe has are left out."""
EXTRA = {
    "b-ultrasound-cnn": ("models.inception.preprocess.size=80",),
    "e-brain-cnn-study": ("models.inception.preprocess.size=80", "models.inception.head_epochs=1"),
}
"""What single recipes need beside these: Inception-v3 takes no smaller images."""


def ask(*words: object) -> object:
    """Ask vitrail for JSON in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words] + ["--json", "--quiet"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def small(path: Path) -> list[str]:
    """The options that make a recipe take seconds."""
    models = Study.from_yaml(path).models

    def fits(wish: str) -> bool:
        key = wish.partition("=")[0]
        return not key.startswith("models.*.") or any(key.split(".")[2] in type(model).model_fields for model in models)

    wishes = [wish for wish in (*SMALL, *EXTRA.get(path.stem, ())) if fits(wish)]
    return [word for wish in wishes for word in ("--set", wish)]


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """A few slices of every class."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder / "phantom", PhantomSettings(patients_per_class=14, slices_per_patient=1, size=64, faults={}))
    return folder / "phantom" / "images"


def test_there_is_a_recipe_for_every_system_and_the_table_names_each():
    assert {path.stem[0] for path in RECIPES} == set("abcde") and len(RECIPES) == 9
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RECIPES if path.name not in readme] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_can_be_built_as_it_stands(path):
    study = Study.from_yaml(path)
    assert study.name == path.stem
    for model in study.models:
        check_model(model, study.preprocess_for(model))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_no_place_but_the_folder_to_be_given_and_says_how_to_give_it(path):
    text = path.read_text(encoding="utf-8")
    settings = "\n".join(line.partition("#")[0] for line in text.splitlines())
    assert re.findall(r"^  path: (.*?) *$", settings, flags=re.MULTILINE) == ["images"]
    assert "local-dir:" not in settings and not re.search(r"[ :]/\w", settings)
    assert re.search(rf"vitrail (run|search) +recipes/{path.name} --set data.path=FOLDER", text)


def test_pretrained_weights_are_wished_by_name_for_every_backbone_that_has_some():
    import timm

    backbones = {
        (model.backbone, model.pretrained)
        for path in RECIPES
        for model in Study.from_yaml(path).models
        if model.model in ("probe", "finetune")
    }
    assert {name for name, pretrained in backbones if not pretrained} == {"mobilenetv2_035"}
    assert all(timm.is_model_pretrained(name) == pretrained for name, pretrained in backbones)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_grid_has_as_many_candidates_as_its_original(path):
    study = Study.from_yaml(path)
    spaces = check_space(study) if study.search.space else {}
    assert {model: trials_of(study.search, space) for model, space in spaces.items()} == GRIDS.get(path.stem, {})
    assert not spaces or study.search.folds == 3


def test_as_many_layers_are_frozen_as_the_originals_froze():
    """Counted in Keras' own order: 100 layers of MobileNetV2 end with the first normalisation of block 11 (`blocks.4.1` in timm),
    200 of Inception-v3 within the module after 6d.
    """
    import timm
    import torch

    from vitrail.models import finetune

    with torch.device("meta"):
        for recipe, model, last in (("d", "mobilenet-050", "blocks.4.1.bn1"), ("e", "inception", "Mixed_6d.branch_pool.bn")):
            (study,) = [Study.from_yaml(path) for path in RECIPES if path.stem.startswith(f"{recipe}-")]
            (settings,) = [one for one in study.models if one.name == model]
            network = timm.create_model(settings.backbone, num_classes=0)
            names = {id(layer): name for name, layer in network.named_modules()}
            assert names[id(finetune.layers(network)[settings.frozen_layers - 1])] == last


def test_without_a_folder_a_recipe_says_what_is_missing():
    result = CliRunner().invoke(app, ["run", str(RECIPES[0])])
    assert result.exit_code == 2 and "there is no such folder" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in RECIPES if "grid" not in path.stem], ids=lambda path: path.stem)
def test_a_recipe_runs_to_its_report_with_random_weights(path, phantom, tmp_path):
    found = ask("run", path, "--set", f"data.path={phantom}", "--output", tmp_path / "runs", *small(path))
    rows = found["leaderboard"]
    assert {row["model"] for row in rows} == {model.name for model in Study.from_yaml(path).models}
    assert [row for row in rows if row.get("failure") or row["test_clean"] is None] == []
    assert Path(found["report"]).is_file()
    assert not (FOLDER.parent / "runs" / path.stem).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fewer"),
    [
        ("c2-forest-grid", {"models.forest.trees": [2], "models.forest.max_depth": [None, 10]}),
        ("c5-cnn-grid", {"models.cnn.training.optimiser": ["adam", "sgd"], "models.cnn.filters": [[2, 4, 8]]}),
        ("d-pneumonia-transfer", {"models.mobilenet-050.training.loss": ["cross_entropy", "focal"]}),
    ],
)
def test_a_grid_is_searched_with_some_of_its_values_and_the_best_study_runs(name, fewer, phantom, tmp_path):
    path = FOLDER / f"{name}.yaml"
    wishes = (*small(path), "--set", f"data.path={phantom}", "--set", f"search.space={json.dumps(fewer)}")
    found = ask("search", path, "--output", tmp_path / "runs", *wishes)
    (searched,) = found["models"]
    assert len(searched["trials"]) == 2 and all(trial["state"] == "complete" for trial in searched["trials"])
    best = Study.from_yaml(found["best_study"])
    assert best.search.space == {} and [model.name for model in best.models] == [one.name for one in Study.from_yaml(path).models]
