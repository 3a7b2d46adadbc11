"""Explain an image file with a whole package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vitrail.decision import decide
from vitrail.errors import UsageError
from vitrail.explanation.package_model import ExplainablePackage, ExplainablePart, members_in_words, model_of
from vitrail.explanation.run_explain import ALL, AUTO, check_question, explain_batch, general_warnings
from vitrail.records import ByteArray, Explanation, Quantity

AVERAGED = "occlusion"
"""The method whose maps may be averaged over models that cannot be asked together: its unit is the score, so the weighted mean of
how far each member's score falls where a patch is covered is how far the ensemble's falls."""


def explain_image(
    package: ExplainablePackage,
    path: Path,
    *,
    image: str,
    method: str | None = None,
    target: str | None = None,
    seed: int = 0,
    quantity: Quantity = "logit",
    layer: str = "",
    background: ByteArray | None = None,
) -> Explanation:
    """Say which places of an image file speak for (and against) a class: :func:`explain_file` with one method.

    Args:
        package: A loaded package.
        path: The image file.
        image: Its path as the record shall name it.
        method: A key of ``EXPLAINERS``; ``None`` or ``auto``: the first that suits the model.
        target: The class to explain; ``None`` is the predicted one.
        seed: Of methods that draw at random.
        quantity: What is explained; see :class:`~vitrail.explanation.explainer.Question`.
        layer: For methods that explain by a layer; empty: their own choice.
        background: Images to compare with; see :class:`~vitrail.explanation.explainer.Question`.

    Raises:
        DataError: It is no readable image.
        UsageError: The method or the class is unknown, or the method does not suit the model.
        PackageError: The model answers with numbers that are not finite.
    """
    if method == ALL:
        raise UsageError("explanation method: all gives several maps. Ask explain_file for them, or name one method.")
    found = explain_file(
        package,
        path,
        image=image,
        methods=(method or AUTO,),
        target=target,
        seed=seed,
        quantity=quantity,
        layer=layer,
        background=background,
    )
    (explanation,) = found.values()
    return explanation


def explain_file(
    package: ExplainablePackage,
    path: Path,
    *,
    image: str,
    methods: Sequence[str] = (AUTO,),
    target: str | None = None,
    seed: int = 0,
    quantity: Quantity = "logit",
    layer: str = "",
    background: ByteArray | None = None,
) -> dict[str, Explanation]:
    """Say which places of an image file speak for (and against) a class, by several methods that share their passes.

    An ensemble is asked as one model that has nothing but scores. Only where its members see different parts of an image, the map
    is the weighted mean of their occlusion maps, each brought to the image's own geometry. Where scores are averaged over views,
    the map is of the plain one. The score is that of the package, up to rounding.

    Args:
        package: A loaded package.
        path: The image file.
        image: Its path as the record shall name it.
        methods: Keys of ``EXPLAINERS``, ``auto`` or ``all``.
        target: See :func:`explain_image`.
        seed: See :func:`explain_image`.
        quantity: See :func:`explain_image`.
        layer: See :func:`explain_image`.
        background: See :func:`explain_image`.

    Returns:
        Per method its explanation.

    Raises:
        DataError: See :func:`explain_image`.
        UsageError: See :func:`explain_image`.
        PackageError: See :func:`explain_image`.
    """
    for method in methods:
        check_question(package.name, package.classes, method=method, target=target)
    models, asked = asked_models(package, methods)

    def ask(model: ExplainablePart, wanted: str | None) -> dict[str, Explanation]:
        pixels, placement = model.prepare(path)
        answers = explain_batch(
            model,
            pixels[None],
            (placement,),
            images=(image,),
            methods=asked,
            targets=None if wanted is None else (wanted,),
            seed=seed,
            quantity=quantity,
            layer=layer,
            background=background,
            decision=package.decision,
        )
        return {name: explanations[0] for name, explanations in answers.items()}

    first = models[0][1]
    if len(models) == 1 and len(first.views) == 1:
        # Where one member of an ensemble counts alone, the answer is the ensemble's all the same.
        return {
            name: replace(one, model=package.name, package=package.fingerprint, parameters=_parameters(package, one))
            for name, one in ask(first, target).items()
        }
    scores = package.scores_of(path)
    predicted = int(decide(scores[np.newaxis], package.classes, package.decision)[0])
    answer = _Answer(scores, predicted, predicted if target is None else package.classes.index(target))
    found = [(weight, model, ask(model.plain, package.classes[answer.target])) for weight, model in models]
    views = tuple(_of_views(package, answer, path, models))
    return {
        name: _together(package, answer, [(weight, model, one[name]) for weight, model, one in found], views)
        for name in found[0][2]
    }


def asked_models(
    package: ExplainablePackage, methods: Sequence[str]
) -> tuple[tuple[tuple[float, ExplainablePart], ...], tuple[str, ...]]:
    """Return the models whose maps are averaged (one, where all of a package can be asked together), and the methods to ask.

    Raises:
        UsageError: A method was asked for whose maps cannot be averaged.
    """
    try:
        return ((1.0, model_of(package)),), tuple(methods)
    except UsageError as error:
        if any(method not in (AUTO, ALL, AVERAGED) for method in methods):
            raise UsageError(
                f"{', '.join(methods)}: {error} Or use {AVERAGED}: its maps of the members can be averaged."
            ) from error
        return package.parts, (AVERAGED,)


@dataclass(frozen=True)
class _Answer:
    """What a package itself says of an image: its scores, the class that it takes, and the one that is explained."""

    scores: npt.NDArray[np.float64]
    predicted: int
    target: int


def _together(
    package: ExplainablePackage,
    answer: _Answer,
    found: list[tuple[float, ExplainablePart, Explanation]],
    views: tuple[str, ...],
) -> Explanation:
    """Return the weighted mean of the models' maps of one method, as an explanation of what the package itself says."""
    values = np.asarray(np.sum([weight * one.map for weight, _, one in found], axis=0), dtype=np.float32)
    general = general_warnings(package.classes, answer.scores, values, target=answer.target, predicted=answer.predicted)
    first = found[0][2]
    return replace(
        first,
        model=package.name,
        score=float(answer.scores[answer.target]),
        map=values,
        warnings=tuple(dict.fromkeys((*general, *views, *_doubts(found)))),
        parameters=_parameters(package, first) if len(found) == 1 else {"members": members_in_words(package.parts)},
        forward_passes=sum(one.forward_passes for _, _, one in found),
        backward_passes=sum(one.backward_passes for _, _, one in found),
        seconds=sum(one.seconds for _, _, one in found),
        package=package.fingerprint,
    )


