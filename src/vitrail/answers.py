"""What a model package answers for image files. Needs the base install only, and nothing of the run that made the package;
methods of explanation that take gradients need the training install.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from vitrail.errors import DataError
from vitrail.explanation import (
    ALL,
    AUTO,
    Agreement,
    ExplanationPlan,
    PlannedMethod,
    ShownExplanation,
    ShownExplanations,
    agreement_of,
    asked_models,
    attention_sheet,
    channel_sheet,
    choose_methods,
    defined_methods,
    explain_file,
    plan_methods,
    write_map,
    write_overview,
    write_picture,
    write_shares,
)
from vitrail.explanation.agreement import TOP
from vitrail.explanation.cost import pass_units
from vitrail.explanation.grading import all_graded, chosen_here, grading_passes, kept_grades, method_graded
from vitrail.explanation.passes import LAST_MAPS
from vitrail.explanation.run_explain import check_question
from vitrail.models import Package, load_package
from vitrail.progress import SILENT, Progress
from vitrail.records import Explanation, GradeTable, Quantity
from vitrail.storage import check_writable, record_to_plain

WORTH_TELLING = 60
"""Forward passes per image above which the cost of a single method is told before, too; a backward pass counts as two."""


@overload
def explain(  # type: ignore[overload-overlap]  # a text that happens to be "all" has several answers, whatever its type says
    package: Package,
    image: str | Path,
    *,
    method: Literal["all"],
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
    grade: bool = True,
) -> ShownExplanations: ...


@overload
def explain(
    package: Package,
    image: str | Path,
    *,
    method: str | None = None,
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
    grade: bool = True,
) -> ShownExplanation: ...


def explain(
    package: Package,
    image: str | Path,
    *,
    method: str | None = None,
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
    grade: bool = True,
) -> ShownExplanation | ShownExplanations:
    """Say which places of an image speak for (and against) a class.

    Where a run has left grades beside the package, they are used: ``auto`` follows them, and every map has its own ``grade``,
    with which it is drawn in grey where it does not hold what it says. Grading a map takes some two hundred passes, whatever
    the map itself costs: over many images, leave it out with ``grade=False``.

    Args:
        package: From :func:`vitrail.load_package`.
        image: An image file.
        method: One of :data:`vitrail.explanation.EXPLAINERS`, for example ``grad-cam``, ``integrated-gradients`` or
            ``occlusion``; ``None`` or ``auto``: the most faithful one by the grades beside the package, where there are any,
            else the first that suits the model; ``all``: every method that is defined for it, see :func:`explanation_plan` for
            what they cost.
        target: The class to explain; ``None``: the predicted one.
        layer: For methods by feature maps: the name of a layer or of a module, for example ``blocks.5``; empty: the last feature
            maps. For ``attention``: the name of a block; after a colon how its heads are joined, or one of them:
            ``blocks.5:max``, ``blocks.5:2``. A name that is none is answered by those that are.
        quantity: What is explained: the class's ``logit``, its ``probability``, or its ``contrast`` to the next class.
        seed: Of methods that draw at random: same seed, same map.
        grade: Whether to hold each map against random maps of its image, where grades lie beside the package. ``False``: its
            ``grade`` says how its method did on other images, and nothing of this map; ``auto`` follows the grades all the same.

    Returns:
        The explanation; its map has the upright image's height and width. ``.plot()`` shows it, ``.save(path)`` keeps it. For
        ``all``: the explanations by method; ``.plot()`` shows all side by side, ``.agreement`` says where they agree.

    Raises:
        DataError: It is no readable image.
        UsageError: The method, the class or the layer is unknown, or the method does not suit the model.
    """
    options = _Options(method, target, layer, quantity, seed, grade)
    found = _explained(package, kept_grades(package), Path(image), str(image), options)
    if method == ALL:
        models, _ = asked_models(package, (ALL,))
        why_not = defined_methods(models[0][1]) if len(models) == 1 else {}
        return ShownExplanations(tuple(found.values()), {name: why for name, why in why_not.items() if why})
    (explanation,) = found.values()
    return ShownExplanation.of(explanation)


@dataclass(frozen=True)
class _Options:
    """What is asked of every image; see :func:`explain`."""

    method: str | None
    target: str | None
    layer: str
    quantity: Quantity
    seed: int
    grade: bool


def _explained(package: Package, table: GradeTable | None, file: Path, image: str, options: _Options) -> dict[str, Explanation]:
    """Explain one image for every door: the method by the package's grades where ``auto`` is meant, and maps with grades."""
    chosen, how = chosen_here(table, package) if table and options.method in (None, AUTO) else ("", "")
    found = explain_file(
        package,
        file,
        image=image,
        methods=(chosen or options.method or AUTO,),
        target=options.target,
        layer=options.layer,
        quantity=options.quantity,
        seed=options.seed,
    )
    if table is not None:
        found = all_graded(package, file, found, table, seed=options.seed) if options.grade else method_graded(found, table)
    if chosen:
        found = {name: replace(one, parameters={**one.parameters, "chosen": how}) for name, one in found.items()}
    return found


