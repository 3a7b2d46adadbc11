"""vitrail explain: the overview of all maps of an image, their grades at every door, and where the methods agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask
from PIL import Image

import vitrail
from vitrail.answers import explanation_plan
from vitrail.explanation import EXPLAINERS, ShownExplanation, ShownExplanations
from vitrail.explanation.grading import one_map
from vitrail.records import GradeTable
from vitrail.storage import read_record, record_to_plain


@pytest.fixture(scope="module")
def pair(finished):
    return [finished.images / "round" / "0.png", finished.images / "stripes" / "0.png"]


@pytest.fixture(scope="module")
def everything(finished, pair, tmp_path_factory):
    """Every method's map of two images, through the command line."""
    return answer("explain", finished.package("cnn"), *pair, "--method", "all", "--output", tmp_path_factory.mktemp("all"))


def made(entries, image):
    return [entry for entry in entries if entry["image"] == str(image) and "refused" not in entry]


def test_every_image_has_one_overview_of_all_its_maps(everything, pair):
    overviews = [{entry["overview"] for entry in made(everything, image)} for image in pair]
    assert [len(one) for one in overviews] == [1, 1] and overviews[0] != overviews[1]
    for (path,) in overviews:
        with Image.open(path) as sheet:
            assert sheet.width > 1000 and sheet.height > 600
    assert all(entry["overview"] is None and entry["agreement"] is None for entry in everything if "refused" in entry)


def test_every_map_carries_the_grade_of_its_own_method(everything, finished):
    table = read_record(finished.package("cnn").parent / "grades.json", GradeTable)
    graded = 0
    for entry in everything:
        if "refused" in entry:
            continue
        assert len(entry["grade"]["random_gains"]) == 20
        of_method = table.grade_of(entry["method"])
        expected = None if of_method is None else record_to_plain(of_method.relevance_gain)
        assert entry["grade"]["method_gain"] == expected
        graded += expected is not None
    assert graded > 4
    assert len({entry["grade"]["share_beaten"] for entry in everything if "refused" not in entry}) > 1


def test_a_map_has_the_same_grade_alone_as_among_others(everything, finished, pair, tmp_path):
    (alone,) = answer("explain", finished.package("cnn"), pair[0], "--method", "occlusion", "--output", tmp_path)
    (among,) = [entry for entry in made(everything, pair[0]) if entry["method"] == "occlusion"]
    assert alone["grade"]["relevance_gain"] == pytest.approx(among["grade"]["relevance_gain"], abs=1e-6)
    assert alone["grade"]["random_gains"] == pytest.approx(among["grade"]["random_gains"], abs=1e-6)
    assert alone["grade"]["reason"] == among["grade"]["reason"]
    assert Path(alone["overview"]).is_file() and alone["agreement"] is None


def test_the_rows_of_agreement_make_a_matrix_of_rank_correlations(everything, pair):
    entries = made(everything, pair[0])
    compared = [entry for entry in entries if not entry["agreement"]["left_out"]]
    names = [entry["method"] for entry in compared]
    grey = {entry["method"] for entry in entries if entry["grade"]["reason"]}
    assert set(names).isdisjoint({"activations"} | grey)
    assert {entry["agreement"]["methods"] for entry in entries} == {len(names)}
    matrix = np.array([[entry["agreement"]["rank_correlation"][name] for name in names] for entry in compared], dtype=float)
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1.0)
    assert len(names) >= 2
    shares = np.load(entries[0]["agreement"]["map"])
    assert shares.shape == np.load(entries[0]["map"]).shape and shares.min() >= 0 and shares.max() <= 1
    assert "Agreement is not correctness" in entries[0]["agreement"]["words"]


def test_people_read_the_grades_in_a_table_and_where_everything_is(finished, pair, tmp_path):
    found = ask("explain", finished.package("cnn"), *pair, "--method", "all", "--output", tmp_path)
    assert found.exit_code == 0
    assert "grades of the maps" in found.stderr
    text = " ".join(found.stdout.split())
    for piece in (
        "guided-backpropagation",
        "Gain: SRG, 95 % interval, on",
        "of 20",
        "Agreement of",
        "-overview.png",
        "no sign: for and against look alike",
    ):
        assert piece in text
    assert text.count("all side by side:") == 2


