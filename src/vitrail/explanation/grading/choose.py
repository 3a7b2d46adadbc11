"""Grading a package on some images, so that ``auto`` can choose the method that is most faithful for this very model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitrail.decision import Decision, decide
from vitrail.errors import DataError, PackageError, UsageError
from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.explanation.grading.asking import map_at_input, method_of, suiting_methods
from vitrail.explanation.grading.baselines import BASELINE_MAPS
from vitrail.explanation.grading.cells import BoolArray
from vitrail.explanation.grading.faithfulness import Removal
from vitrail.explanation.grading.grade import DEAR, Images, Method, grade_methods
from vitrail.explanation.grading.localisation import mask_at_input, read_mask
from vitrail.explanation.grading.means import RESAMPLES
from vitrail.explanation.grading.one_map import RANDOM_MAPS, grade_maps, method_grade
from vitrail.explanation.grading.redrawn import RedrawnModel
from vitrail.explanation.package_model import CombinedModel, ExplainablePackage, ExplainablePart, model_of, why_not
from vitrail.explanation.run_explain import EXPLAINERS, OF_NO_CLASS, defined_methods
from vitrail.records import Explanation, GradeTable, IntArray
from vitrail.storage import read_record

GRADES = "grades.json"
"""The table's file, beside the package's folder: the package itself is sealed when a model is graded."""
MOST_PASSES = 300
"""Passes per map above which ``auto`` leaves a method out, unless it is asked for by name: grading asks it for many maps."""
ENOUGH_IMAGES = 3 * FEWEST_GROUPS
"""Images on which the time limit should let methods be graded; if it would not, the dearest methods are left out."""
OF_PLAN = Removal(steps=10)
"""How parts are removed where a whole package is graded: with twice the steps the gains hardly change."""
_PACE = 8


@dataclass(frozen=True)
class ToGrade:
    """Image files on which a package is graded.

    Attributes:
        files: The files.
        paths: Their names in the data set.
        groups: Group number of each, shape (n,).
        masks: Name -> files of the mask, for those that have one.
    """

    files: tuple[Path, ...]
    paths: tuple[str, ...]
    groups: IntArray
    masks: Mapping[str, tuple[Path, ...]]


def pick_images(groups: IntArray, *, most: int, seed: int) -> IntArray:
    """Choose images at random, one of every group before a second of any: independent images say most.

    Args:
        groups: Group number of every image, shape (n,).
        most: So many at most.
        seed: Same seed, same images.

    Returns:
        Positions in a random order, shape (up to ``most``,): any first few of them are a sample too.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    seen: dict[int, int] = {}
    turn = np.empty(len(groups), dtype=np.int64)
    for position in order:
        group = int(groups[position])
        turn[position] = seen[group] = seen.get(group, -1) + 1
    return np.asarray(order[np.argsort(turn[order], kind="stable")][:most], dtype=np.int64)


def grade_package(
    package: ExplainablePackage,
    to_grade: ToGrade,
    *,
    methods: Sequence[str] | None = None,
    minutes: float | None = None,
    seed: int,
    resamples: int = RESAMPLES,
    removal: Removal = OF_PLAN,
    advance: Callable[[int], None] = lambda _: None,
) -> GradeTable | None:
    """Grade the methods that suit a package on some images, never on test images.

    Explained is the class that the package predicts. Where scores are averaged over views, the model is graded on the image
    itself, which is what its maps are of; the table says how often it answers differently then. An ensemble is one model.

    Args:
        package: A loaded package.
        to_grade: The images; those that cannot be read are passed over.
        methods: Names; ``None``: all that suit the model and do not cost too much.
        minutes: About how long; methods and images are left out to keep to it, which the table says. ``None``: no limit.
        seed: Same seed, same table, as far as the time limit does not decide.
        resamples: Behind every interval.
        removal: How parts are removed.
        advance: Told of every few images.

    Returns:
        The table, without a method where the members of an ensemble cannot be asked together, which it says; ``None`` where no
        image can be read.
    """
    try:
        whole = model_of(package)
    except UsageError as error:
        return _not_estimable(package, seed=seed, why=str(error))
    prepared = _prepared(whole, to_grade, package.decision)
    if prepared is None:
        return None
    model, (images, notes) = whole.plain, prepared
    names, left_out = _candidates(model, methods, images, removal, minutes)
    untrained, why = _untrained(model, names, seed=seed)
    table = grade_methods(
        package.name,
        model.scores,
        images,
        {name: method_of(model, name, seed=seed) for name in names},
        untrained=untrained,
        removal=removal,
        seed=seed,
        package=package.fingerprint,
        resamples=resamples,
        minutes=minutes,
        advance=advance,
    )
    return replace(table, notes=(*table.notes, *left_out, *why, *notes))


