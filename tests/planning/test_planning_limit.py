"""``training.minutes``: the net below a plan. A training whose time is over ends with its best weights and says so."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from vitrail.models.network import DenseLayers
from vitrail.progress import SilentProgress
from vitrail.study import TrainingSettings
from vitrail.training import fit as fit_module
from vitrail.training.examples import FeatureExamples
from vitrail.training.fit import fit

SETTINGS = TrainingSettings(epochs=8, patience=20, batch_size=8, optimiser="adamw", learning_rate=0.01, imbalance="none")


class Saying(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def clock(monkeypatch):
    """Every epoch takes a minute."""
    one_epoch = fit_module._one_epoch

    def in_a_minute(*arguments, **options):
        return dataclasses.replace(one_epoch(*arguments, **options), seconds=60.0)

    monkeypatch.setattr(fit_module, "_one_epoch", in_a_minute)
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)


def vectors(count, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (generator.normal(size=(count, 5)) + 2 * np.eye(5)[labels]).astype(np.float32), labels


def trained(folder, **changes):
    head = DenseLayers.seeded(5, (4,), 3, activation="relu", dropout=0.3, standardise_like=vectors(30, 0)[0], seed=0)
    progress = changes.pop("progress", Saying())
    settings = SETTINGS.model_copy(update=changes)
    examples = FeatureExamples(*vectors(30, 0), *vectors(15, 1))
    outcome = fit(head, examples, classes=3, settings=settings, seed=0, checkpoint=folder / "checkpoint.pt", progress=progress)
    return outcome, head, progress


def test_the_epoch_in_which_the_time_is_over_is_the_last(clock, tmp_path):
    outcome, _, progress = trained(tmp_path, minutes=2.5)
    assert len(outcome.epochs) == 3 and outcome.out_of_time
    assert "training.minutes 2.5" in outcome.stopped and "3 of 8 epochs" in outcome.stopped
    assert "Not reproducible" in outcome.stopped
    assert any("its time was over" in said for said in progress.said)


def test_time_enough_changes_no_weight(clock, tmp_path):
    free, first, _ = trained(tmp_path / "a", minutes=None)
    limited, second, progress = trained(tmp_path / "b", minutes=1000.0)
    assert limited.stopped == free.stopped == "all 8 epochs done" and not limited.out_of_time and not progress.said
    for name, value in first.state_dict().items():
        assert (value == second.state_dict()[name]).all(), name


def test_all_epochs_done_at_the_last_second_is_no_early_end(clock, tmp_path):
    outcome, _, progress = trained(tmp_path, minutes=8.0)
    assert outcome.stopped == "all 8 epochs done" and not outcome.out_of_time and not progress.said


def test_the_time_before_a_kill_counts(clock, tmp_path):
    class Killer(Saying):
        left = 2

        def task(self, title, total):
            import contextlib

            @contextlib.contextmanager
            def opened():
                def advance(steps=1, note=""):
                    self.left -= steps
                    if self.left <= 0:
                        raise KeyboardInterrupt

                yield advance

            return opened()

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, minutes=4.0, progress=Killer())
    resumed, head, _ = trained(tmp_path, minutes=4.0)
    whole, expected, _ = trained(tmp_path / "whole", minutes=4.0)
    assert len(resumed.epochs) == len(whole.epochs) == 4 and resumed.seconds == 240.0 and resumed.out_of_time
    assert not math.isnan(resumed.epochs[-1].validation_loss)
    for name, value in expected.state_dict().items():
        assert (value == head.state_dict()[name]).all(), name