def test_python_sees_the_same_grades_as_the_command_line(finished, pair, everything, tmp_path):
    package = vitrail.load_package(finished.package("cnn"))
    table = read_record(finished.package("cnn").parent / "grades.json", GradeTable)
    chosen = vitrail.explain(package, pair[0])
    (told,) = answer("explain", finished.package("cnn"), pair[0], "--output", tmp_path)
    assert isinstance(chosen, ShownExplanation)
    assert chosen.method == table.chosen == told["method"] and chosen.parameters["chosen"] == told["parameters"]["chosen"]
    assert record_to_plain(chosen.grade) == told["grade"]
    np.testing.assert_array_equal(np.asarray(chosen.plot()), np.asarray(Image.open(told["picture"])))
    found = vitrail.explain(package, pair[0], method="all")
    assert isinstance(found, ShownExplanations)
    entries = made(everything, pair[0])
    assert list(found) == [entry["method"] for entry in entries]
    assert set(found.refused) == {entry["method"] for entry in everything if "refused" in entry}
    for entry in entries:
        assert record_to_plain(found[entry["method"]].grade) == entry["grade"]
    np.testing.assert_array_equal(np.asarray(found.plot()), np.asarray(Image.open(entries[0]["overview"])))


def test_without_grading_no_pass_is_spent_on_it_and_the_grade_of_the_method_stays(finished, pair, tmp_path, monkeypatch):
    def followed(*given, **wishes):
        raise AssertionError("a map was graded")

    monkeypatch.setattr(one_map, "removal_curves", followed)
    package, table = finished.package("cnn"), read_record(finished.package("cnn").parent / "grades.json", GradeTable)
    entries = made(answer("explain", package, pair[0], "--method", "all", "--no-grade", "--output", tmp_path), pair[0])
    for entry in entries:
        of_method, grade = table.grade_of(entry["method"]), entry["grade"]
        if of_method is None:
            assert grade is None
            continue
        assert grade["random_gains"] == [] and grade["relevance_gain"] is grade["share_beaten"] is grade["passed"] is None
        assert grade["method_gain"] == record_to_plain(of_method.relevance_gain)
        assert bool(grade["reason"]) == (of_method.beats_baselines == "no")
    assert any(entry["grade"] for entry in entries)
    chosen = vitrail.explain(vitrail.load_package(package), pair[0], grade=False)
    assert chosen.method == table.chosen and chosen.grade.share_beaten is None and chosen.overview().width > 400
    told = ask("explain", package, pair[0], "--method", "all", "--no-grade", "--output", tmp_path)
    assert told.exit_code == 0 and "not graded" in told.stdout and "grades of the maps" not in told.stderr


def test_what_grading_costs_is_told_before_for_a_single_method_too(finished, pair, tmp_path):
    words = ("explain", finished.package("cnn"), *pair, "--method", "grad-cam", "--output", tmp_path)
    told = " ".join(ask(*words).stderr.split())
    plan = explanation_plan(vitrail.load_package(finished.package("cnn")), "grad-cam")
    assert f"grad-cam: 1 pass for a map and up to {plan.grading_passes} to grade it (--no-grade" in told
    assert plan.grading_passes > 60 and "for 2 images" in told
    assert "to grade it" not in ask(*words, "--no-grade").stderr
    assert "to grade it" not in ask(*words, "--quiet").stderr


def test_a_plan_holds_methods_and_nothing_else(finished):
    package = vitrail.load_package(finished.package("cnn"))
    plan = explanation_plan(package, "all")
    assert {one.method for one in plan.methods} == set(EXPLAINERS)
    assert plan.passes[0] == explanation_plan(package, "all", grade=False).passes[0] + plan.grading_passes
    (chosen,) = explanation_plan(package).methods
    assert chosen.method == read_record(finished.package("cnn").parent / "grades.json", GradeTable).chosen


def test_a_package_without_grades_has_maps_without_any(finished, pair, tmp_path):
    alone = tmp_path / "alone" / "package"
    shutil.copytree(finished.package("forest"), alone)
    found = vitrail.explain(vitrail.load_package(alone), pair[0], method="all")
    assert len(found) >= 2 and all(one.grade is None for one in found.values())
    assert not vitrail.load_package(alone).folder.parent.joinpath("grades.json").exists()
    told = ask("explain", alone, pair[0], "--method", "all", "--output", tmp_path / "maps", "--json")
    assert all(entry["grade"] is None for entry in json.loads(told.stdout) if "refused" not in entry)


def test_an_image_that_cannot_be_read_has_no_overview(finished, pair, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("this is no image")
    found = ask(
        "explain", finished.package("cnn"), broken, pair[0], "--method", "occlusion", "--output", tmp_path / "o", "--json"
    )
    first, second = json.loads(found.stdout)
    assert found.exit_code == 1 and first["overview"] is None and Path(second["overview"]).is_file()
