"""What a model package answers for image files. Needs the base install only, and nothing of the run that made the package;
methods of explanation that take gradients need the training install.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import DataError
from vitrail.explanation import (
    ALL,
    AUTO,
    PlannedMethod,
    ShownExplanation,
    attention_sheet,
    channel_sheet,
    explain_file,
    explain_image,
    methods_of,
    plan_methods,
    write_map,
    write_picture,
)
from vitrail.explanation.grading import chosen_here, graded, kept_grades
from vitrail.explanation.passes import LAST_MAPS
from vitrail.models import Package, load_package
from vitrail.progress import SILENT, Progress
from vitrail.records import Explanation, Quantity
from vitrail.storage import check_writable, record_to_plain


def explain(
    package: Package,
    image: str | Path,
    *,
    method: str | None = None,
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
) -> ShownExplanation:
    """Say which places of an image speak for (and against) a class.

    Args:
        package: From :func:`vitrail.load_package`.
        image: An image file.
        method: One of :data:`vitrail.explanation.EXPLAINERS`, for example ``grad-cam``, ``integrated-gradients`` or
            ``occlusion``; ``None`` or ``auto``: the first that suits the model.
        target: The class to explain; ``None``: the predicted one.
        layer: For methods by feature maps: the name of a layer or of a module, for example ``blocks.5``; empty: the last feature
            maps. For ``attention``: the name of a block; after a colon how its heads are joined, or one of them:
            ``blocks.5:max``, ``blocks.5:2``. A name that is none is answered by those that are.
        quantity: What is explained: the class's ``logit``, its ``probability``, or its ``contrast`` to the next class.
        seed: Of methods that draw at random: same seed, same map.

    Returns:
        The explanation; its map has the upright image's height and width. ``.plot()`` shows it, ``.save(path)`` keeps it.

    Raises:
        DataError: It is no readable image.
        UsageError: The method, the class or the layer is unknown, or the method does not suit the model.
    """
    found = explain_image(
        package, Path(image), image=str(image), method=method, target=target, layer=layer, quantity=quantity, seed=seed
    )
    return ShownExplanation.of(found)


def explanation_plan(package: Package, method: str | None) -> tuple[tuple[PlannedMethod, ...], float]:
    """Return what explaining one image will cost, before it begins, and how long one image takes to pass through the package.

    Args:
        package: From :func:`vitrail.load_package`.
        method: A method, ``auto`` or ``all``.

    Returns:
        The methods; with ``all``, those that are not defined for the model too. Then seconds per forward pass.
    """
    model = package.parts[0].model.plain
    side, channels = model.recipe.size, model.recipe.channels
    blank = np.zeros((1, side, side, channels), dtype=np.uint8)
    model.scores(blank)  # the first pass loads the network
    start = time.perf_counter()
    model.scores(blank)
    seconds = time.perf_counter() - start
    return plan_methods(model, methods_of(package, (method or AUTO,))), seconds


def explain_files(
    package_folder: Path,
    images: Sequence[Path],
    *,
    method: str | None = None,
    target: str | None = None,
    layer: str = "",
    quantity: Quantity = "logit",
    seed: int = 0,
    output: Path,
    progress: Progress = SILENT,
    tell: Callable[[Sequence[PlannedMethod], float], None] | None = None,
) -> list[dict[str, Any]]:
    """Explain image files with a model package: a map and a picture of it for each.

    Args:
        package_folder: The model package; nothing else of a run is needed.
        images: Image files.
        method: How; ``None`` or ``auto``: the one that was graded as the most faithful for this model, where its grades lie
            beside the package, else the first that suits; ``all``: every method that is defined for it.
        target: Class to explain; ``None``: the predicted one.
        layer: See :func:`explain`. Of ``attention`` alone, ``all``: one sheet of all blocks and heads per image.
        quantity: See :func:`explain`.
        seed: See :func:`explain`.
        output: Folder for the maps (``.npy``, float32, the upright image's height and width) and pictures (``.png``).
        progress: Told of every image.
        tell: Told before the work begins what ``all`` will cost per image: see :func:`explanation_plan`.

    Returns:
        What ``vitrail explain --json`` prints, one entry per image and method in their order; an image that could not be read
        has an ``error`` and nulls elsewhere, a method that ``all`` leaves out is there once per image with the reason under
        ``refused``. ``activations`` alone has a ``sheet`` of single channels.

    Raises:
        UsageError: The package, the method, the layer or the target cannot be used.
    """
    check_writable(output)
    package = load_package(package_folder)
    if method == "attention" and layer == "all":
        return _attention_sheets(package, images, output, progress)
    refused: list[PlannedMethod] = []
    if method == ALL:
        plan, seconds = explanation_plan(package, method)
        refused = [one for one in plan if one.refusal]
        if tell is not None:
            tell(plan, seconds)
    table = kept_grades(package_folder, package)
    chosen, how = chosen_here(table, package) if table and method in (None, AUTO) else ("", "")
    method = chosen or method
    answers: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            nothing = dict.fromkeys(("method", "target", "score", "map", "picture"))
            answer: dict[str, Any] = {"image": str(image), **nothing, "warnings": []}
            try:
                found = explain_file(
                    package,
                    image,
                    image=str(image),
                    methods=(method or AUTO,),
                    target=target,
                    layer=layer,
                    quantity=quantity,
                    seed=seed,
                )
            except DataError as error:
                answers.append({**answer, "error": str(error)})
            else:
                if table is not None and method != ALL:
                    found = {name: graded(package, image, one, table, seed=seed) for name, one in found.items()}
                if chosen:
                    found = {name: replace(one, parameters={**one.parameters, "chosen": how}) for name, one in found.items()}
                answers += [answer | _written(one, image, output, number, package.name) for one in found.values()]
                if method == "activations":
                    answers[-1]["sheet"] = _channels(package, image, output, number, found[method])
                answers += [answer | {"method": one.method, "refused": one.refusal} for one in refused]
            advance()
    return answers


def _attention_sheets(package: Package, images: Sequence[Path], output: Path, progress: Progress) -> list[dict[str, Any]]:
    """Write for each image where every head of every block looks, as one picture, and the maps of it, in cells."""
    methods_of(package, ("attention",))  # of several models there is no common sheet
    model = package.parts[0].model.plain
    answers: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            answer: dict[str, Any] = {
                "image": str(image),
                "method": "attention",
                "layer": "all",
                "parameters": {},
                "warnings": [],
            }
            try:
                pixels, _ = model.prepare(image)
            except DataError as error:
                answers.append({**answer, **dict.fromkeys(("target", "score", "map", "picture")), "error": str(error)})
            else:
                sheet = attention_sheet(model, pixels)
                stem = output / f"{number:03d}-{image.stem[:60]}-{package.name[:40]}-attention-all"
                answer |= {"target": sheet.target, "score": sheet.score, "parameters": {"panels": list(sheet.titles)}}
                files = {"map": str(sheet.save(f"{stem}.npy")), "picture": str(sheet.save(f"{stem}.png"))}
                answers.append(answer | files | {"warnings": [SHEET_GEOMETRY]})
            advance()
    return answers


SHEET_GEOMETRY = "A sheet is drawn over what the model was given, not over the original image; its maps are in cells."


def _channels(package: Package, image: Path, output: Path, number: int, explanation: Explanation) -> str:
    """Draw the channels of a layer that weigh most for the class, and return where."""
    model = package.parts[0].model.plain
    sheet = channel_sheet(
        model,
        model.prepare(image)[0],
        layer="" if explanation.layer == LAST_MAPS else explanation.layer,
        target=explanation.target,
        quantity=explanation.quantity,
    )
    return str(sheet.save(output / f"{number:03d}-{image.stem[:60]}-{package.name[:40]}-activations-channels.png"))


def _written(explanation: Explanation, image: Path, output: Path, number: int, name: str) -> dict[str, Any]:
    """Write map and picture of an explanation and return its entry."""
    # The number keeps two images of one name in different folders apart; names are cut to what a file name may hold.
    stem = f"{number:03d}-{image.stem[:60]}-{name[:40]}-{explanation.method}"
    return {
        "method": explanation.method,
        "target": explanation.target,
        "score": explanation.score,
        "map": str(write_map(explanation, output / f"{stem}.npy")),
        "picture": str(write_picture(explanation, image, output / f"{stem}.png")),
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