def _parameters(package: ExplainablePackage, one: Explanation) -> dict[str, object]:
    """Return what made a map; of an ensemble, with the members and their weights."""
    several = {"members": members_in_words(package.parts)} if len(package.parts) > 1 else {}
    return {**one.parameters, **several}


def _of_views(
    package: ExplainablePackage, answer: _Answer, path: Path, models: Sequence[tuple[float, ExplainablePart]]
) -> Iterator[str]:
    """Yield that maps show the image itself where the score is the mean over views of it, and how far that is from the score."""
    several = [(part.name, len(part.views)) for _, part in package.parts if len(part.views) > 1]
    if not several:
        return
    plain = np.sum([weight * model.plain.scores(model.prepare(path)[0][np.newaxis])[0] for weight, model in models], axis=0)
    alone = int(decide(plain[np.newaxis], package.classes, package.decision)[0])
    whose = "" if len(package.parts) == 1 else f" ({', '.join(f'{name}: {views}' for name, views in several)})"
    target, of_views = package.classes[answer.target], max(views for _, views in several)
    yield (
        f"The map is of the image itself, which the model gives {target!r} {plain[answer.target]:.2f}; the score "
        f"{answer.scores[answer.target]:.2f} is the mean over {of_views} views of it{whose}."
    )
    if alone != answer.predicted:
        yield (
            f"Of the image itself the model would say {package.classes[alone]!r}, over its views it says "
            f"{package.classes[answer.predicted]!r}: the map shows an answer that the package does not give."
        )


def _doubts(found: list[tuple[float, ExplainablePart, Explanation]]) -> Iterator[str]:
    """Yield what the single maps are doubtful for."""
    for _, model, one in found:
        begin = f"{model.name}: " if len(found) > 1 else ""
        # Of one model, what the class of the image itself is was said beside the views.
        yield from (f"{begin}{warning}" for warning in one.warnings if begin or not warning.startswith("The model gives"))
