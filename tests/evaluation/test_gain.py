import numpy as np
import pytest

from vitrail.evaluation import paired_gain

TRUTH = np.repeat([0, 1], 40)
GROUPS = np.arange(80)


def scores(right, sure=0.9):
    """Scores that are right for some images and wrong for the others."""
    own = np.where(right, sure, 1 - sure)
    return np.stack([np.where(TRUTH == 0, own, 1 - own), np.where(TRUTH == 1, own, 1 - own)], axis=1)


def gain(metric, before, after, groups=GROUPS, **changes):
    return paired_gain(metric, TRUTH, groups, before, after, **{"resamples": 500, "seed": 0, **changes})


def test_the_interval_is_that_of_an_independent_paired_bootstrap():
    first, second = np.arange(80) % 2 == 0, np.arange(80) % 4 != 0
    found = gain("balanced_accuracy", scores(first), scores(second), resamples=20_000)
    assert (found.before, found.after, found.gain) == (0.5, 0.75, 0.25)
    difference = second.astype(float) - first
    generator = np.random.default_rng(9)
    draws = [np.mean([generator.choice(difference[label == TRUTH], 40).mean() for label in (0, 1)]) for _ in range(20_000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert found.beyond_noise


def test_lower_loss_is_a_gain_and_the_other_way_round_it_is_none():
    right = np.arange(80) % 5 != 0
    better, worse = scores(right, 0.8), scores(right, 0.999)
    assert gain("log_loss", worse, better).beyond_noise
    back = gain("log_loss", better, worse)
    assert back.gain < 0 and not back.beyond_noise
    same = gain("log_loss", better, better)
    assert (same.gain, same.low, same.high) == (0, 0, 0) and not same.beyond_noise


def test_copies_of_an_image_are_one_piece_of_evidence():
    first = scores(np.ones(80, dtype=bool), 0.6)
    second = scores(np.arange(80) % 40 < 26, 0.8)  # many gain, some lose
    alone = gain("log_loss", first, second)
    together = gain("log_loss", first, second, groups=GROUPS // 4)
    assert alone.gain == together.gain
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_too_few_groups_prove_nothing_and_a_missing_class_has_no_number():
    first, second = scores(np.zeros(80, dtype=bool)), scores(np.ones(80, dtype=bool))
    few = gain("balanced_accuracy", first, second, groups=np.where(TRUTH == 0, GROUPS, 100 + GROUPS % 9))
    assert few.gain == 1 and few.low is None and not few.beyond_noise
    absent = paired_gain("balanced_accuracy", TRUTH * 0, GROUPS, first, second, resamples=200, seed=0)
    assert absent.before is None and absent.gain is None and not absent.beyond_noise
