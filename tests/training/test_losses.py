import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.study import TrainingSettings
from vitrail.training.losses import cross_entropy, focal_loss, training_loss, validation_loss


def some(seed=0, count=12, classes=3):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, classes))
    weight = generator.uniform(0.2, 3, classes)
    return logits, generator.integers(0, classes, count), weight


def focal_by_formula(logits, labels, weight, gamma, smoothing):
    """Image by image, class by class."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        scores = np.exp(row) / np.exp(row).sum()
        for number, score in enumerate(scores):
            target = (1 - smoothing) * (number == label) + smoothing / len(scores)
            total -= target * weight[number] * (1 - score) ** gamma * np.log(score)
    return total / sum(weight[label] for label in labels)


SEEDS = st.integers(0, 1000)
SMOOTHING = st.sampled_from([0.0, 0.1, 0.6])


@given(SEEDS, st.integers(2, 6), st.floats(0, 10), SMOOTHING, st.booleans())
def test_the_focal_loss_is_its_formula(seed, classes, gamma, smoothing, weighted):
    logits, labels, weight = some(seed, classes=classes)
    found = focal_loss(
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        torch.from_numpy(weight) if weighted else None,
        focusing=gamma,
        label_smoothing=smoothing,
    )
    expected = focal_by_formula(logits, labels, weight if weighted else np.ones(classes), gamma, smoothing)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@given(SEEDS, SMOOTHING, st.booleans())
def test_without_focusing_it_is_torch_s_own_cross_entropy(seed, smoothing, weighted):
    logits, labels, weight = (torch.from_numpy(value) for value in some(seed))
    chosen = weight if weighted else None
    expected = torch.nn.functional.cross_entropy(logits, labels, chosen, label_smoothing=smoothing)
    for found in (
        focal_loss(logits, labels, chosen, focusing=0.0, label_smoothing=smoothing),
        cross_entropy(logits, labels, chosen, label_smoothing=smoothing),
    ):
        assert float(found) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("focusing", [0.0, 0.1, 0.5, 2.0, 10.0])
def test_its_slope_is_finite_and_right_even_for_images_that_are_sure(focusing):
    sure = torch.tensor([[80.0, 0.0], [80.0, 0.0], [17.0, 0.0], [0.0, 0.0]], requires_grad=True)
    focal_loss(sure, torch.tensor([0, 1, 0, 0]), None, focusing=focusing).backward()
    assert torch.isfinite(sure.grad).all() and sure.grad[1, 0] > 0.1, "what is surely wrong still counts"

    logits, labels, weight = (torch.from_numpy(value) for value in some())
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda given: focal_loss(given, labels, weight, focusing=focusing), (logits,))


def test_settings_choose_the_loss_and_validation_is_never_smoothed():
    logits, labels, weight = (torch.from_numpy(value) for value in some())
    open_ = TrainingSettings()
    smoothed = TrainingSettings(loss="cross_entropy", label_smoothing=0.3)
    focal = TrainingSettings(loss="focal", focusing=1.5, label_smoothing=0.3)
    plain = cross_entropy(logits, labels, weight)
    assert training_loss(open_)(logits, labels, weight) == validation_loss(smoothed)(logits, labels, weight) == plain
    assert training_loss(smoothed)(logits, labels, weight) == cross_entropy(logits, labels, weight, label_smoothing=0.3) != plain
    sharp = focal_loss(logits, labels, weight, focusing=1.5)
    assert validation_loss(focal)(logits, labels, weight) == sharp != plain
    assert training_loss(focal)(logits, labels, weight) == focal_loss(logits, labels, weight, focusing=1.5, label_smoothing=0.3)
    assert training_loss(TrainingSettings(loss="focal"))(logits, labels, None) == focal_loss(logits, labels, None, focusing=2.0)
