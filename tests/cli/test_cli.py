"""The command line when all is well: every command, its JSON, its files."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli_data import CLASSES, SMALL, answer, ask, contents, make_images, numbers, options, process, write_study
from PIL import Image

from vitrail.cli import app
from vitrail.study import Study

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


# ---------------------------------------------------------------------------------------------------- run


def test_run_json_is_the_contract(finished):
    run = finished.json
    assert set(run) >= {"run", "report", "package", "champion", "audit", "leaderboard"}
    assert [row["model"] for row in run["leaderboard"]] == ["forest", "cnn"]
    assert set(run["energy"]["training"]) == {"forest", "cnn"}
    assert set(run["computed"]) == {"cnn"} and set(run["computed"]["cnn"]) == {"device", "precision", "processes"}
    for used in (run["energy"]["run"], *run["energy"]["training"].values()):
        assert used["kwh"] is None or used["kwh"] > 0  # never zero for want of a meter
        assert bool(used["method"]) == (used["kwh"] is not None)
        assert used["kwh"] is not None or "install vitrail[energy]" in used["note"]
    for row in run["leaderboard"]:
        for part in ("test", "test_clean"):
            for metric in ("accuracy", "balanced_accuracy", "auc_weighted"):
                estimate = row[part][metric]
                assert estimate["n"] == 9
                assert 0 <= estimate["value"] <= 1
                if estimate["low"] is None or estimate["high"] is None:
                    assert "not estimable" in estimate["note"]
                else:
                    assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"] <= 1
        assert Path(row["package"]).is_dir()
    assert run["champion"] in ("forest", "cnn")
    assert Path(run["package"]) == finished.package(run["champion"])


def test_run_leaves_a_whole_folder(finished):
    report = Path(finished.json["report"])
    assert report.parent == finished.folder
    assert finished.folder.parent == finished.output
    assert "shapes" in report.read_text(encoding="utf-8")
    assert not list(finished.output.rglob("*.partial"))
    assert Study.from_yaml(finished.folder / "study.yaml").data.path == finished.images


def test_a_clear_signal_is_learnt(finished):
    forest = finished.json["leaderboard"][0]
    assert forest["test"]["accuracy"]["value"] >= 7 / 9


def test_progress_and_nothing_else_goes_to_standard_error(finished):
    lines = finished.stderr.splitlines()
    assert lines[0].startswith("Reading images: 42 of 42 in ")
    assert any(line.startswith("cnn: training: 2 of 2 in ") for line in lines)
    assert all(re.search(r": (\d+) of \1 in \d+ s", line) for line in lines)  # no library said anything


def test_images_are_never_changed(finished):
    assert contents(finished.images) == finished.before


def test_tables_for_people(finished):
    result = ask("evaluate", finished.study, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    for words in (
        "42 images (flat 14, round 14, stripes 14)",
        "Leaderboard",
        "forest",
        "cnn",
        "Not a medical device",
        "report.html",
    ):
        assert words in result.stdout


def test_the_same_command_again_trains_nothing_and_says_the_same(finished):
    before = contents(finished.folder / "models")
    assert answer("run", finished.study) == finished.json
    assert contents(finished.folder / "models") == before


def test_the_folder_of_a_run_stands_for_its_study(finished):
    assert answer("evaluate", finished.folder) == finished.json


def test_same_seed_same_numbers_in_another_folder(finished, tmp_path):
    again = answer("run", finished.study, "--output", tmp_path / "other")
    assert Path(again["run"]).parent == tmp_path / "other"
    assert numbers(again) == numbers(finished.json)
    assert again["audit"] == finished.json["audit"]


def test_another_seed_is_another_run(finished, tmp_path):
    other = answer("train", finished.study, "--seed", 1, "--models", "forest", "--output", tmp_path)
    assert Path(other["run"]).name != finished.folder.name


def test_fresh_begins_again_with_the_same_numbers(finished, tmp_path):
    words = ("evaluate", finished.study, "--models", "forest", "--output", tmp_path)
    first = answer(*words)
    mark = Path(first["run"]) / "mark"
    mark.touch()
    assert numbers(answer(*words)) == numbers(first)
    assert mark.exists()
    assert numbers(answer(*words, "--fresh")) == numbers(first)
    assert not mark.exists()


def test_train_leaves_the_test_images_closed(finished, tmp_path):
    run = answer("train", finished.study, "--models", "forest", "--output", tmp_path)
    assert run["report"] is None
    assert run["champion"] is None
    (row,) = run["leaderboard"]
    assert (row["test"], row["test_clean"], row["validation"]) == (None, None, None)
    assert Path(row["package"]).is_dir()
    files = contents(Path(run["run"]))
    assert "models/forest/training.json" in files
    assert not [name for name in files if "predictions" in name or "evaluation" in name or "openings" in name]
    evaluated = answer("evaluate", run["run"])
    assert evaluated["run"] == run["run"]
    assert evaluated["leaderboard"][0]["test_openings"] == 1
    assert evaluated["report"] is None


def test_chosen_models_keep_the_settings_of_the_study(finished, tmp_path):
    run = answer("train", finished.study, "--models", "forest", "--output", tmp_path)
    (model,) = yaml.safe_load((Path(run["run"]) / "study.yaml").read_text())["models"]
    assert (model["name"], model["trees"]) == ("forest", 10)


def test_a_folder_with_options_will_do(images, tmp_path):
    words = ("train", images, "--models", "cnn,forest", "--output", tmp_path, *options(*SMALL))
    run = answer(*words)
    assert [row["model"] for row in run["leaderboard"]] == ["cnn", "forest"]
    settings = yaml.safe_load((Path(run["run"]) / "study.yaml").read_text())["models"]
    assert (settings[0]["filters"], settings[0]["training"]["epochs"], settings[1]["trees"]) == ([4, 8], 2, 10)


def test_a_model_that_cannot_be_had_is_left_out_and_a_run_without_any_fails(images, tmp_path, backbone_of_garbage):
    words = ("evaluate", images, "--models", "forest,probe", "--backbone", backbone_of_garbage, "--output", tmp_path)
    run = answer(*words, *options(*SMALL[:3]))
    forest, probe = run["leaderboard"]
    assert forest["test"] is not None and probe["test"] is None
    assert "could not be loaded" in probe["failure"]
    assert run["champion"] == "forest"
    alone = ask("train", images, "--models", "probe", "--backbone", backbone_of_garbage, "--output", tmp_path)
    assert alone.exit_code == 1
    assert "left out" in alone.stderr


@pytest.fixture
def backbone_of_garbage(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    config = {
        "architecture": "mobilenetv2_100",
        "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"garbage")
    return f"local-dir:{folder}"


@pytest.mark.slow
def test_mlflow_is_told(finished, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ("run", finished.study, "--models", "forest", "--output", tmp_path, "--set", "tracking.enabled=true")
    result = ask(*words, "--json")
    assert "MLflow: experiment shapes" in result.stderr
    assert json.loads(result.stdout)["champion"] == "forest"
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = database.execute("SELECT name, status FROM runs ORDER BY name").fetchall()
    baselines = [(name, "FINISHED") for name in ("majority-class", "nearest-thumbnail", "nuisance-only")]
    assert names == [("forest", "FINISHED"), *baselines, (Path(json.loads(result.stdout)["run"]).name, "FINISHED")]


# ---------------------------------------------------------------------------------------------------- audit


def test_audit_json_is_the_contract(spoilt, tmp_path):
    folder, broken = spoilt
    found = answer("audit", folder, "--output", tmp_path)
    assert found["images"] == 3 * 14 + 7
    by_code = {finding["code"]: finding for finding in found["findings"]}
    for code, paths in broken.items():
        finding = by_code[code]
        assert set(finding) >= {"code", "severity", "count", "message", "fix"}
        assert finding["count"] == len(paths)
        assert sorted(path for piece in finding["evidence"] for path in piece["paths"]) == paths


def test_audit_for_people(spoilt, tmp_path):
    result = ask("audit", spoilt[0], "--output", tmp_path, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "IO101" in result.stdout and "IO103" in result.stdout


def test_a_folder_with_broken_files_trains_to_the_end(spoilt, tmp_path):
    folder, broken = spoilt
    before = contents(folder)
    run = answer("evaluate", folder, "--models", "forest,cnn", "--output", tmp_path, *options(*SMALL))
    assert all(row["test"] for row in run["leaderboard"])
    listed = {path for finding in run["audit"]["findings"] for piece in finding["evidence"] for path in piece["paths"]}
    assert listed >= {path for paths in broken.values() for path in paths}
    assert contents(folder) == before


# ---------------------------------------------------------------------------------------------------- predict, explain


def test_predict_json_is_the_contract(finished):
    images = [finished.images / "round" / "3.png", finished.images / "flat" / "0.png"]
    answers = answer("predict", finished.package("forest"), *images)
    assert [item["image"] for item in answers] == [str(image) for image in images]
    for item in answers:
        assert tuple(item["probabilities"]) == CLASSES
        assert sum(item["probabilities"].values()) == pytest.approx(1)
        assert item["predicted"] == max(item["probabilities"], key=item["probabilities"].get)
    assert [item["predicted"] for item in answers] == ["round", "flat"]


def test_predict_needs_nothing_but_the_package(finished, tmp_path):
    shutil.copytree(finished.package("cnn"), tmp_path / "package")
    image = finished.images / "flat" / "0.png"
    assert answer("predict", tmp_path / "package", image) == answer("predict", finished.package("cnn"), image)


def test_predict_goes_on_after_a_broken_image(finished, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = ("predict", finished.package("forest"), tmp_path / "broken.png", finished.images / "flat" / "0.png")
    result = ask(*words, "--json")
    assert result.exit_code == 1
    broken, whole = json.loads(result.stdout)
    assert broken["predicted"] is None and "broken.png" in broken["error"]
    assert whole["predicted"] == "flat"
    assert "not read" in ask(*words).stdout


@pytest.mark.parametrize("model", ["forest", "cnn"])
def test_explain_json_is_the_contract(finished, tmp_path, model):
    method = json.loads((finished.package(model).parent / "grades.json").read_text())["chosen"]
    image = tmp_path / "tall.png"
    with Image.open(finished.images / "round" / "0.png") as original:
        original.resize((50, 70)).save(image)
    (item,) = answer("explain", finished.package(model), image, "--output", tmp_path / "maps", "--quiet")
    assert set(item) >= {"image", "method", "target", "map", "warnings"}
    assert (item["image"], item["method"]) == (str(image), method)
    assert item["target"] in CLASSES
    relevance = np.load(item["map"])
    assert relevance.shape == (70, 50) and relevance.dtype == np.float32
    with Image.open(item["picture"]) as drawn:
        assert drawn.size == (50, 70)
    assert all(isinstance(warning, str) for warning in item["warnings"])


def test_explain_answers_for_the_method_and_class_asked_for(finished, tmp_path):
    words = (finished.images / "round" / "0.png", "--method", "occlusion", "--target", "stripes", "--output", tmp_path)
    (item,) = answer("explain", finished.package("cnn"), *words)
    assert (item["method"], item["target"]) == ("occlusion", "stripes")


def test_images_of_one_name_in_two_folders_get_a_map_each(finished, tmp_path):
    images = [finished.images / "round" / "0.png", finished.images / "flat" / "0.png"]
    items = answer("explain", finished.package("cnn"), *images, "--output", tmp_path)
    assert len({item["map"] for item in items}) == 2


def test_an_image_with_a_long_name_gets_a_map(finished, tmp_path):
    image = tmp_path / ("x" * 250 + ".png")
    shutil.copy(finished.images / "round" / "0.png", image)
    (item,) = answer("explain", finished.package("cnn"), image, "--output", tmp_path / "maps")
    assert Path(item["map"]).is_file()


def test_explain_goes_on_after_a_broken_image(finished, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = (
        "explain",
        finished.package("cnn"),
        tmp_path / "broken.png",
        finished.images / "flat" / "0.png",
        "-o",
        tmp_path / "maps",
    )
    result = ask(*words, "--json")
    assert result.exit_code == 1
    broken, whole = json.loads(result.stdout)
    assert Path(whole["map"]).is_file()
    assert broken["map"] is None and "broken.png" in broken["error"]
    assert "broken.png" in ask(*words, "--quiet").stderr


# ---------------------------------------------------------------------------------------------------- report, init, schema


def test_report_is_written_again_the_same_with_absolute_places(finished, monkeypatch):
    monkeypatch.chdir(finished.output)
    page = Path(finished.json["report"])
    before = page.read_bytes()
    page.unlink()
    assert answer("report", finished.folder.name) == finished.json
    assert page.read_bytes() == before


def test_init_writes_a_study_that_is_the_default_for_the_folder(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ask("init", images)
    assert result.exit_code == 0
    assert "Next: edit it, then `vitrail run study.yaml`" in result.stdout
    study = Study.from_yaml("study.yaml")
    assert study == Study.model_validate({"data": {"path": images}, "output": tmp_path / "runs"})
    assert "# Number of trees." in Path("study.yaml").read_text()


def test_init_replaces_a_file_only_when_told(images, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("precious")
    refused = ask("init", images, "--file", file)
    assert (refused.exit_code, file.read_text()) == (2, "precious")
    assert "exists already" in refused.stderr and "--force" in refused.stderr
    assert ask("init", images, "--file", file, "--force").exit_code == 0
    assert Study.from_yaml(file).data.path == images


def test_schema_prints_the_schema():
    assert json.loads(ask("schema").stdout) == Study.model_json_schema()


@pytest.mark.slow
def test_demo_finds_the_faults_that_it_plants(tmp_path):
    run = answer("demo", "--output", tmp_path)
    assert Path(run["report"]).is_file()
    assert {row["model"] for row in run["leaderboard"]} == {"forest", "cnn"}
    assert {"LEAK301", "DUP201", "LBL401"} <= {finding["code"] for finding in run["audit"]["findings"]}


# ---------------------------------------------------------------------------------------------------- help and names


def test_version():
    assert ask("--version").stdout == f"vitrail {version('vitrail')}\n"


def test_every_command_has_an_example_of_itself():
    for name in COMMANDS:
        result = ask(name, "--help")
        assert result.exit_code == 0
        assert f"vitrail {name}" in re.sub(r"\s+", " ", result.stdout.partition("Example")[2])


def test_names_that_the_terminal_cannot_show_end_nothing(finished, tmp_path):
    folder = make_images(tmp_path / "données [gras] :x:", per_class=3)
    (folder / "flat").rename(folder / "plié")
    done = process("audit", folder, "-o", tmp_path / "o", env={"PATH": "", "PYTHONIOENCODING": "ascii", "COLUMNS": "200"})
    assert done.returncode == 0
    assert r"donn\xe9es [gras] :x:" in done.stdout and r"pli\xe9" in done.stdout
    study = write_study(tmp_path / "study.yaml", folder, audit={"accept": []})
    assert ask("audit", study, "-o", tmp_path / "o").exit_code == 0
