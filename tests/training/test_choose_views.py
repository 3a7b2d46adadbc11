"""When `auto` takes views: better by more than noise, and never at the price of balanced accuracy."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vitrail.evaluation import Gain
from vitrail.preprocess import VIEWS
from vitrail.study import ForestSettings, Study
from vitrail.training.choose_views import choose_views, is_better

choose_views_module = sys.modules["vitrail.training.choose_views"]


def gain(value, low):
    return Gain(0.5, 0.5 + value, value, low, value + 0.1)


@pytest.mark.parametrize(
    ("accuracy", "loss", "better"),
    [
        (gain(0.1, 0.01), gain(-0.1, -0.2), True),
        (gain(0.1, -0.01), gain(0.1, 0.01), True),
        (gain(0.0, 0.0), gain(0.1, 0.01), True),
        (gain(-0.01, -0.05), gain(0.1, 0.01), False),
        (gain(0.1, -0.01), gain(0.1, -0.01), False),
        (Gain(None, None, None, None, None), gain(0.1, 0.01), False),
        (gain(0.1, None), gain(0.1, None), False),
    ],
)
def test_the_rule(accuracy, loss, better):
    assert is_better(accuracy, loss) is better


def chosen_by(monkeypatch, plain, shifted, *, threshold):
    """What ``auto`` takes for a trained model of two classes whose scores of the second class are given."""
    count = len(plain) // 2
    both = {len(VIEWS["none"]): plain, len(VIEWS["shifts"]): shifted}

    def scores(embedder, head, manifest, rows, *, views, **_):
        return np.stack([1 - both[len(views)], both[len(views)]], axis=1)

    monkeypatch.setattr(choose_views_module, "view_scores", scores)
    study = Study.model_validate({"data": {"path": "/images"}, "evaluation": {"threshold": threshold, "resamples": 200}})
    job = SimpleNamespace(
        study=study,
        validation_rows=np.arange(2 * count),
        manifest=SimpleNamespace(labels=np.repeat([0, 1], count), classes=("no", "yes")),
        split=SimpleNamespace(groups=tuple(range(2 * count))),
        cache=None,
        progress=None,
    )
    return choose_views(ForestSettings(test_time_augmentation="auto"), SimpleNamespace(embedder=None, head=None), job)


def test_views_are_judged_by_the_rule_that_will_decide(monkeypatch):
    generator = np.random.default_rng(0)
    plain = np.concatenate([generator.uniform(0.05, 0.2, 60), generator.uniform(0.3, 0.45, 60)])  # apart, below 0.5
    shifted = np.where(plain > 0.25, 0.51, 0.49)  # the same order with less confidence, on both sides of 0.5
    views, choice = chosen_by(monkeypatch, plain, shifted, threshold="half")
    assert views == "shifts" and choice.validation["none"]["balanced_accuracy"] == 0.5
    views, choice = chosen_by(monkeypatch, plain, shifted, threshold="auto")
    assert views == "none"
    assert choice.validation["none"]["balanced_accuracy"] == choice.validation["shifts"]["balanced_accuracy"] == 1.0