def _not_estimable(package: ExplainablePackage, *, seed: int, why: str) -> GradeTable:
    """Return a table that holds nothing but the reason."""
    notes = (f"Not estimable. {why}",)
    return GradeTable(package.name, package.fingerprint, (), 0, 0, {"seed": seed}, (), (), {}, chosen="", why="", notes=notes)


def kept_grades(package: ExplainablePackage) -> GradeTable | None:
    """Return the grades that lie beside a package's folder, if they are this package's; ``None`` where there are none."""
    if package.folder is None:
        return None
    try:
        table = read_record(package.folder.resolve().parent / GRADES, GradeTable)
    except (OSError, ValueError):
        return None
    return table if table.package and table.package == package.fingerprint else None


def chosen_words(table: GradeTable) -> str:
    """Say how ``auto`` came to its method, to be kept with an explanation."""
    if not table.why:
        return f"automatically, without grades: {' '.join(table.notes)}"
    return f"automatically, by grades on {table.n:,} validation images: {table.why}"


def first_named(package: ExplainablePackage, methods: Sequence[str]) -> str | None:
    """Return the first of some methods that is defined for a package; ``None``: none is, or members cannot be asked together."""
    try:
        model = model_of(package)
    except UsageError:
        return None
    return next((name for name in methods if not why_not(EXPLAINERS[name], model)), None)


def chosen_here(table: GradeTable, package: ExplainablePackage) -> tuple[str, str]:
    """Return the method that ``auto`` takes on this machine, and how it came to it; two empty texts where no graded one is left.

    The most faithful method may need a library that is not installed here: then the next best takes its place, and says so.
    """
    if not table.chosen:
        return "", ""
    model = model_of(package).plain
    known = table.chosen in EXPLAINERS
    reason = why_not(EXPLAINERS[table.chosen], model) if known else "This version of vitrail does not know it."
    if not reason:
        return table.chosen, chosen_words(table)
    defined = [name for name, why in defined_methods(model).items() if not why]
    left = [grade for grade in table.grades if grade.name in defined and grade.relevance_gain.value is not None]
    if not left:
        return "", ""
    of_class = [grade for grade in left if grade.name not in OF_NO_CLASS] or left
    best = max(of_class, key=lambda grade: grade.relevance_gain.value or 0.0)
    return (
        best.name,
        f"{chosen_words(table)} {table.chosen} cannot be used here ({reason.rstrip('.')}): {best.name} is the next best.",
    )


def graded(
    package: ExplainablePackage,
    file: Path,
    explanation: Explanation,
    table: GradeTable | None,
    *,
    removal: Removal = OF_PLAN,
    seed: int,
) -> Explanation:
    """Return an explanation with its own grade: :func:`all_graded` of one method."""
    found = {explanation.method: explanation}
    return all_graded(package, file, found, table, removal=removal, seed=seed)[explanation.method]


def all_graded(
    package: ExplainablePackage,
    file: Path,
    found: Mapping[str, Explanation],
    table: GradeTable | None,
    *,
    removal: Removal = OF_PLAN,
    seed: int,
) -> dict[str, Explanation]:
    """Return explanations of one image, each with its own grade: beside random maps of the image, and by its method's grade in
    the table. A map has the same grade whatever other methods were asked.

    Args:
        package: Which made them.
        file: The image.
        found: Method -> what it said of the image; all of one class.
        table: The package's grades; ``None``: it has none.
        removal: How parts are removed.
        seed: Of the random maps.

    Returns:
        The same explanations, without grades where the members of an ensemble cannot be asked together.
    """
    if not found:
        return {}
    try:
        model = model_of(package).plain
    except UsageError:
        return dict(found)
    pixels, placement = model.prepare(file)
    (target,) = {explanation.target for explanation in found.values()}
    known = {method: None if table is None else table.grade_of(method) for method in found}
    grades = grade_maps(
        model.scores,
        pixels,
        placement,
        {method: map_at_input(one.map, placement, size=len(pixels)) for method, one in found.items()},
        target=package.classes.index(target),
        of_methods={method: grade for method, grade in known.items() if grade is not None},
        removal=removal,
        seed=seed,
    )
    return {method: replace(one, grade=grades[method]) for method, one in found.items()}


def method_graded(found: Mapping[str, Explanation], table: GradeTable) -> dict[str, Explanation]:
    """Return explanations with the grades that their methods have in the table, and none of their own: it costs no pass.

    Args:
        found: Method -> what it said of an image.
        table: The package's grades.

    Returns:
        The same explanations, without a grade where the method has none.
    """
    known = {method: table.grade_of(method) for method in found}
    return {
        method: one if (grade := known[method]) is None else replace(one, grade=method_grade(method, grade))
        for method, one in found.items()
    }


