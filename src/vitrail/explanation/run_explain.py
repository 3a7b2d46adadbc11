"""Explain images: choose the methods and the classes, ask, check the answers, bring them back to each image's own geometry."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision, decide
from vitrail.errors import PackageError, UsageError
from vitrail.explanation.activation_maps import ActivationMaps
from vitrail.explanation.attention import AttentionMap, AttentionRollout, GradientRollout, check_attention_layer
from vitrail.explanation.class_activation import Cam, GradCam, GradCamPlusPlus, HiResCam, LayerCam
from vitrail.explanation.explainer import ExplainableModel, Explainer, Question, Relevance, Want
from vitrail.explanation.gradients import Gradient, GradientTimesInput, GuidedBackpropagation
from vitrail.explanation.occlusion import Occlusion
from vitrail.explanation.package_model import why_not
from vitrail.explanation.passes import SharedPasses, images_together, named_layer
from vitrail.explanation.path_gradients import ExpectedGradients, IntegratedGradients, SmoothGrad
from vitrail.explanation.rise import Rise
from vitrail.explanation.superpixels import KernelShap, Lime
from vitrail.explanation.trees import TreeShap
from vitrail.preprocess import restore_map
from vitrail.records import ByteArray, Explanation, FloatArray, Placement, Quantity

# One line per method.
EXPLAINERS: MappingProxyType[str, Explainer] = MappingProxyType(
    {
        "cam": Cam(),
        "grad-cam": GradCam(),
        "grad-cam-plus-plus": GradCamPlusPlus(),
        "layer-cam": LayerCam(),
        "hires-cam": HiResCam(),
        "gradient": Gradient(),
        "gradient-times-input": GradientTimesInput(),
        "guided-backpropagation": GuidedBackpropagation(),
        "integrated-gradients": IntegratedGradients(),
        "expected-gradients": ExpectedGradients(),
        "smooth-grad": SmoothGrad(),
        "attention": AttentionMap(),
        "attention-rollout": AttentionRollout(),
        "gradient-rollout": GradientRollout(),
        "activations": ActivationMaps(),
        "occlusion": Occlusion(),
        "rise": Rise(),
        "lime": Lime(),
        "kernel-shap": KernelShap(),
        "tree-shap": TreeShap(),
    }
)

PREFERRED = ("grad-cam", "occlusion")
"""What ``auto`` means where no method was graded: the first of these that suits the model; the last suits every model."""

OF_NO_CLASS = frozenset({"attention", "attention-rollout", "activations"})
"""Methods whose maps are the same whatever class is asked for. They are graded like others, but a map that is to say why an image
got its class must be about it: ``auto`` takes them only where there is no other."""

AUTO, ALL = "auto", "all"
NOT_GRADED = "automatically: the first method that suits the model; none was graded on it"


def explain_batch(
    model: ExplainableModel,
    pixels: ByteArray,
    placements: Sequence[Placement],
    *,
    images: Sequence[str],
    methods: Sequence[str] | Mapping[str, Explainer] = (AUTO,),
    targets: Sequence[str] | None = None,
    seed: int = 0,
    quantity: Quantity = "logit",
    layer: str = "",
    background: ByteArray | None = None,
    decision: Decision | None = None,
) -> dict[str, tuple[Explanation, ...]]:
    """Say which places of several images speak for (and against) a class, by several methods that share their passes.

    Args:
        model: A loaded model package.
        pixels: The prepared images before scaling, uint8 of shape (n, size, size, channels); left as they are.
        placements: Where those pixels stand in each original image.
        images: Path of each image, for the record.
        methods: Keys of ``EXPLAINERS``; ``auto``: the first that suits the model; ``all``: every one that does. Or the methods
            themselves, by name.
        targets: The class to explain, per image; ``None``: the predicted one.
        seed: Of the methods that draw at random.
        quantity: What is explained; see :class:`Question`.
        layer: For methods that explain by a layer's maps; empty: each method's own choice.
        background: Images to compare with; see :class:`Question`.
        decision: How the model's scores become a class; ``None``: the highest score.

    Returns:
        Per method the explanations, in the order of the images; each map has the original's height and width.

    Raises:
        UsageError: A method or a class is unknown, a method does not suit the model, or the pixels are not the model's.
        PackageError: The model answers with numbers that are not finite.
    """
    asked = choose_methods(model, methods)
    _check_layer(model, asked, layer)
    _check_pixels(model, pixels, placements, images, targets)
    wants = frozenset(want for explainer in asked.values() for want in explainer.wants)
    ask = partial(_ask, model, asked, wants, seed=seed, quantity=quantity, layer=layer, background=background, decision=decision)
    together = images_together(model, wants) or len(pixels)
    answers: dict[str, tuple[Explanation, ...]] = dict.fromkeys(asked, ())
    for start in range(0, len(pixels), together):
        part = slice(start, start + together)
        some = ask(pixels[part], placements[part], images[part], None if targets is None else targets[part])
        answers = {name: answers[name] + some[name] for name in asked}
    if isinstance(methods, Mapping) or AUTO not in methods:
        return answers
    return {name: tuple(map(_not_graded, explanations)) for name, explanations in answers.items()}


def _not_graded(explanation: Explanation) -> Explanation:
    """Say how ``auto`` came to a method where none was graded."""
    return replace(explanation, parameters={**explanation.parameters, "chosen": NOT_GRADED})


def _ask(
    model: ExplainableModel,
    asked: Mapping[str, Explainer],
    wants: frozenset[Want],
    pixels: ByteArray,
    placements: Sequence[Placement],
    images: Sequence[str],
    targets: Sequence[str] | None,
    *,
    seed: int,
    quantity: Quantity,
    layer: str,
    background: ByteArray | None,
    decision: Decision | None,
) -> dict[str, tuple[Explanation, ...]]:
    """Ask all methods about as many images as go through the model together; see :func:`explain_batch`."""
    start = time.perf_counter()
    # A method that compares scores with those of changed images gets both from the same door.
    compared = model.scores(pixels) if not all(explainer.wants for explainer in asked.values()) else None
    passes = SharedPasses(model, pixels, scores=compared, quantity=quantity, wants=wants, layer=layer)
    scores = passes.scores
    for image, of_image in zip(images, scores, strict=True):
        if not np.isfinite(of_image).all():
            raise _not_finite(model, f"the scores of {image} are")
    predicted = decide(scores, model.classes, decision)
    indices = predicted if targets is None else np.array([model.classes.index(target) for target in targets], dtype=np.int64)
    start = start if passes.scores_serve else time.perf_counter()  # the scores are nobody's unless more came with them
    passes.aim(indices)
    passes.prepare()
    preparing = time.perf_counter() - start
    question = Question(
        pixels=_read_only(pixels),
        placements=tuple(placements),
        targets=indices,
        scores=scores,
        seed=seed,
        quantity=quantity,
        layer=layer,
        background=background,
        shared=passes if wants else None,
    )
    answers = {}
    for name, explainer in asked.items():
        start = time.perf_counter()
        relevance = explainer.relevance(model, question)
        seconds = (time.perf_counter() - start + (preparing if explainer.wants else 0.0)) / len(question)
        answers[name] = tuple(
            _explanation(
                model, question, relevance, number, image=image, method=name, seconds=seconds, predicted=int(predicted[number])
            )
            for number, image in enumerate(images)
        )
    return answers


def explain_pixels(
    model: ExplainableModel,
    pixels: ByteArray,
    placement: Placement,
    *,
    image: str,
    method: str | None = None,
    target: str | None = None,
    seed: int = 0,
    quantity: Quantity = "logit",
    layer: str = "",
    background: ByteArray | None = None,
    decision: Decision | None = None,
) -> Explanation:
    """Say which places of one image speak for (and against) a class: :func:`explain_batch` for one image and one method.

    Args:
        model: A loaded model package.
        pixels: The prepared image before scaling, uint8 of shape (size, size, channels); left as it is.
        placement: Where those pixels stand in the original image.
        image: Path of the image, for the record.
        method: A key of ``EXPLAINERS``; ``None`` or ``auto``: the first that suits the model.
        target: The class to explain; ``None`` is the predicted one.
        seed: See :func:`explain_batch`.
        quantity: See :func:`explain_batch`.
        layer: See :func:`explain_batch`.
        background: See :func:`explain_batch`.
        decision: How the model's scores become a class; ``None``: the highest score.

    Returns:
        The explanation; its map has the original's height and width.

    Raises:
        UsageError: The method or the class is unknown, the method does not suit the model, or the pixels are not the model's.
        PackageError: The model answers with numbers that are not finite.
    """
    check_question(model.name, model.classes, method=method, target=target)
    if method == ALL:
        raise UsageError("explanation method: all gives several maps. Ask explain_batch for them, or name one method.")
    answers = explain_batch(
        model,
        pixels[np.newaxis],
        (placement,),
        images=(image,),
        methods=(method or AUTO,),
        targets=None if target is None else (target,),
        seed=seed,
        quantity=quantity,
        layer=layer,
        background=background,
        decision=decision,
    )
    ((explanation,),) = answers.values()
    return explanation


# ---------------------------------------------------------------------------------------------------- what is asked


def check_question(name: str, classes: tuple[str, ...], *, method: str | None, target: str | None) -> None:
    """Find out whether there is such a method and such a class.

    Raises:
        UsageError: There is not.
    """
    if method is not None and method not in EXPLAINERS and method not in (AUTO, ALL):
        raise UsageError(f"explanation method: unknown. Found: {method!r}. Choose one of: {', '.join(EXPLAINERS)}.")
    if target is not None and target not in classes:
        raise UsageError(f"class to explain: {name} does not know {target!r}. Choose one of: {', '.join(classes)}.")


def defined_methods(model: ExplainableModel) -> dict[str, str]:
    """Return why each method is not defined for a model, in a sentence; empty where it is. In the order of ``EXPLAINERS``."""
    return {name: why_not(explainer, model) for name, explainer in EXPLAINERS.items()}


def choose_methods(model: ExplainableModel, methods: Sequence[str] | Mapping[str, Explainer]) -> dict[str, Explainer]:
    """Return the methods that are meant, all of them defined for the model.

    Args:
        model: Whose answers are explained.
        methods: Names, ``auto``, ``all``, or the methods themselves by name.

    Raises:
        UsageError: One is unknown or not defined for the model.
    """
    if isinstance(methods, Mapping):
        given = dict(methods)
    else:
        given = {}
        for name in methods:
            check_question(model.name, model.classes, method=name, target=None)
            valid = (other for other in EXPLAINERS if not why_not(EXPLAINERS[other], model))
            first = next(other for other in PREFERRED if not why_not(EXPLAINERS[other], model)) if name == AUTO else name
            names = tuple(valid) if name == ALL else (first,)
            given |= {one: EXPLAINERS[one] for one in names}
    for name, explainer in given.items():
        reason = why_not(explainer, model)
        if reason:
            others = " or ".join(other for other, why in defined_methods(model).items() if not why)
            raise UsageError(f"{name}: needs {explainer.needs}. {reason} Use {others}.")
    return given


def _check_layer(model: ExplainableModel, asked: Mapping[str, Explainer], layer: str) -> None:
    """Find out before work begins whether the layer can be used."""
    if not layer:
        return
    of_maps = any("feature maps" in explainer.wants for explainer in asked.values())
    if of_maps:
        named_layer(model, layer)
    elif any(isinstance(explainer, AttentionMap) for explainer in asked.values()):
        check_attention_layer(model, layer)
    else:
        by_layer = [name for name, one in EXPLAINERS.items() if "feature maps" in one.wants or isinstance(one, AttentionMap)]
        raise UsageError(f"layer: {', '.join(asked)} does not explain by a layer. Leave it out, or use {' or '.join(by_layer)}.")


def _check_pixels(
    model: ExplainableModel,
    pixels: ByteArray,
    placements: Sequence[Placement],
    images: Sequence[str],
    targets: Sequence[str] | None,
) -> None:
    side, channels = model.recipe.size, model.recipe.channels
    if pixels.ndim != 4 or pixels.shape[1:] != (side, side, channels) or pixels.dtype != np.uint8:
        raise UsageError(
            f"{', '.join(images)[:200]}: {model.name} explains uint8 pixels of shape {(side, side, channels)}. "
            f"Found: {pixels.dtype} of shape {pixels.shape[1:]}. Prepare the image with the model's own recipe."
        )
    if len({len(pixels), len(placements), len(images), len(pixels) if targets is None else len(targets)}) != 1 or not len(pixels):
        raise UsageError(
            "images to explain: give pixels, placements, images and targets of the same number, at least one. "
            f"Found: {len(pixels)}, {len(placements)}, {len(images)}, {'none' if targets is None else len(targets)}."
        )
    for target in targets or ():
        check_question(model.name, model.classes, method=None, target=target)


def _read_only(pixels: ByteArray) -> ByteArray:
    """Return a view that no explainer can write to."""
    view = pixels.view()
    view.flags.writeable = False
    return view


# ---------------------------------------------------------------------------------------------------- what is answered


def _explanation(
    model: ExplainableModel,
    question: Question,
    relevance: Relevance,
    number: int,
    *,
    image: str,
    method: str,
    seconds: float,
    predicted: int,
) -> Explanation:
    """Return one image's part of an answer, at the original's geometry."""
    placement, target = question.placements[number], int(question.targets[number])
    values, errors = relevance.maps[number], relevance.standard_errors
    inner = values[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right]
    general = general_warnings(model.classes, question.scores[number], inner, target=target, predicted=predicted)
    return Explanation(
        image=image,
        model=model.name,
        method=method,
        target=model.classes[target],
        score=float(question.scores[number, target]),
        map=_restored(model, values, placement, method=method),
        warnings=(*general, *relevance.warnings[number]),
        parameters={**relevance.details, **(relevance.details_of[number] if relevance.details_of else {})},
        layer=relevance.layer,
        forward_passes=relevance.forward_passes,
        backward_passes=relevance.backward_passes,
        seconds=seconds,
        package=model.fingerprint,
        seed=question.seed,
        quantity=relevance.quantity or question.quantity,
        standard_error=None if errors is None else _restored(model, errors[number], placement, method=method),
    )


def _restored(model: ExplainableModel, relevance: FloatArray, placement: Placement, *, method: str) -> FloatArray:
    """Return the map at the original's geometry, checked."""
    if not np.isfinite(relevance).all():
        raise _not_finite(model, f"its {method} map holds values that are")
    return restore_map(relevance.astype(np.float32, copy=False), placement)


def _not_finite(model: ExplainableModel, what: str) -> PackageError:
    """Return the error; only who stands in a package can be trained again (a network with re-drawn weights cannot)."""
    advice = " The model package is damaged; train the model again." if model.fingerprint else ""
    return PackageError(f"{model.name}: {what} not finite.{advice}")


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
