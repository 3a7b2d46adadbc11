"""Explain an image file with a whole package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision, decide
from vitrail.errors import UsageError
from vitrail.explanation.explainer import ExplainableModel
from vitrail.explanation.run_explain import ALL, AUTO, check_question, explain_batch, general_warnings
from vitrail.records import ByteArray, Explanation, Placement, Quantity

AVERAGED = "occlusion"
"""The method whose maps may be averaged over models: its unit is the score, so the weighted mean of how far each member's score
falls where a patch is covered is how far the ensemble's falls. Class activation maps have units of their own in every network."""


class ExplainablePart(ExplainableModel, Protocol):
    """A single model of a package."""

    @property
    def views(self) -> Sequence[object]:
        """The views of an image over which its scores are averaged."""
        ...

    @property
    def plain(self) -> ExplainablePart:
        """The same model, asked of the image itself alone."""
        ...

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the model's input for one image file and where it lies in the original."""
        ...


class ExplainablePackage(Protocol):
    """A loaded package, as explanations see it: models with weights that sum to 1."""

    @property
    def name(self) -> str:
        """The model's name in its study."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its ``hashes.json``; empty where it is in no folder."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where it was loaded from; ``None``: nowhere."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        ...

    @property
    def decision(self) -> Decision | None:
        """How scores become a class; ``None``: the highest score."""
        ...

    def scores_of(self, image: str | Path) -> npt.NDArray[np.float64]:
        """Return the scores of one image file, shape (classes,)."""
        ...

    @property
    def parts(self) -> tuple[tuple[float, ExplainablePart], ...]:
        """The single models, and how much the scores of each count."""
        ...


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

    Of an ensemble, the map is the weighted mean of its members' occlusion maps, each brought to the image's own geometry. Where
    scores are averaged over views, the map is of the plain one. The score is always that of the package.

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
    asked = methods_of(package, methods)

    def of_part(model: ExplainablePart, wanted: str | None) -> dict[str, Explanation]:
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

    if len(package.parts) == 1 and len(package.parts[0][1].views) == 1:
        return of_part(package.parts[0][1], target)
    scores = package.scores_of(path)
    predicted = int(decide(scores[np.newaxis], package.classes, package.decision)[0])
    index = predicted if target is None else package.classes.index(target)
    found = [(weight, part, of_part(part.plain, package.classes[index])) for weight, part in package.parts]
    return {
        name: _together(package, scores, index, predicted, [(weight, part, one[name]) for weight, part, one in found])
        for name in found[0][2]
    }


def methods_of(package: ExplainablePackage, methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods that can be asked of every part of a package: of several models, that whose maps may be averaged.

    Raises:
        UsageError: Another one was asked for.
    """
    if len(package.parts) == 1:
        return tuple(methods)
    for method in methods:
        if method not in (AUTO, ALL, AVERAGED):
            raise UsageError(
                f"{method}: {package.name} averages {len(package.parts)} models, and only maps in the unit of the score can be "
                f"averaged. Use {AVERAGED}."
            )
    return (AVERAGED,)


def _together(
    package: ExplainablePackage,
    scores: npt.NDArray[np.float64],
    target: int,
    predicted: int,
    found: list[tuple[float, ExplainablePart, Explanation]],
) -> Explanation:
    """Return the weighted mean of the parts' maps of one method."""
    several = len(found) > 1
    values = np.asarray(np.sum([weight * one.map for weight, _, one in found], axis=0), dtype=np.float32)
    first = found[0][2]
    parameters: dict[str, object] = dict(first.parameters)
    if several:
        parameters = {"members": ", ".join(f"{part.name} {weight:.2f}" for weight, part, _ in found)}
    return replace(
        first,
        model=package.name,
        score=float(scores[target]),
        map=values,
        warnings=(
            *general_warnings(package.classes, scores, values, target=target, predicted=predicted),
            *_warnings(found, several=several),
        ),
        parameters=parameters,
        forward_passes=sum(one.forward_passes for _, _, one in found),
        backward_passes=sum(one.backward_passes for _, _, one in found),
        seconds=sum(one.seconds for _, _, one in found),
        package=package.fingerprint,
    )


def _warnings(found: list[tuple[float, ExplainablePart, Explanation]], *, several: bool) -> Iterator[str]:
    """Yield what the single maps are doubtful for, and that they show the image itself where the score is of several views."""
    for _, part, one in found:
        begin = f"{part.name}: " if several else ""
        if len(part.views) > 1:
            yield f"{begin}The map is of the image itself; the score is the mean over {len(part.views)} views of it."
        yield from (f"{begin}{warning}" for warning in one.warnings if several or not warning.startswith("The model gives"))
