"""``vitrail promote``: a model package in MLflow's registry, loaded back by its alias."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_data import answer, ask, make_images, write_study

from vitrail.models import load_package

mlflow = pytest.importorskip("mlflow")

MODELS = [
    {"model": "forest", "trees": 20},
    {"model": "forest", "name": "stump", "trees": 1, "max_depth": 1, "features": ["pixels"]},
    {"model": "forest", "name": "other", "trees": 19},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run in a folder as people name it: a good model, a poor one, and another good one."""
    folder = tmp_path_factory.mktemp("promote") / "résultats 100 %"
    images = make_images(folder / "shapes", per_class=24)
    study = write_study(folder / "study.yaml", images, output="runs", models=MODELS, split={"validation": 0.4})
    return Path(answer("evaluate", study)["run"])


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """MLflow's tables take seconds to create: once for all tests."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def registry(tmp_path, empty, monkeypatch) -> str:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


def version_of(registry: str, alias: str):
    return mlflow.MlflowClient(tracking_uri=registry).get_model_version_by_alias("shapes", alias)


def test_mlflow_loads_the_champion_by_its_alias_and_gives_the_package_s_answers(run, registry, monkeypatch):
    import pandas as pd

    told = answer("promote", run, "--uri", registry)
    assert (told["registered_model"], told["version"], told["alias"], told["replaced"]) == ("shapes", "1", "champion", None)
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", registry)
    model = mlflow.pyfunc.load_model(told["address"])
    model_name = told["tags"]["vitrail.model"]
    package = load_package(run / "models" / model_name / "package")
    images = sorted((run.parent.parent / "shapes").glob("*/*.png"))[::5]
    answers = model.predict(pd.DataFrame({"image": [path.read_bytes() for path in images]}))
    wanted = package.predict(images)
    assert [one["probabilities"] for one in answers] == [one.probabilities for one in wanted]
    assert [one["predicted"] for one in answers] == [one.predicted for one in wanted]
    assert not [
        path for path in Path(registry.removeprefix("sqlite:///")).parent.rglob("*") if path.suffix in (".pkl", ".pickle")
    ]


def test_the_version_says_where_it_comes_from(run, registry):
    told = answer("promote", run, "--model", "forest", "--uri", registry)
    tags = version_of(registry, "champion").tags
    assert tags == told["tags"]
    row = next(row for row in answer("report", run)["leaderboard"] if row["model"] == "forest")
    score = row["validation"]["balanced_accuracy"]
    assert float(tags["vitrail.validation.balanced_accuracy"]) == pytest.approx(score["value"], abs=1e-6)
    assert float(tags["vitrail.validation.balanced_accuracy.low"]) == pytest.approx(score["low"], abs=1e-6)
    description = load_package(run / "models/forest/package").description
    assert tags["vitrail.data"] == description.data_fingerprint and tags["vitrail.study"] == description.study_fingerprint
    assert tags["vitrail.run"] == run.name and len(tags["vitrail.package"]) == 64


def test_a_clearly_worse_model_replaces_nobody_without_a_reason(run, registry):
    answer("promote", run, "--model", "forest", "--uri", registry)
    refused = ask("promote", run, "--model", "stump", "--uri", registry)
    assert refused.exit_code == 2
    assert "stump: must not be clearly worse" in refused.stderr and "--force" in refused.stderr
    assert version_of(registry, "champion").tags["vitrail.model"] == "forest"
    assert len(mlflow.MlflowClient(tracking_uri=registry).search_model_versions("name = 'shapes'")) == 1
    aside = answer("promote", run, "--model", "stump", "--as", "challenger", "--uri", registry)
    assert aside["alias"] == "challenger" and aside["replaced"] is None
    forced = answer("promote", run, "--model", "stump", "--force", "it is the one we can explain", "--uri", registry)
    assert forced["replaced"]["tags"]["vitrail.model"] == "forest" and forced["new_version"] is False
    assert forced["forced"] == version_of(registry, "champion").tags["vitrail.forced"] == "it is the one we can explain"


def test_as_good_a_model_replaces_it_and_the_same_package_is_not_registered_twice(run, registry):
    first = answer("promote", run, "--model", "other", "--uri", registry)
    second = answer("promote", run, "--model", "forest", "--uri", registry)
    assert (first["version"], second["version"], second["replaced"]["version"]) == ("1", "2", "1")
    assert "minus the champion's" in second["contest"] and second["forced"] is None
    again = answer("promote", run, "--model", "forest", "--uri", registry)
    assert (again["version"], again["new_version"], again["replaced"]) == ("2", False, None)
    shown = ask("promote", run, "--model", "other", "--uri", registry)
    assert "shapes version 1, registered before: other is the champion now." in shown.stdout
    assert "It replaces version 2: forest" in shown.stdout and "mlflow models serve -m models:/shapes@champion" in shown.stdout


def test_without_the_champions_run_scores_are_compared_and_other_data_is_not(run, registry, tmp_path):
    answer("promote", run, "--model", "forest", "--uri", registry)
    version = version_of(registry, "champion")
    client = mlflow.MlflowClient(tracking_uri=registry)
    client.set_model_version_tag("shapes", version.version, "vitrail.run", "../elsewhere")
    refused = ask("promote", run, "--model", "stump", "--uri", registry)
    assert refused.exit_code == 2 and "validation, balanced accuracy: 0." in refused.stderr
    assert answer("promote", run, "--model", "other", "--uri", registry)["contest"].startswith("validation, balanced accuracy: ")
    client.set_registered_model_alias("shapes", "champion", version.version)
    client.set_model_version_tag("shapes", version.version, "vitrail.data", "0" * 16)
    other_data = ask("promote", run, "--model", "other", "--uri", registry)
    assert other_data.exit_code == 2 and "other data" in other_data.stderr


def test_wrong_requests_touch_nothing(run, registry, tmp_path):
    for words, told in (
        ((run, "--model", "nobody"), "must be a model of the run (forest, stump, other). Found: nobody"),
        ((run, "--as", "king"), "--as: must be champion or challenger. Found: king"),
        ((tmp_path / "nowhere",), "not the folder of a run"),
    ):
        refused = ask("promote", *words, "--uri", registry)
        assert refused.exit_code == 2 and told in refused.stderr
    damaged = shutil.copytree(run, tmp_path / "damaged")
    (damaged / "models/forest/package/package.json").write_text("{}")
    refused = ask("promote", damaged, "--model", "forest", "--uri", registry)
    assert refused.exit_code == 2 and "SHA-256" in refused.stderr
    assert not mlflow.MlflowClient(tracking_uri=registry).search_registered_models()


def test_a_registry_that_is_down_is_told_soon(run):
    refused = ask("promote", run, "--uri", "http://127.0.0.1:9")
    assert refused.exit_code == 1 and "registry was not read" in refused.stderr and "--uri" in refused.stderr
