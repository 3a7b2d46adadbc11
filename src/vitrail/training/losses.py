"""What training makes small: cross-entropy or the focal loss, weighted by class, with smoothed labels if wished."""

from __future__ import annotations

import functools
from typing import Protocol

import torch

from vitrail.settings import TrainingSettings

FOCUSING = 2.0
"""Gamma that Lin et al. (2017) found best."""


class Loss(Protocol):
    """``loss(logits, labels, weight)``: a mean over images."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Return the mean loss of logits (n, classes) for class indices (n,) under weights of the classes (classes,)."""
        ...


def training_loss(settings: TrainingSettings) -> Loss:
    """Return the loss whose gradient moves the weights."""
    return _loss(settings, label_smoothing=settings.label_smoothing or 0.0)


def validation_loss(settings: TrainingSettings) -> Loss:
    """Return the loss by which epochs are compared: the same, but against the labels as they are.

    Smoothing is a regulariser of training: a validation loss with it would prefer the epoch that is unsure to the right degree.
    """
    return _loss(settings, label_smoothing=0.0)


def _loss(settings: TrainingSettings, *, label_smoothing: float) -> Loss:
    if settings.loss == "focal":
        focusing = FOCUSING if settings.focusing is None else settings.focusing
        return functools.partial(focal_loss, focusing=focusing, label_smoothing=label_smoothing)
    return functools.partial(cross_entropy, label_smoothing=label_smoothing)


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the mean cross-entropy, as torch computes it.

    Args:
        logits: Shape (n, classes).
        labels: Class indices, shape (n,).
        weight: Of every class, shape (classes,); the mean is over weights then. ``None``: all the same.
        label_smoothing: Share of every label that is spread evenly over all classes (Szegedy et al. 2016), 0 to below 1.
    """
    return torch.nn.functional.cross_entropy(logits, labels, weight, label_smoothing=label_smoothing)


def focal_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    focusing: float,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean focal loss, ``-w (1 - p)^gamma log p`` for the score p of the right class (Lin et al., ICCV 2017).

    With smoothed labels q it is the sum of ``-q w (1 - p)^gamma log p`` over the classes; with a gamma of 0 it is the
    cross-entropy. The mean is over the weights of the images, as in :func:`cross_entropy`.

    Args:
        logits: Shape (n, classes).
        labels: Class indices, shape (n,).
        weight: Of every class, shape (classes,); ``None``: all the same.
        focusing: Gamma, at least 0: how much less an image counts that is already told apart.
        label_smoothing: See :func:`cross_entropy`.
    """
    log_scores = torch.log_softmax(logits, dim=1)
    # Away from zero, where the slope of a power below 1 is infinite: the loss of such a sure image is nothing either way.
    doubt = (1 - log_scores.exp()).clamp(min=torch.finfo(logits.dtype).eps)
    weights = torch.ones_like(logits[0]) if weight is None else weight
    each = -weights * doubt**focusing * log_scores
    own = each.gather(1, labels[:, None])[:, 0]
    mixed = (1 - label_smoothing) * own + label_smoothing * each.mean(dim=1)
    return mixed.sum() / weights[labels].sum()
