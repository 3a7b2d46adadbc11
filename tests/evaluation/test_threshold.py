"""Thresholds against brute force: no other threshold does better on the validation images, and ties go to the middle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from vitrail.decision import Decision, decide
from vitrail.errors import StudyError
from vitrail.evaluation import best_threshold, check_threshold, choose_decision, decide_held_out, held_out_decisions
from vitrail.study import EvaluationSettings

CLASSES = ("healthy", "ill")
COARSE = st.sampled_from([0.0, 1e-12, 0.1, 0.25, 0.5, 0.7, 0.9, 1 - 1e-12, 1.0])
IMAGES = st.lists(st.tuples(st.booleans(), COARSE | st.floats(0, 1)), min_size=2, max_size=14).filter(
    lambda images: len({ill for ill, _ in images}) == 2
)


def rates(positive: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity, counted one by one."""
    hits = sum(score >= threshold for ill, score in zip(positive, scores, strict=True) if ill)
    spared = sum(score < threshold for ill, score in zip(positive, scores, strict=True) if not ill)
    return hits / positive.sum(), spared / (~positive).sum()


def every_threshold(scores: np.ndarray) -> list[float]:
    """One threshold for every way in which these scores can be cut in two."""
    return [*np.unique(scores), math.inf]


def arrays(images: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([ill for ill, _ in images]), np.array([score for _, score in images])


@given(IMAGES)
@hypothesis_settings(deadline=None, max_examples=300)
def test_no_threshold_has_a_larger_balanced_accuracy(images: list[tuple[bool, float]]) -> None:
    positive, scores = arrays(images)
    best = max(sum(rates(positive, scores, one)) for one in every_threshold(scores))
    found = best_threshold(positive, scores, rule="balanced")
    if found is None:
        assert best == pytest.approx(1)  # a constant answer does as well
    else:
        assert sum(rates(positive, scores, found)) == pytest.approx(best)


@given(IMAGES, st.floats(0.01, 1), st.sampled_from([0, 1]))
@hypothesis_settings(deadline=None, max_examples=300)
def test_no_threshold_that_reaches_the_share_costs_less(images: list[tuple[bool, float]], reach: float, kept: int) -> None:
    positive, scores = arrays(images)
    found = best_threshold(positive, scores, rule=("sensitivity", "specificity")[kept], reach=reach)
    assert found is not None
    reaching = [all_of for one in every_threshold(scores) if (all_of := rates(positive, scores, one))[kept] >= reach - 1e-9]
    expected = max((all_of[1 - kept], all_of[kept]) for all_of in reaching)
    own = rates(positive, scores, found)
    assert (own[1 - kept], own[kept]) == pytest.approx(expected)


def log_odds(share: float) -> float:
    return math.log(share / (1 - share))


@pytest.mark.parametrize("rule", ["balanced", "sensitivity", "specificity"])
def test_between_well_separated_classes_the_middle_on_the_scale_of_log_odds(rule: str) -> None:
    positive = np.array([False, False, True, True])
    found = best_threshold(positive, np.array([0.0001, 0.001, 0.9, 0.99]), rule=rule, reach=1.0)
    assert found is not None
    assert log_odds(found) == pytest.approx((log_odds(0.001) + log_odds(0.9)) / 2)
    assert found == pytest.approx(0.0867, abs=1e-3), "and not 0.45, their mean"


def test_equally_good_neighbouring_thresholds_make_one_interval() -> None:
    positive = np.array([False, True, False, True, True])
    scores = np.array([0.2, 0.4, 0.4, 0.6, 0.6])  # above 0.2: one false alarm of two; above 0.4: one of three missed
    assert best_threshold(positive[[0, 3, 4]], scores[[0, 3, 4]], rule="balanced") == pytest.approx(
        1 / (1 + math.exp(-(log_odds(0.2) + log_odds(0.6)) / 2))
    )
    balanced = np.array([False, False, True, True, False, True])  # 0.4 holds one of each: with or without it, J is the same
    found = best_threshold(balanced, np.array([0.2, 0.4, 0.4, 0.6, 0.1, 0.7]), rule="balanced")
    assert found is not None
    assert log_odds(found) == pytest.approx((log_odds(0.2) + log_odds(0.6)) / 2)


def test_of_two_intervals_the_wider_one() -> None:
    positive = np.array([False, True, False, True])
    for scores, between in (([0.1, 0.4, 0.5, 0.6], (0.1, 0.4)), ([0.3, 0.4, 0.5, 0.9], (0.5, 0.9))):
        found = best_threshold(positive, np.array(scores), rule="balanced")
        assert found is not None
        assert between[0] < found < between[1]


@pytest.mark.parametrize("gap", [(0.3, float(np.nextafter(0.3, 1))), (0.0, 5e-324), (1 - 2**-53, 1.0), (0.0, 1.0)])
def test_where_there_is_no_room_for_a_middle_the_images_still_fall_on_the_right_sides(gap: tuple[float, float]) -> None:
    found = best_threshold(np.array([False, True]), np.array(gap), rule="balanced")
    assert found is not None
    assert gap[0] < found <= gap[1]


def drawn(n: int = 200, *, seed: int = 0, shift: float = 1.5, scale: float = 1.0, centre: float = 0.0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    logits = rng.normal(centre, scale, n) + shift * truth
    scores = 1 / (1 + np.exp(-logits))
    return truth, np.arange(n), np.column_stack([1 - scores, scores])


def chosen(truth, groups, scores, **wishes) -> Decision:
    wishes = {"resamples": 400, **wishes}
    return choose_decision(truth, groups, scores, classes=CLASSES, settings=EvaluationSettings(**wishes), seed=1)


def test_the_interval_is_that_of_thresholds_chosen_anew_on_resamples() -> None:
    truth, groups, scores = drawn(160, seed=3)
    found = chosen(truth, groups, scores, resamples=2000)
    rng, draws = np.random.default_rng(99), []
    for _ in range(2000):
        rows = np.concatenate([rng.choice(np.flatnonzero(truth == one), 80) for one in (0, 1)])
        draws.append(best_threshold(truth[rows] == 1, scores[rows, 1], rule="balanced"))
    low, high = np.quantile(np.array(draws, dtype=float), [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)
    assert found.low < found.threshold < found.high
    assert (found.images, found.groups) == ({"healthy": 80, "ill": 80}, 160)
    assert found.method == "bootstrap of 160 groups, 2,000 resamples"


def test_copies_do_not_make_the_interval_narrower() -> None:
    truth, groups, scores = drawn(160, seed=3)
    alone = chosen(truth, groups, scores)
    copied = chosen(np.repeat(truth, 4), np.repeat(groups, 4), np.repeat(scores, 4, axis=0))
    assert (copied.threshold, copied.low, copied.high) == (alone.threshold, alone.low, alone.high)
    assert copied.groups == 160


def test_whichever_class_is_positive_balanced_decides_alike() -> None:
    truth, groups, scores = drawn(seed=5)
    decisions = [chosen(truth, groups, scores, positive=name) for name in CLASSES]
    assert decisions[0].threshold == pytest.approx(1 - decisions[1].threshold)
    assert np.array_equal(*(decide(scores, CLASSES, one) for one in decisions))


@pytest.mark.parametrize(("threshold", "kept"), [("sensitivity", 0), ("specificity", 1)])
@pytest.mark.parametrize("named", CLASSES)
def test_the_wished_share_is_reached_for_the_named_class(threshold: str, kept: int, named: str) -> None:
    truth, groups, scores = drawn(seed=7)
    found = chosen(truth, groups, scores, threshold=threshold, reach=0.9, positive=named)
    predicted = decide(scores, CLASSES, found)
    number = CLASSES.index(named)
    reached = np.mean(predicted[truth == number] == number), np.mean(predicted[truth != number] != number)
    assert 0.9 <= reached[kept] < 0.92
    assert (found.positive, found.reach, found.rule) == (named, 0.9, threshold)


def test_auto_leaves_small_validation_sets_at_one_half_and_says_so() -> None:
    for n, rule in ((98, "highest"), (100, "balanced")):
        found = chosen(*drawn(n, centre=2.0))
        assert found.rule == rule
    few = chosen(*drawn(98))
    assert "healthy has 49 independent validation images" in few.reason and "50" in few.reason
    truth, groups, scores = drawn(400)
    assert chosen(truth, groups // 10, scores).threshold is None, "groups count, not images"
    assert chosen(*drawn(20, centre=2.0), threshold="balanced").threshold is not None


def test_scores_that_tell_nothing_keep_the_threshold_at_one_half() -> None:
    truth, groups, _ = drawn()
    found = chosen(truth, groups, np.full((200, 2), 0.5))
    assert found.threshold is None and "constant answer" in found.reason


def test_a_threshold_is_judged_on_images_that_did_not_choose_it() -> None:
    """For scores that are noise, the best threshold looks better than chance where it was chosen, and not where it was not."""
    apparent, honest = [], []
    for seed in range(40):
        truth, groups, scores = drawn(120, seed=seed, shift=0.0)
        found = chosen(truth, groups, scores)
        held_out = decide_held_out(truth, groups, scores, classes=CLASSES, decision=found, seed=0)
        for predicted, means in ((decide(scores, CLASSES, found), apparent), (held_out, honest)):
            means.append(np.mean([np.mean(predicted[truth == one] == one) for one in (0, 1)]))
    assert np.mean(apparent) > 0.55
    assert np.mean(honest) == pytest.approx(0.5, abs=0.02)


def test_no_group_is_decided_by_a_threshold_that_it_chose() -> None:
    truth, groups, scores = drawn(200, seed=2)
    groups = groups // 4
    found = chosen(truth, groups, scores)
    before = decide_held_out(truth, groups, scores, classes=CLASSES, decision=found, seed=0)
    for group in (0, 17, 49):
        own = groups == group
        turned = np.where(own, 1 - truth, truth)  # wrong labels for the group alone: its own decisions may not move
        after = decide_held_out(turned, groups, scores, classes=CLASSES, decision=found, seed=0)
        assert np.array_equal(before[own], after[own])


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"threshold": "half"},
        {"threshold": "sensitivity", "reach": 0.8, "positive": "ill"},
        {"threshold": "specificity", "reach": 0.9, "positive": "ill"},
    ],
)
@pytest.mark.parametrize("n", [60, 300])
def test_what_has_no_rule_yet_is_decided_as_the_validation_images_of_a_run_are(wishes, n) -> None:
    truth, groups, scores = drawn(n, centre=-1.5)
    settings = EvaluationSettings(resamples=200, **wishes)
    made = held_out_decisions(truth, groups, scores, classes=CLASSES, settings=settings, seed=3)
    decision = choose_decision(truth, groups, scores, classes=CLASSES, settings=settings, seed=3)
    expected = decide_held_out(truth, groups, scores, classes=CLASSES, decision=decision, seed=3)
    np.testing.assert_array_equal(made, expected)
    moved = (expected != scores.argmax(axis=1)).any()
    assert moved == (wishes.get("threshold") != "half" and (n == 300 or "threshold" in wishes))


def test_of_three_classes_the_highest_score_decides_held_out_too() -> None:
    scores = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    made = held_out_decisions(
        np.arange(30) % 3, np.arange(30), scores, classes=("a", "b", "c"), settings=EvaluationSettings(), seed=0
    )
    np.testing.assert_array_equal(made, scores.argmax(axis=1))


def test_thresholds_that_cannot_be_are_told_by_key() -> None:
    with pytest.raises(StudyError, match=r"evaluation\.threshold.*auto or half.*3 classes"):
        check_threshold(EvaluationSettings(threshold="balanced"), ("a", "b", "c"))
    with pytest.raises(StudyError, match=r"evaluation\.positive.*healthy, ill"):
        check_threshold(EvaluationSettings(positive="dead"), CLASSES)
    check_threshold(EvaluationSettings(), ("a", "b", "c"))
    with pytest.raises(ValueError, match="must name a class"):
        EvaluationSettings(threshold="sensitivity")
    more = choose_decision(np.arange(3), np.arange(3), np.eye(3), classes=("a", "b", "c"), settings=EvaluationSettings(), seed=0)
    assert more.rule == "highest" and "3 classes" in more.reason
