from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.naive_bayes import CategoricalNB
from sklearn.preprocessing import OneHotEncoder

from vitrail.audit import additive
from vitrail.audit.additive import Property, draw_trial, interval, predictability, sample_rows


def categories(name, codes):
    return Property(name, codes.astype(float), tuple(f"{name} {code}" for code in range(int(codes.max()) + 1)))


def example(*, seed=0, size=240, classes=3, strength=1.0):
    """Labels, and three categorical properties of which the first two depend on the label."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=size, p=[0.5, 0.3, 0.2][:classes])
    values = [rng.integers(0, 5, size) for _ in range(3)]
    for place in (0, 1):
        told = rng.random(size) < 0.5 * strength
        values[place] = np.where(told, (labels + place) % 5, values[place])
    return labels, [categories(name, codes) for name, codes in zip("abc", values, strict=True)]


# ------------------------------------------------------------------------------------------------ folds and labels


def test_folds_keep_groups_whole_and_share_every_class_out_evenly():
    rng = np.random.default_rng(1)
    group_label = rng.integers(0, 3, 101)
    groups = rng.integers(0, 101, 700)
    trial = draw_trial(group_label[groups], groups)
    for group in np.unique(groups):
        assert len(set(trial.fold[groups == group])) == 1
    for label in range(3):
        present = np.unique(groups[group_label[groups] == label])
        fold_of = [int(trial.fold[groups == group][0]) for group in present]
        counts = np.bincount(fold_of, minlength=5)
        assert counts.max() - counts.min() <= 1


def test_dealt_labels_move_with_their_group_and_stay_in_their_fold():
    rng = np.random.default_rng(2)
    group_label = rng.integers(0, 3, 60)
    groups = np.repeat(np.arange(60), 3)
    trial = draw_trial(group_label[groups], groups)
    assert np.array_equal(trial.dealt[:, 0], trial.labels)
    by_group = trial.dealt.reshape(60, 3, -1)
    assert (by_group == by_group[:, :1]).all()
    for fold in range(5):
        inside = trial.dealt[trial.fold == fold]
        assert (np.sort(inside, axis=0) == np.sort(inside[:, :1], axis=0)).all()
    assert (trial.dealt[:, 1:] != trial.dealt[:, :1]).any(axis=0).all()


def test_a_sample_takes_one_image_of_every_group_before_a_second():
    groups = np.array([7] * 50 + [3] * 2 + [5] * 4 + list(range(100, 110)))
    chosen = sample_rows(groups, 13)
    assert len(chosen) == 13
    assert set(np.unique(groups[chosen], return_counts=True)[1].tolist()) == {1}
    chosen = sample_rows(groups, 20)
    assert dict(zip(*np.unique(groups[chosen], return_counts=True), strict=True))[3] == 2
    assert np.array_equal(sample_rows(groups, 1000), np.arange(len(groups)))
    assert (np.diff(sample_rows(groups, 20)) > 0).all()


# ------------------------------------------------------------------------------------------------ the classifier


@pytest.mark.parametrize("classes", [2, 3])
def test_a_family_does_what_a_ridge_regression_of_another_library_does(classes):
    labels, properties = example(classes=3)
    labels = np.minimum(labels, classes - 1)
    trial = draw_trial(labels, np.arange(len(labels)))
    matrix = OneHotEncoder(sparse_output=False).fit_transform(np.stack([item.values for item in properties], axis=1))
    named = np.empty(len(labels), dtype=int)
    margins = np.empty(len(labels))
    for fold in range(5):
        train, test = trial.fold != fold, trial.fold == fold
        frequency = np.bincount(labels[train], minlength=classes) / train.sum()
        fitted = Ridge(alpha=additive._RIDGE).fit(matrix[train], np.eye(classes)[labels[train]])
        scores = fitted.predict(matrix[test]) / frequency
        named[test] = scores.argmax(axis=1)
        own = scores[np.arange(test.sum()), labels[test]]
        scores[np.arange(test.sum()), labels[test]] = -np.inf
        margins[test] = own - scores.max(axis=1)
    (found,) = predictability([properties], trial)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, named), abs=1e-12)
    assert found.margins == pytest.approx(margins, abs=2e-4)
    assert found.balanced_accuracy > 1 / classes + 0.15


def test_a_single_property_does_what_naive_bayes_with_equal_classes_does():
    labels, properties = example()
    trial = draw_trial(labels, np.arange(len(labels)))
    (found,) = predictability([properties], trial)
    for single, item in zip(found.singles, properties, strict=True):
        codes = item.values.astype(int)[:, None]
        for prior, achieved, score in (
            ([1 / 3] * 3, single.balanced_accuracy, balanced_accuracy_score),
            (None, single.accuracy, lambda truth, named: (truth == named).mean()),
        ):
            named = np.empty(len(labels), dtype=int)
            for fold in range(5):
                train = trial.fold != fold
                model = CategoricalNB(alpha=1e-9, force_alpha=True, class_prior=prior, min_categories=5)
                named[~train] = model.fit(codes[train], labels[train]).predict(codes[~train])
            assert achieved == pytest.approx(score(labels, named), abs=1e-12)
    assert found.most_telling in (0, 1)


def test_a_curve_that_is_no_line_is_found():
    rng = np.random.default_rng(3)
    values = rng.normal(size=600)
    labels = (np.abs(values) < 0.67).astype(int)
    trial = draw_trial(labels, np.arange(600))
    (found,) = predictability([[Property("middle", values)]], trial)
    assert found.balanced_accuracy > 0.9
    assert found.p_value == 1 / 201
    assert found.stands_out


@pytest.mark.parametrize(
    "plant",
    [
        lambda labels, rng: np.where(labels == 1, np.nan, rng.normal(size=len(labels))),  # unknown in one class
        lambda labels, rng: np.where(labels == 1, 512.0, rng.integers(500, 525, len(labels))),  # a value of its own
    ],
)
def test_unknown_values_and_frequent_values_have_bins_of_their_own(plant):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 400)
    (found,) = predictability([[Property("it", plant(labels, rng))]], draw_trial(labels, np.arange(400)))
    assert found.balanced_accuracy > 0.95


def test_the_order_of_the_rows_changes_nothing():
    labels, properties = example(seed=5)
    groups = np.random.default_rng(5).integers(0, 60, len(labels)) * 3 + labels
    numbers = Property("number", np.random.default_rng(6).normal(size=len(labels)))
    family = [*properties, numbers]
    order = np.random.default_rng(7).permutation(len(labels))
    (before,) = predictability([family], draw_trial(labels, groups))
    turned = [Property(item.name, item.values[order], item.levels) for item in family]
    (after,) = predictability([turned], draw_trial(labels[order], groups[order]))
    assert after.balanced_accuracy == before.balanced_accuracy
    assert after.p_value == before.p_value
    assert np.array_equal(after.null, before.null)
    assert np.array_equal(after.margins, before.margins[order])


def test_families_and_blocks_do_not_disturb_one_another(monkeypatch):
    labels, properties = example(seed=8)
    trial = draw_trial(labels, np.arange(len(labels)))
    together = predictability([properties[:1], properties], trial)
    monkeypatch.setattr(additive, "_NUMBERS_PER_BLOCK", 7 * len(labels) * 3)
    for number, family in enumerate((properties[:1], properties)):
        (alone,) = predictability([family], trial)
        assert np.array_equal(alone.null, together[number].null)
        assert np.array_equal(alone.margins, together[number].margins)


# ------------------------------------------------------------------------------------------------ chance and power


def grouped_p_values(*, respect_groups: bool, seeds: int) -> np.ndarray:
    """P-values where the property is the group's own and means nothing: four images per group, labels by group."""
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng((9, seed))
        groups = np.repeat(np.arange(40), 4)
        labels = rng.permutation(np.arange(40) % 2)[groups]
        values = rng.normal(size=40)[groups]
        trial = draw_trial(labels, groups if respect_groups else np.arange(160), permutations=99, seed=seed)
        found.append(predictability([[Property("own", values)]], trial)[0].p_value)
    return np.array(found)


