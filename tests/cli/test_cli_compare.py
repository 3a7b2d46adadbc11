"""``vitrail compare``: champion and challengers, from the door a user takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_data import answer, ask, make_images, write_study

from vitrail.evaluation import load_predictions
from vitrail.evaluation.comparison import PARTS

FORESTS = [{"model": "forest", "trees": 10}, {"model": "forest", "name": "stump", "trees": 2, "max_depth": 1}]


def test_one_run_champion_by_validation(finished, tmp_path):
    told = answer("compare", finished.folder, "--output", tmp_path / "page")
    assert told["champion"] == finished.json["champion"] and told["candidates"][0]["name"] == told["champion"]
    (challenger,) = told["challengers"]
    assert {challenger, told["champion"]} == {"forest", "cnn"}
    folder = finished.folder / "models"
    for part in PARTS:
        row = told["challengers"][challenger][part]
        first, second = (
            load_predictions(folder / name / f"predictions-{part.removesuffix('_clean')}.csv")
            for name in (told["champion"], challenger)
        )
        gained = (second.predicted == second.truth).mean() - (first.predicted == first.truth).mean()
        assert row["differences"]["accuracy"]["value"] == pytest.approx(gained)
    page = Path(told["page"]).read_text(encoding="utf-8")
    assert "<svg" in page and "://" not in page.replace("http://www.w3.org", "") and page.count("Confusion matrix,") == 2
    kept = json.loads(Path(told["summary"]).read_text())
    assert kept == {key: value for key, value in told.items() if key not in ("page", "summary")}


def test_a_study_file_stands_for_its_run(finished, tmp_path):
    by_study = answer("compare", finished.study, "--output", tmp_path / "a")
    by_run = answer("compare", finished.folder, "--output", tmp_path / "b")
    assert by_study["candidates"] == by_run["candidates"]
    assert (tmp_path / "a/comparison.html").read_bytes() == (tmp_path / "b/comparison.html").read_bytes()


def test_people_see_tables_and_what_to_do_next(finished, tmp_path):
    shown = ask("compare", finished.folder, "--output", tmp_path)
    assert shown.exit_code == 0 and "Challenger minus champion" in shown.stdout
    assert f"vitrail promote {finished.folder} --model {finished.json['champion']}" in shown.stdout


@pytest.mark.parametrize("swapped", [1, 99])
def test_another_split_is_compared_on_common_images_and_says_so_or_is_refused(finished, images, tmp_path, swapped):
    """The second run swaps some validation images of a class for training images: those are left out of the comparison."""
    lines = (finished.folder / "split.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    of_class = [row for row in rows if row[2] == "round"]
    pairs = zip([row for row in of_class if row[4] == "validation"], [row for row in of_class if row[4] == "train"], strict=False)
    for validation, training in list(pairs)[:swapped]:
        validation[4], training[4] = "train", "validation"
    table = tmp_path / "split.csv"
    table.write_text("path,part\n" + "".join(f"{row[0]},{row[4]}\n" for row in rows))
    study = write_study(tmp_path / "study.yaml", images, output="runs", models=FORESTS, split={"file": str(table)})
    run = Path(answer("evaluate", study)["run"])
    if swapped > 1:
        refused = ask("compare", finished.folder, run)
        assert refused.exit_code == 2 and "validation images, none of class round" in refused.stderr
        assert "split.file" in refused.stderr
        return
    told = answer("compare", finished.folder, run, "--output", tmp_path / "page")
    before = len(load_predictions(finished.folder / "models/forest/predictions-validation.csv").paths)
    assert told["images"].startswith("different splits") and f"only the {before - 1} images" in told["images"]
    assert {one["validation"]["accuracy"]["n"] for one in told["candidates"]} == {before - 1}
    assert {one["name"] for one in told["candidates"]} == {
        *(f"{finished.folder.name}/{model}" for model in ("forest", "cnn")),
        *(f"{run.name}/{model}" for model in ("forest", "stump")),
    }


def test_other_images_are_refused(finished, tmp_path):
    study = write_study(tmp_path / "study.yaml", make_images(tmp_path / "data", seed=5), output="runs", models=FORESTS)
    run = answer("evaluate", study)["run"]
    refused = ask("compare", finished.folder, run)
    assert refused.exit_code == 2 and "the same images, byte for byte" in refused.stderr


def test_too_little_to_compare(finished, images, tmp_path):
    study = write_study(tmp_path / "study.yaml", images, output="runs", models=["forest"])
    none = ask("compare", study)
    assert none.exit_code == 2 and "Run it first" in none.stderr
    trained = answer("train", study)["run"]
    unevaluated = ask("compare", finished.folder, trained)
    assert unevaluated.exit_code == 2 and "vitrail evaluate" in unevaluated.stderr
    run = answer("evaluate", study)["run"]
    alone = ask("compare", run)
    assert alone.exit_code == 2 and "at least two evaluated models, found 1" in alone.stderr
    copied = shutil.copytree(run, tmp_path / "copied")
    assert ask("compare", run, copied, "--output", tmp_path / "page").exit_code == 0
    nothing = ask("compare", tmp_path / "nowhere")
    assert nothing.exit_code == 2 and "not the folder of a run" in nothing.stderr


def test_runs_whose_folders_share_a_name_keep_their_models_apart(finished, tmp_path):
    """The same study under another output folder; and a run that is given twice is one run."""
    copy = shutil.copytree(finished.folder, tmp_path / "elsewhere" / finished.folder.name)
    around = finished.folder / ".." / finished.folder.name
    told = answer("compare", finished.folder, around, copy, "--output", tmp_path / "page")
    names = [one["name"] for one in told["candidates"]]
    own, other = (f"{folder.parent.name}/{folder.name}" for folder in (finished.folder, copy))
    assert sorted(names) == sorted(f"{place}/{model}" for place in (own, other) for model in ("cnn", "forest"))
    assert set(told["challengers"]) == set(names) - {told["champion"]} and len(told["challengers"]) == 3