def explanation_plan(package: Package, method: str | None = None, *, grade: bool = True) -> ExplanationPlan:
    """Return what explaining one image will cost, before it begins.

    Args:
        package: From :func:`vitrail.load_package`.
        method: A method, ``auto`` or ``all``.
        grade: See :func:`explain`.

    Returns:
        The methods, with ``all`` also those that are not defined for the model, and the passes that grading their maps takes.

    Raises:
        UsageError: The method is unknown or does not suit the model.
    """
    table = kept_grades(package)
    chosen = chosen_here(table, package)[0] if table and method in (None, AUTO) else ""
    models, asked = asked_models(package, (chosen or method or AUTO,))
    plans = [plan_methods(model.plain, asked) for _, model in models]
    if len(plans) > 1:  # members that cannot be asked together are all asked by the one method
        costs = [one for (one,) in plans]
        forward, backward = sum(one.forward for one in costs), sum(one.backward for one in costs)
        return ExplanationPlan((replace(costs[0], forward=forward, backward=backward),))
    (planned,) = plans
    graded = grade and table is not None
    return ExplanationPlan(planned, grading_passes(sum(not one.refusal for one in planned)) if graded else 0)


def seconds_per_pass(package: Package) -> float:
    """Return how long one image takes to pass through what is asked: a whole package, or one of its members on average."""
    seconds = 0.0
    models, _ = asked_models(package, (AUTO,))
    for model in (one.plain for _, one in models):
        side, channels = model.recipe.size, model.recipe.channels
        blank = np.zeros((1, side, side, channels), dtype=np.uint8)
        model.scores(blank)  # the first pass loads the network
        start = time.perf_counter()
        model.scores(blank)
        seconds += time.perf_counter() - start
    return seconds / len(models)