def test_p_values_are_uniform_where_properties_mean_nothing():
    p_values = grouped_p_values(respect_groups=True, seeds=120)
    assert (p_values <= 0.05).mean() <= 0.11
    assert (p_values <= 0.5).mean() == pytest.approx(0.5, abs=0.12)
    assert kstest(p_values, "uniform").pvalue > 0.001


def test_without_groups_chance_would_look_like_an_effect():
    assert (grouped_p_values(respect_groups=False, seeds=40) <= 0.05).mean() > 0.5


def test_labels_that_mean_nothing_do_not_stand_out_and_weak_effects_do():
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 2, 500)
    trial = draw_trial(labels, np.arange(500))
    noise = [Property("noise", rng.normal(size=500))]
    weak = [Property("weak", rng.normal(size=500) + 0.6 * labels)]
    chance, effect = predictability([noise, weak], trial)
    assert not chance.stands_out
    assert chance.balanced_accuracy == pytest.approx(0.5, abs=0.07)
    assert effect.stands_out
    # The best possible: one minus the overlap of two normal distributions 0.6 deviations apart.
    assert effect.balanced_accuracy == pytest.approx(0.618, abs=0.05)


def test_guessing_is_worth_one_over_the_classes_however_unequal_they_are():
    rng = np.random.default_rng(11)
    labels = np.repeat([0, 1, 2], [900, 90, 30])
    trial = draw_trial(labels, np.arange(len(labels)))
    (found,) = predictability([[Property("noise", rng.normal(size=len(labels)))]], trial)
    assert found.null.mean() == pytest.approx(1 / 3, abs=0.02)


# ------------------------------------------------------------------------------------------------ interval


def test_the_interval_is_as_wide_as_a_bootstrap_of_groups():
    rng = np.random.default_rng(12)
    group_label = np.arange(120) % 3
    groups = np.repeat(np.arange(120), rng.integers(1, 8, 120))
    labels = group_label[groups]
    skill = rng.random(120)
    right = rng.random(len(groups)) < skill[groups]
    trial = draw_trial(labels, groups)
    low, high = interval(right, trial)
    hits, sizes = np.bincount(groups, weights=right), np.bincount(groups)
    drawn = np.stack([rng.choice(np.flatnonzero(group_label == label), (4000, 40)) for label in range(3)])
    resampled = (hits[drawn].sum(axis=2) / sizes[drawn].sum(axis=2)).mean(axis=0)
    assert high - low == pytest.approx(np.subtract(*np.percentile(resampled, [97.5, 2.5])), rel=0.12)
    assert low < np.mean([right[labels == label].mean() for label in range(3)]) < high


def test_an_interval_keeps_its_width_where_all_are_right():
    labels = np.arange(60) % 2
    low, high = interval(np.ones(60, dtype=bool), draw_trial(labels, np.arange(60)))
    assert high == 1.0
    assert 0.9 < low < 0.99
