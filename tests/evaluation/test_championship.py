"""An ensemble is champion only where it is better than its best member beyond noise."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.evaluation import choose_champion, evaluation_of
from vitrail.records import Evaluation, Predictions
from vitrail.study import EvaluationSettings

N = 400


def predictions(name: str, wrong: np.ndarray, *, group: int = 1) -> Predictions:
    """A model that is wrong on some of 400 images of two classes, and right on the others."""
    truth = np.arange(N) % 2
    said = np.where(wrong, 1 - truth, truth)
    scores = np.where(said[:, None] == np.arange(2), 0.9, 0.1)
    paths = tuple(f"{number}.png" for number in range(N))
    groups = np.arange(N) // (2 * group) * 2 + truth  # images of one class
    return Predictions(name, "validation", ("a", "b"), np.arange(N), paths, truth, scores, groups, np.ones(N, bool))


def choose(*models: Predictions, members: dict[str, tuple[str, ...]]):
    known = {model.model: model for model in models}
    asked: list[str] = []

    def validation(name: str) -> Predictions:
        asked.append(name)
        return known[name]

    quick = EvaluationSettings(resamples=200)
    evaluations: list[Evaluation] = [
        evaluation_of(model.model, model, model, settings=quick, seed=0, test_openings=1) for model in models
    ]
    return (*choose_champion(evaluations, members=members, validation=validation, resamples=1000, seed=0), asked)


def first(count: int) -> np.ndarray:
    """Wrong on the first images."""
    return np.arange(N) < count


def test_an_ensemble_that_is_surely_better_is_the_champion() -> None:
    name, reason, _ = choose(
        predictions("one", first(80)),
        predictions("both", first(40)),
        predictions("other", first(90)),
        members={"both": ("other", "one")},
    )
    assert name == "both"
    # 40 of 400 images fewer are wrong; binomial: 10 points, give or take 1.96 sqrt(0.1 * 0.9 / 400) = 2.9
    assert "both is ahead of its member one by 10.0 points [7." in reason and "400 validation images" in reason


def test_one_that_is_ahead_within_noise_is_not_and_the_reason_is_told() -> None:
    models = (
        predictions("one", first(44)),
        predictions("both", first(40) ^ (np.arange(N) >= N - 2)),
        predictions("other", first(90)),
    )
    name, reason, asked = choose(*models, members={"both": ("one", "other")})
    assert name == "one" and asked == ["both", "one"]
    assert "by 0.5 points [-" in reason and "not beyond noise" in reason


def test_the_same_lead_counts_by_groups() -> None:
    """Ten images fewer are wrong: of ten patients that is beyond noise, of a single one it is not."""
    wrong = first(60), first(40)
    for group, champion in ((1, "both"), (20, "one")):
        models = [predictions(name, one, group=group) for name, one in zip(("one", "both"), wrong, strict=True)]
        assert choose(*models, members={"both": ("one",)})[0] == champion


def test_equal_scores_go_to_the_member() -> None:
    same = predictions("both", first(40)), predictions("one", first(40))
    assert choose(*same, members={"both": ("one",)})[0] == "one"


@pytest.mark.parametrize("members", [{}, {"worse": ("best",)}, {"best": ("missing",)}])
def test_others_are_champions_by_their_score_alone(members: dict[str, tuple[str, ...]]) -> None:
    name, reason, asked = choose(predictions("worse", first(44)), predictions("best", first(40)), members=members)
    assert (name, reason, asked) == ("best", "", [])


def test_nobody_is_champion_of_nothing() -> None:
    assert choose_champion([], members={}, validation=lambda name: pytest.fail(name), resamples=200, seed=0) == ("", "")