def explain_files(
    package_folder: Path,
    images: Sequence[Path],
    *,
    method: str | None = None,
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
    grade: bool = True,
    output: Path,
    progress: Progress = SILENT,
    tell: Callable[[ExplanationPlan, float, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Explain image files with a model package: a map and a picture of it for each, and an overview of all maps of an image.

    Args:
        package_folder: The model package; nothing else of a run is needed.
        images: Image files.
        method: How; ``None`` or ``auto``: the one that was graded as the most faithful for this model, where its grades lie
            beside the package, else the first that suits; ``all``: every method that is defined for it.
        target: Class to explain; ``None``: the predicted one.
        layer: See :func:`explain`. Of ``attention`` alone, ``all``: one sheet of all blocks and heads per image.
        quantity: See :func:`explain`.
        seed: See :func:`explain`.
        grade: See :func:`explain`.
        output: Folder for the maps (``.npy``, float32, the upright image's height and width) and pictures (``.png``); one
            overview per image, with titles and colour bars, and where there are several methods the map of their agreement.
        progress: Told of every image.
        tell: Told before the work begins what ``all`` will cost, or a single method where it is much: what one image takes (see
            :func:`explanation_plan`), the seconds of a forward pass, and how many images there are.

    Returns:
        What ``vitrail explain --json`` prints, one entry per image and method in their order; an image that could not be read
        has an ``error`` and nulls elsewhere, a method that ``all`` leaves out is there once per image with the reason under
        ``refused``. ``activations`` alone has a ``sheet`` of single channels.

    Raises:
        UsageError: The package, the method, the layer or the target cannot be used.
    """
    check_writable(output)
    package = load_package(package_folder)
    check_question(package.name, package.classes, method=method, target=target)
    if method == "attention" and layer == "all":
        return _attention_sheets(package, images, output, progress)
    plan = explanation_plan(package, method, grade=grade)
    if tell is not None and (method == ALL or pass_units(*plan.passes) > WORTH_TELLING):
        tell(plan, seconds_per_pass(package), len(images))
    refused = [one for one in plan.methods if one.refusal]
    options, table = _Options(method, target, layer, quantity, seed, grade), kept_grades(package)
    answers: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            stem = output / _stem(number, image, package)
            answers += _entries(package, table, image, stem, options, refused)
            advance()
    return answers


def _entries(
    package: Package, table: GradeTable | None, image: Path, stem: Path, options: _Options, refused: Sequence[PlannedMethod]
) -> list[dict[str, Any]]:
    """Explain an image, write what was found, and return its entries, one per method, those that are refused last."""
    try:
        found = _explained(package, table, image, str(image), options)
    except DataError as error:
        return [{**_nothing(image), "error": str(error)}]
    together = _written_together(found, image, stem)
    made = [_nothing(image) | _written(one, image, Path(f"{stem}-{name}")) | together[name] for name, one in found.items()]
    if "activations" in found and len(found) == 1:
        made[-1]["sheet"] = _channels(package, image, stem, found["activations"])
    return made + [{**_nothing(image), "method": one.method, "refused": one.refusal} for one in refused]


def _nothing(image: Path) -> dict[str, Any]:
    """Return the entry of an image before anything is known of it."""
    keys = ("method", "target", "score", "map", "picture", "overview", "agreement", "grade")
    return {"image": str(image), **dict.fromkeys(keys), "warnings": []}


def _attention_sheets(package: Package, images: Sequence[Path], output: Path, progress: Progress) -> list[dict[str, Any]]:
    """Write for each image where every head of every block looks, as one picture, and the maps of it, in cells."""
    ((_, whole),), asked = asked_models(package, ("attention",))
    choose_methods(whole, asked)  # of several models there is no common sheet
    model = package.parts[0].model.plain
    answers: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            answer = _nothing(image) | {"method": "attention", "layer": "all", "parameters": {}}
            try:
                pixels, _ = model.prepare(image)
            except DataError as error:
                answers.append({**answer, "error": str(error)})
            else:
                sheet = attention_sheet(model, pixels, decision=package.decision)
                stem = output / f"{_stem(number, image, package)}-attention-all"
                answer |= {"target": sheet.target, "score": sheet.score, "parameters": {"panels": list(sheet.titles)}}
                files = {"map": str(sheet.save(f"{stem}.npy")), "picture": str(sheet.save(f"{stem}.png"))}
                answers.append(answer | files | {"warnings": [SHEET_GEOMETRY]})
            advance()
    return answers


SHEET_GEOMETRY = "A sheet is drawn over what the model was given, not over the original image; its maps are in cells."


def _channels(package: Package, image: Path, stem: Path, explanation: Explanation) -> str:
    """Draw the channels of a layer that weigh most for the class, and return where."""
    model = package.parts[0].model.plain
    sheet = channel_sheet(
        model,
        model.prepare(image)[0],
        layer="" if explanation.layer == LAST_MAPS else explanation.layer,
        target=explanation.target,
        quantity=explanation.quantity,
    )
    return str(sheet.save(f"{stem}-activations-channels.png"))


def _stem(number: int, image: Path, package: Package) -> str:
    """Return how the names of an image's files begin."""
    # The number keeps two images of one name in different folders apart; names are cut to what a file name may hold.
    return f"{number:03d}-{image.stem[:60]}-{package.name[:40]}"


def _written_together(found: Mapping[str, Explanation], image: Path, stem: Path) -> dict[str, dict[str, Any]]:
    """Write the overview of an image and, of several methods, where they agree; return what it adds to each method's entry."""
    explanations = tuple(found.values())
    agreement = agreement_of(explanations)
    overview = str(write_overview(explanations, image, Path(f"{stem}-overview.png"), agreement=agreement))
    if len(found) == 1:
        return {name: {"overview": overview, "agreement": None} for name in found}
    places = str(write_shares(agreement, Path(f"{stem}-agreement.npy"))) if agreement.n >= 2 else None
    return {name: {"overview": overview, "agreement": _agreement_entry(agreement, name, places)} for name in found}


def _agreement_entry(agreement: Agreement, method: str, places: str | None) -> dict[str, Any]:
    """Return one method's row of the agreement; the rows of all methods together are the matrix."""
    row: dict[str, float | None] = {}
    if method in agreement.methods:
        row = dict(zip(agreement.methods, agreement.rank_correlations[agreement.methods.index(method)], strict=True))
    return {
        "methods": agreement.n,
        "left_out": agreement.left_out.get(method, ""),
        "rank_correlation": row,
        "mean_rank_correlation": agreement.mean_rank_correlation,
        "cells": list(agreement.cells),
        "top": TOP,
        "chance": agreement.chance,
        "map": places,
        "words": agreement.words,
    }


def _written(explanation: Explanation, image: Path, stem: Path) -> dict[str, Any]:
    """Write map and picture of an explanation and return its entry."""
    return {
        "method": explanation.method,
        "target": explanation.target,
        "score": explanation.score,
        "map": str(write_map(explanation, Path(f"{stem}.npy"))),
        "picture": str(write_picture(explanation, image, Path(f"{stem}.png"))),
        "warnings": list(explanation.warnings),
        "layer": explanation.layer,
        "quantity": explanation.quantity,
        "parameters": explanation.parameters,
        "forward_passes": explanation.forward_passes,
        "backward_passes": explanation.backward_passes,
        "seconds": explanation.seconds,
        "seed": explanation.seed,
        "package": explanation.package,
        "grade": None if explanation.grade is None else record_to_plain(explanation.grade),
    }