def grading_passes(methods: int, *, removal: Removal = OF_PLAN) -> int:
    """Return at most how many passes it takes to grade the maps of so many methods of one image."""
    return replace(removal, insertion=False).passes(methods + RANDOM_MAPS // 2)


def _prepared(model: ExplainablePart, to_grade: ToGrade, decision: Decision | None) -> tuple[Images, list[str]] | None:
    """Bring the images to the model's input and ask for their classes, with its views; ``None`` where none can be read."""
    ready, masks, notes = [], [], []
    for number, file in enumerate(to_grade.files):
        try:
            pixels, placement = model.prepare(file)
            mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
            if to_grade.paths[number] in to_grade.masks:
                mask = mask_at_input(read_mask(*to_grade.masks[to_grade.paths[number]]), placement, size=len(pixels))
        except (DataError, OSError) as error:
            notes.append(f"{to_grade.paths[number]}: passed over. {error}")
            continue
        ready.append((number, pixels, placement))
        masks.append(mask)
    if not ready:
        return None
    kept = [number for number, _, _ in ready]
    pixels = np.stack([pixels for _, pixels, _ in ready])
    all_masks: BoolArray | None = np.stack(masks) if to_grade.masks else None
    targets = decide(model.scores(pixels), model.classes, decision)
    if len(model.views) > 1:
        alone = decide(model.plain.scores(pixels), model.classes, decision)
        others = int(np.count_nonzero(alone != targets))
        notes.append(
            f"Maps and their grades are of the image itself; the model averages its scores over {len(model.views)} views, and "
            f"says another class of {others:,} of {len(kept):,} images than it would of the image itself."
        )
    return (
        Images(
            pixels,
            tuple(placement for _, _, placement in ready),
            targets,
            to_grade.groups[kept],
            tuple(to_grade.paths[number] for number in kept),
            all_masks,
        ),
        notes,
    )


def _untrained(model: ExplainablePart, names: Sequence[str], *, seed: int) -> tuple[dict[str, Method], list[str]]:
    """Return the methods on the network with re-drawn weights, where it has one; else why there is no such baseline."""
    if isinstance(model, CombinedModel):
        dear = (
            f"the methods that suit several models take more than {DEAR} passes per map, and are not asked of untrained ones too"
        )
        return {}, [f"Randomisation test: not estimable; {dear}. They ask for nothing but scores, which hold what was learnt."]
    if model.network is None:
        return {}, []
    try:
        redrawn = RedrawnModel(model, seed=seed)
    except (UsageError, PackageError) as error:
        return {}, [f"No comparison with an untrained network. {error}"]
    asked = [name for name in names if _cost(model, name) <= DEAR and not why_not(EXPLAINERS[name], redrawn)]
    return {name: method_of(redrawn, name, seed=seed) for name in asked}, []


def _cost(model: ExplainablePart, name: str) -> float:
    cost = EXPLAINERS[name].cost(model)
    return cost.forward + cost.backward


def _candidates(
    model: ExplainablePart, methods: Sequence[str] | None, images: Images, removal: Removal, minutes: float | None
) -> tuple[list[str], list[str]]:
    """Return the methods to grade, and in a sentence each why others are not."""
    notes: list[str] = []
    costs: dict[str, float] = {}
    for name, refused in suiting_methods(model, methods).items():
        if refused and methods is not None:
            notes.append(f"{name}: not graded. {refused}")
        if not refused:
            costs[name] = _cost(model, name)
    if not costs and methods is not None:
        others, more = _candidates(model, None, images, removal, minutes)
        return others, [*notes, "None of the methods that the study names suits this model: all others were asked.", *more]
    cheapest = min(costs, key=lambda name: (name in OF_NO_CLASS, costs[name]))  # it stays: auto needs one to choose
    if methods is None:
        dear = [name for name, cost in costs.items() if cost > MOST_PASSES and name != cheapest]
        notes += [f"{name}: not graded. A map takes {costs.pop(name):,.0f} passes; ask for it by name." for name in dear]
    if minutes is None:
        return list(costs), notes
    pace = _seconds_per_pass(model, images)
    enough = min(ENOUGH_IMAGES, len(images))
    own_baseline = model.network is not None
    while len(costs) > 1 and pace * enough * _passes(costs, removal, own_baseline=own_baseline) > 60 * minutes:
        dearest = max((name for name in reversed(costs) if name != cheapest), key=lambda name: costs[name])
        costs.pop(dearest)
        notes.append(f"{dearest}: not graded. With it, {minutes:g} minutes would not do for {enough} images.")
    return list(costs), notes


def _passes(costs: Mapping[str, float], removal: Removal, *, own_baseline: bool) -> float:
    """Return the passes per image: the maps, those of the untrained network, and what is removed by them and by the baselines."""
    again = [cost for cost in costs.values() if own_baseline and cost <= DEAR]
    return sum(costs.values()) + sum(again) + removal.passes(len(costs) + len(again) + len(BASELINE_MAPS))


def _seconds_per_pass(model: ExplainablePart, images: Images) -> float:
    few = images.pixels[:_PACE]
    model.scores(few)
    begun = time.perf_counter()
    model.scores(few)
    return (time.perf_counter() - begun) / len(few)
