"""What a layer holds, before it is asked what that does: its channels, and their mean magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from vitrail.errors import UsageError
from vitrail.explanation.class_activation import Precise, answer_of_cells, shared_passes
from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance, Want
from vitrail.explanation.passes import layer_refusal

Order = Literal["weight", "variance"]
NO_EVIDENCE = "Activations do not depend on the class: the map shows where the layer is active, not what speaks for the class."


@dataclass(frozen=True)
class ActivationMaps:
    """The activations of a layer: ``mean_c |A_c|``, or the magnitude of one channel.

    In the layer's own unit, never negative. Single channels side by side: :func:`~vitrail.explanation.sheets.channel_sheet`.

    Attributes:
        channel: The channel to show, from 0; ``None``: the mean over all of them.
    """

    channel: int | None = None

    needs: ClassVar[str] = "a layer that lies on the image"
    wants: ClassVar[frozenset[Want]] = frozenset({"feature maps"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return layer_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        shared = shared_passes(model, question, self.wants)
        maps = np.abs(np.asarray(shared.feature_maps(question.layer), dtype=np.float64))
        channels = maps.shape[1]
        if self.channel is not None and not 0 <= self.channel < channels:
            raise UsageError(f"channel: {shared.layer_name} has {channels} channels, from 0. Found: {self.channel}.")
        cells = maps.mean(axis=1) if self.channel is None else maps[:, self.channel]
        answer = answer_of_cells(cells, question, layer=shared.layer_name)
        shown: object = f"the mean of {channels}" if self.channel is None else self.channel
        return Relevance(
            maps=answer.maps,
            warnings=tuple((NO_EVIDENCE, *warnings) for warnings in answer.warnings),
            details={**answer.details, "channel": shown, "signed": False},
            layer=shared.layer_name,
            forward_passes=1.0,
        )


def strongest_channels(maps: Precise, gradient: Precise, *, count: int, by: Order) -> tuple[tuple[int, ...], Precise]:
    """Return the channels of one image to look at first, and what they were ordered by, shape (C,).

    Args:
        maps: Activations, (C, h, w).
        gradient: Of what is explained, same shape.
        count: How many to return at most.
        by: ``weight``: the mean gradient, which is Grad-CAM's weight: what speaks for the class most comes first.
            ``variance``: over the places.
    """
    values = gradient.mean(axis=(1, 2)) if by == "weight" else maps.var(axis=(1, 2))
    return tuple(int(channel) for channel in np.argsort(-values, kind="stable")[:count]), values
