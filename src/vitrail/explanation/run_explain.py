"""Explain one image: choose the method and the class, ask, check the answer, bring it back to the image's own geometry."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision, decide
from vitrail.errors import PackageError, UsageError
from vitrail.explanation.class_activation import GradCam, HiResCam
from vitrail.explanation.explainer import ExplainableModel, Explainer, Question, Relevance
from vitrail.explanation.occlusion import Occlusion
from vitrail.preprocess import restore_map
from vitrail.records import ByteArray, Explanation, FloatArray, Placement

# One line per method. Without a wish, the first that suits the model is used; the last suits every model.
EXPLAINERS: MappingProxyType[str, Explainer] = MappingProxyType(
    {
        "grad-cam": GradCam(),
        "hires-cam": HiResCam(),
        "occlusion": Occlusion(),
    }
)


def explain_pixels(
    model: ExplainableModel,
    pixels: ByteArray,
    placement: Placement,
    *,
    image: str,
    method: str | None = None,
    target: str | None = None,
    decision: Decision | None = None,
) -> Explanation:
    """Say which places of an image speak for (and against) a class.

    Args:
        model: A loaded model package.
        pixels: The prepared image before scaling, uint8 of shape (size, size, channels); left as it is.
        placement: Where those pixels stand in the original image.
        image: Path of the image, for the record.
        method: A key of ``EXPLAINERS``; ``None`` is the first that suits the model.
        target: The class to explain; ``None`` is the predicted one.
        decision: How the model's scores become a class; ``None``: the highest score.

    Returns:
        The explanation; its map has the original's height and width.

    Raises:
        UsageError: The method or the class is unknown, the method does not suit the model, or the pixels are not the model's.
        PackageError: The model answers with numbers that are not finite.
    """
    check_question(model.name, model.classes, method=method, target=target)
    side, channels = model.recipe.size, model.recipe.channels
    if pixels.shape != (side, side, channels) or pixels.dtype != np.uint8:
        raise UsageError(
            f"{image}: {model.name} explains uint8 pixels of shape {(side, side, channels)}. "
            f"Found: {pixels.dtype} of shape {pixels.shape}. Prepare the image with the model's own recipe."
        )
    scores = model.scores(pixels[np.newaxis])[0]
    if not np.isfinite(scores).all():
        raise PackageError(
            f"{model.name}: the scores of {image} are not finite. The model package is damaged; train the model again."
        )
    predicted = int(decide(scores[np.newaxis], model.classes, decision)[0])
    index = predicted if target is None else model.classes.index(target)
    question = Question(pixels=_read_only(pixels), placement=placement, target=index, score=float(scores[index]))
    name, relevance = _ask(model, question, method=method)
    inner = relevance.map[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right]
    return Explanation(
        image=image,
        model=model.name,
        method=name,
        target=model.classes[index],
        score=question.score,
        map=_restored(model, relevance.map, placement, method=name),
        warnings=(*general_warnings(model.classes, scores, inner, target=index, predicted=predicted), *relevance.warnings),
        details=relevance.details,
    )


def check_question(name: str, classes: tuple[str, ...], *, method: str | None, target: str | None) -> None:
    """Find out whether there is such a method and such a class.

    Raises:
        UsageError: There is not.
    """
    if method is not None and method not in EXPLAINERS:
        raise UsageError(f"explanation method: unknown. Found: {method!r}. Choose one of: {', '.join(EXPLAINERS)}.")
    if target is not None and target not in classes:
        raise UsageError(f"class to explain: {name} does not know {target!r}. Choose one of: {', '.join(classes)}.")


def _ask(model: ExplainableModel, question: Question, *, method: str | None) -> tuple[str, Relevance]:
    """Ask one method, or one after the other until one suits the model."""
    asked = EXPLAINERS if method is None else {method: EXPLAINERS[method]}
    for name, explainer in asked.items():
        relevance = explainer.relevance(model, question)
        if relevance is not None:
            return name, relevance
    name, explainer = next(iter(asked.items()))
    others = " or ".join(other for other in EXPLAINERS if EXPLAINERS[other].needs != explainer.needs)
    raise UsageError(f"{name}: needs {explainer.needs}. Found: {model.name}, which is none. Use {others}.")


def _read_only(pixels: ByteArray) -> ByteArray:
    """Return a view that no explainer can write to."""
    view = pixels.view()
    view.flags.writeable = False
    return view


def _restored(model: ExplainableModel, relevance: FloatArray, placement: Placement, *, method: str) -> FloatArray:
    """Return the map at the original's geometry, checked."""
    if not np.isfinite(relevance).all():
        raise PackageError(
            f"{model.name}: its {method} map holds values that are not finite. The model package is damaged; "
            "train the model again."
        )
    return restore_map(relevance.astype(np.float32, copy=False), placement)


def general_warnings(
    classes: tuple[str, ...], scores: npt.NDArray[np.float64], inner: FloatArray, *, target: int, predicted: int
) -> tuple[str, ...]:
    """Return what is doubtful whatever the method: the class was not predicted, or the map points nowhere."""
    warnings = []
    if target != predicted:
        warnings.append(
            f"The model gives {classes[target]!r} {scores[target]:.2f} and predicts {classes[predicted]!r} "
            f"({scores[predicted]:.2f}): the map shows what speaks for a class that was not chosen."
        )
    if np.ptp(inner) <= 1e-6 * np.abs(inner).max():
        warnings.append("The map is the same everywhere: this method finds no place that matters to the score.")
    return tuple(warnings)
