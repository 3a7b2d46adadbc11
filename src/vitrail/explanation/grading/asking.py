"""Grading through the door that everybody uses: a method's maps of prepared images, and the table of a whole package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vitrail.explanation.explainer import ExplainableModel, Explainer
from vitrail.explanation.grading.cells import inner_slices
from vitrail.explanation.grading.grade import Maps, Method
from vitrail.explanation.package_model import why_not
from vitrail.explanation.run_explain import EXPLAINERS, explain_batch
from vitrail.records import ByteArray, FloatArray, IntArray, Placement, Quantity

PROMISED = "completeness_error"
"""Parameter of an explanation that says how far its map is from the sum that the method promises, relative to it."""


def method_of(
    model: ExplainableModel,
    name: str,
    *,
    explainer: Explainer | None = None,
    seed: int,
    quantity: Quantity = "logit",
    background: ByteArray | None = None,
) -> Method:
    """Return a method on a model as what grading asks.

    Args:
        model: A loaded model package.
        name: A key of ``EXPLAINERS``, or the name of ``explainer``.
        explainer: The method itself; ``None``: the one of that name.
        seed: Of methods that draw at random.
        quantity: What is explained.
        background: Images to compare with, for methods that want some.
    """
    methods = {name: explainer or EXPLAINERS[name]}

    def maps(pixels: ByteArray, placements: Sequence[Placement], targets: IntArray) -> Maps:
        answers = explain_batch(
            model,
            pixels,
            [at_input(placement) for placement in placements],
            images=["image"] * len(pixels),
            methods=methods,
            targets=[model.classes[target] for target in targets],
            seed=seed,
            quantity=quantity,
            background=background,
        )[name]
        values = np.zeros(pixels.shape[:3], dtype=np.float32)
        for one, placement, answer in zip(values, placements, answers, strict=True):
            one[inner_slices(placement)] = answer.map
        errors = [answer.parameters.get(PROMISED) for answer in answers]
        known = [float(error) for error in errors if isinstance(error, float | int)]
        return Maps(
            values,
            passes=answers[0].forward_passes + answers[0].backward_passes,
            completeness_error=np.array(known) if len(known) == len(answers) else None,
        )

    return maps


def at_input(placement: Placement) -> Placement:
    """Return the placement of an image that is just what the model's input shows: its maps stay at the input's geometry."""
    height = placement.inner_bottom - placement.inner_top
    width = placement.inner_right - placement.inner_left
    return Placement(
        height=height,
        width=width,
        top=0,
        left=0,
        bottom=height,
        right=width,
        inner_top=placement.inner_top,
        inner_left=placement.inner_left,
        inner_bottom=placement.inner_bottom,
        inner_right=placement.inner_right,
    )


def suiting_methods(model: ExplainableModel, names: Sequence[str] | None = None) -> dict[str, str]:
    """Return, of some methods (all where none are named), which suit a model (empty text) and why the others do not."""
    asked: Mapping[str, Explainer] = EXPLAINERS if names is None else {name: EXPLAINERS[name] for name in names}
    return {name: why_not(explainer, model) for name, explainer in asked.items()}


def map_at_input(values: FloatArray, placement: Placement, *, size: int) -> FloatArray:
    """Bring a map of an original image back to the model's input, float32, shape (size, size); zero in the padding.

    It is the inverse of :func:`vitrail.preprocess.restore_map` up to the blur of enlarging and reducing.
    """
    from PIL import Image

    answer = np.zeros((size, size), dtype=np.float32)
    inner = inner_slices(placement)
    height, width = answer[inner].shape
    shown = np.ascontiguousarray(values[placement.top : placement.bottom, placement.left : placement.right], dtype=np.float32)
    answer[inner] = np.asarray(Image.fromarray(shown).resize((width, height), Image.Resampling.BOX))
    return answer
