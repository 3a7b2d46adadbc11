"""The threshold of a two-class study, through the command line: chosen on validation images, used by everything that decides."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask, options
from PIL import Image

from vitrail import load_package

SETTINGS = (
    "evaluation.resamples=200",
    "tracking.enabled=false",
    "models.forest.trees=40",
    "models.forest.preprocess.size=32",
    "models.forest.training.imbalance=none",  # scores then lean to the larger class, and 0.5 is no good threshold
    "split.validation=0.45",
    "explanation.gallery=2",
    "explanation.grade_images=0",
    "explanation.shortcut_hunt=false",
)


def draw(folder: Path, *, brightness: float, count: int, generator: np.random.Generator) -> None:
    """Write flat, noisy pictures: brightness tells the classes apart, and not surely."""
    folder.mkdir(parents=True)
    for number in range(count):
        bright = generator.normal(brightness, 22) + generator.normal(0, 25, (40, 40))
        Image.fromarray(np.clip(bright, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def faint(tmp_path_factory) -> Path:
    """Two classes that overlap, of unequal size, with a test part of their own."""
    folder, generator = tmp_path_factory.mktemp("threshold") / "faint", np.random.default_rng(0)
    for part, healthy, ill in (("train", 360, 120), ("test", 60, 60)):
        draw(folder / part / "healthy", brightness=110, count=healthy, generator=generator)
        draw(folder / part / "ill", brightness=140, count=ill, generator=generator)
    return folder


def run(images: Path, output: Path, *more: str) -> dict:
    return answer("run", images, "--models", "forest", "--output", output, *options(*SETTINGS, *more))


@pytest.fixture(scope="module")
def done(faint, tmp_path_factory) -> dict:
    return run(faint, tmp_path_factory.mktemp("runs"))


def rows(done: dict, part: str) -> tuple[list[dict[str, str]], np.ndarray, np.ndarray]:
    """The table of predictions, who is ill, and the scores for it."""
    with (Path(done["run"]) / "models/forest" / f"predictions-{part}.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    return table, np.array([row["truth"] == "ill" for row in table]), np.array([float(row["score:ill"]) for row in table])


def test_the_threshold_is_the_best_one_on_the_validation_images(done):
    decision = done["leaderboard"][0]["decision"]
    _, ill, scores = rows(done, "validation")

    def balanced(threshold: float) -> float:
        return ((scores[ill] >= threshold).mean() + (scores[~ill] < threshold).mean()) / 2

    assert decision["rule"] == "balanced" and decision["positive"] == "ill"
    assert balanced(decision["threshold"]) == pytest.approx(max(balanced(one) for one in [*scores, 2.0]))
    assert balanced(decision["threshold"]) > balanced(0.5)
    assert decision["low"] <= decision["threshold"] <= decision["high"] and decision["low"] < decision["high"]
    assert decision["images"] == {"healthy": int((~ill).sum()), "ill": int(ill.sum())}
    packed = json.loads((Path(done["package"]) / "package.json").read_text())
    assert packed["decision"] == decision


def test_the_scores_of_the_report_are_at_the_threshold(done):
    row = done["leaderboard"][0]
    threshold = row["decision"]["threshold"]
    table, ill, scores = rows(done, "test")
    for part, cut in (("test_clean", threshold), ("test", threshold), ("test_clean_at_half", 0.5)):
        called = scores >= cut
        expected = [[(~called & ~ill).sum(), (called & ~ill).sum()], [(~called & ill).sum(), (called & ill).sum()]]
        assert row[part]["confusion_matrix"] == np.array(expected).tolist()
        assert row[part]["per_class"]["ill"]["sensitivity"]["value"] == pytest.approx(called[ill].mean())
        assert row[part]["per_class"]["ill"]["specificity"]["value"] == pytest.approx((~called[~ill]).mean())
        assert row[part]["accuracy"]["value"] == pytest.approx((called == ill).mean())
    assert row["test_clean"]["auc_weighted"] == row["test_clean_at_half"]["auc_weighted"]
    assert row["test_clean"]["log_loss"] == row["test_clean_at_half"]["log_loss"]
    assert [line["predicted"] for line in table] == ["ill" if score >= threshold else "healthy" for score in scores]
    page = Path(done["report"]).read_text()
    assert f"ill where its score is at least {threshold:.3g}" in page and "At 0.5, for comparison" in page
    assert "no test image had a say" in page


def test_people_are_told_the_rule_and_why(done, faint, images, tmp_path):
    told = " ".join(
        ask("run", faint, "--models", "forest", "--output", Path(done["run"]).parent, *options(*SETTINGS)).stdout.split()
    )
    assert f"Predicted by forest: ill where its score is at least {done['leaderboard'][0]['decision']['threshold']:.3g}" in told
    assert "the largest balanced accuracy on" in told


def test_with_more_classes_the_highest_score_decides_and_the_report_says_why(finished):
    for row in [*finished.json["leaderboard"], *finished.json["baselines"]]:
        assert (row["decision"]["rule"], row["decision"]["threshold"], row["test_clean_at_half"]) == ("highest", None, None)
    page = Path(finished.json["report"]).read_text()
    assert "the class with the highest score" in page and "there are 3 classes, and a threshold divides two" in page
    assert "At 0.5, for comparison" not in page


def between(done: dict, faint: Path) -> Path:
    """A test image that the threshold calls ill, and the highest score healthy (or the other way round)."""
    table, _, _ = rows(done, "test")
    return next(faint / row["path"] for row in table if (row["predicted"] == "ill") != (float(row["score:ill"]) > 0.5))


def test_everything_that_decides_decides_so(done, faint):
    table, _, _ = rows(done, "test")
    images = [faint / row["path"] for row in table]
    told = answer("predict", done["package"], *images)
    assert [one["predicted"] for one in told] == [row["predicted"] for row in table]
    image = between(done, faint)
    (one,) = answer("predict", done["package"], image)
    assert one["probabilities"][one["predicted"]] < 0.5, "it is not the class with the highest score"
    assert f"{done['leaderboard'][0]['decision']['threshold']:.3g}" in " ".join(
        ask("predict", done["package"], image).stdout.split()
    )
    (explained,) = answer("explain", done["package"], image, "--output", Path(done["run"]).parent / "maps")
    assert explained["target"] == one["predicted"]
    assert not any("not chosen" in warning for warning in explained["warnings"])


def test_a_package_without_a_rule_takes_the_highest_score(done, faint, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(done["package"], package)
    rewritten(package, lambda content: content.pop("decision"))
    (one,) = load_package(package).predict(between(done, faint))
    assert one.probabilities[one.predicted] > 0.5


def test_a_package_whose_rule_does_not_fit_is_refused(done, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(done["package"], package)
    rewritten(package, lambda content: content["decision"].update(positive="dead"))
    told = ask("predict", package, package / "golden/0.png")
    assert told.exit_code == 2 and "a threshold between 'dead' and 'healthy' does not fit" in " ".join(told.stderr.split())


def rewritten(package: Path, change) -> None:
    """Change package.json and make its hash fit again."""
    content = json.loads((package / "package.json").read_text())
    change(content)
    (package / "package.json").write_text(json.dumps(content))
    hashes = json.loads((package / "hashes.json").read_text())
    hashes["package.json"] = hashlib.sha256((package / "package.json").read_bytes()).hexdigest()
    (package / "hashes.json").write_text(json.dumps(hashes))


@pytest.mark.slow
def test_the_labels_of_the_test_images_have_no_say(done, faint, tmp_path):
    turned = tmp_path / "faint"
    shutil.copytree(faint / "train", turned / "train")
    shutil.copytree(faint / "test/healthy", turned / "test/ill")
    shutil.copytree(faint / "test/ill", turned / "test/healthy")
    other = run(turned, tmp_path / "runs")
    assert other["leaderboard"][0]["decision"] == done["leaderboard"][0]["decision"]
    before, after = (one["leaderboard"][0]["test"]["accuracy"]["value"] for one in (done, other))
    assert after == pytest.approx(1 - before), "the labels were turned"


@pytest.mark.slow
def test_one_half_is_what_the_other_run_says_of_it(done, faint, tmp_path):
    half = run(faint, tmp_path / "runs", "evaluation.threshold=half")["leaderboard"][0]
    assert half["decision"]["threshold"] is None and half["test_clean_at_half"] is None
    assert half["test_clean"] == done["leaderboard"][0]["test_clean_at_half"]


@pytest.mark.slow
def test_a_wished_sensitivity_is_reached_by_models_ensembles_and_baselines(faint, tmp_path):
    content = {
        "data": {"path": str(faint)},
        "output": str(tmp_path / "runs"),
        "split": {"validation": 0.45},
        "models": [*({"model": "forest", "name": name, "trees": 20} for name in ("oak", "elm")), "ensemble"],
        "evaluation": {"resamples": 200, "threshold": "sensitivity", "reach": 0.9, "positive": "ill"},
        "tracking": {"enabled": False},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(content))
    found = answer("evaluate", tmp_path / "study.yaml")
    for row in [*found["leaderboard"], *found["baselines"]]:
        decision, folder = row["decision"], "models" if "package" in row else "baselines"
        assert (decision["rule"], decision["positive"], decision["reach"]) == ("sensitivity", "ill", 0.9)
        with (Path(found["run"]) / folder / row["model"] / "predictions-validation.csv").open(newline="") as stream:
            own = np.array([float(line["score:ill"]) for line in csv.DictReader(stream) if line["truth"] == "ill"])
        assert (own >= decision["threshold"]).mean() >= 0.9
    packed = json.loads((Path(found["run"]) / "models/ensemble/package/package.json").read_text())
    assert packed["decision"]["threshold"] == next(
        row["decision"]["threshold"] for row in found["leaderboard"] if row["model"] == "ensemble"
    )


def test_wishes_that_cannot_be_are_told_before_any_work(images, faint, tmp_path):
    for folder, wish, told in (
        (images, "evaluation.threshold=balanced", "evaluation.threshold: must be auto or half"),
        (faint, "evaluation.threshold=sensitivity", "evaluation.positive: must name a class"),
        (faint, "evaluation.positive=dead", "evaluation.positive: must be one of the classes: healthy, ill"),
    ):
        words = ["run", folder, "--models", "forest", "--output", tmp_path / "runs", *options("tracking.enabled=false", wish)]
        refused = ask(*words)
        assert refused.exit_code == 2
        assert told in " ".join(refused.stderr.split())
        assert not list((tmp_path / "runs").glob("*-*"))
