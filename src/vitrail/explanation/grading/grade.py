"""The grade table: every method that suits a model, on the same images, beside baselines that know nothing of the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vitrail.errors import PackageError
from vitrail.explanation.grading.baselines import BASELINE_MAPS, baseline_maps
from vitrail.explanation.grading.cells import BoolArray, DoubleArray
from vitrail.explanation.grading.faithfulness import Removal, RemovalCurves, Scorer, removal_curves
from vitrail.explanation.grading.localisation import localise
from vitrail.explanation.grading.means import RESAMPLES, ROUNDING, Verdict, is_above_zero, mean_estimates
from vitrail.explanation.grading.randomisation import randomisation_test
from vitrail.explanation.grading.sensitivity import RADIUS, SAMPLES, largest_sensitivity
from vitrail.explanation.grading.similarity import GRID, agreements
from vitrail.explanation.run_explain import OF_NO_CLASS
from vitrail.records import (
    ByteArray,
    Estimate,
    FloatArray,
    GradeTable,
    IntArray,
    LocalisationGrade,
    MethodGrade,
    Placement,
    RandomisationTest,
)

UNTRAINED = "untrained network"
DEAR = 60
"""Passes per map above which a method is not asked for maps of slightly changed images, nor of the untrained network."""
AT_A_TIME = 8
"""Images between two looks at the clock."""
AT_LEAST = 2 * AT_A_TIME
"""Images that are graded whatever the time limit is: with fewer, nothing could be told from noise."""
WORTH = 0.01
"""Gain that a method must have over a cheaper one, beside being beyond noise: less is not worth the wait."""


@dataclass(frozen=True)
class Maps:
    """A method's maps of some images.

    Attributes:
        values: Signed, float32, shape (n, size, size), positive where the image speaks for the class.
        passes: Passes of the model per image, forward and backward.
        completeness_error: ``|promised - sum| / |promised|`` of each image, for methods that promise a sum, shape (n,).
    """

    values: FloatArray
    passes: float = 0.0
    completeness_error: DoubleArray | None = None


Method = Callable[[ByteArray, Sequence[Placement], IntArray], Maps]
"""A method on a model: from pixels (n, size, size, channels), placements and classes (n,) to maps."""


@dataclass(frozen=True)
class Images:
    """What a model is graded on.

    Attributes:
        pixels: Prepared images, uint8, shape (n, size, size, channels).
        placements: What of them is image.
        targets: The class explained, shape (n,): usually the predicted one.
        groups: Group number of every image, shape (n,).
        paths: Where they come from; empty when they come from nowhere.
        masks: Where the finding is, shape (n, size, size); rows without any pixel have no mask. ``None``: no masks at all.
    """

    pixels: ByteArray
    placements: tuple[Placement, ...]
    targets: IntArray
    groups: IntArray
    paths: tuple[str, ...] = ()
    masks: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def part(self, start: int, stop: int) -> Images:
        """Return some of them."""
        chosen = slice(start, stop)
        return Images(
            self.pixels[chosen],
            self.placements[chosen],
            self.targets[chosen],
            self.groups[chosen],
            self.paths[chosen],
            None if self.masks is None else self.masks[chosen],
        )


@dataclass
class _Found:
    """What was found of one method or baseline so far, chunk after chunk."""

    maps: list[FloatArray] = field(default_factory=list)
    curves: list[RemovalCurves] = field(default_factory=list)
    errors: list[DoubleArray] = field(default_factory=list)
    sensitivity: list[DoubleArray] = field(default_factory=list)
    passes: float = 0.0
    seconds: float = 0.0

    @property
    def gains(self) -> DoubleArray:
        return np.concatenate([one.relevance_gain for one in self.curves])


def grade_methods(
    name: str,
    scores: Scorer,
    images: Images,
    methods: Mapping[str, Method],
    *,
    untrained: Mapping[str, Method] | None = None,
    removal: Removal | None = None,
    seed: int,
    package: str = "",
    resamples: int = RESAMPLES,
    sensitivity_images: int = 8,
    minutes: float | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> GradeTable:
    """Grade methods of explanation on one model.

    Args:
        name: The model's name.
        scores: The model.
        images: What it is graded on; never test images where the grade decides anything.
        methods: Name -> method.
        untrained: Name -> the same method on the network with re-drawn weights, as a further baseline for that method.
        removal: How parts of an image are removed.
        seed: Same seed, same table, apart from the times.
        package: The fingerprint of the model's package, for the record.
        resamples: Bootstrap resamples of groups.
        sensitivity_images: On how many of the images sensitivity is measured, which asks each method several times more (not
            those of more than 60 passes per map).
        minutes: After so many minutes no images beyond the first 16 are begun; the table says on how many it stands.
        advance: Told of every few images done.

    A method that fails with a :class:`~vitrail.errors.PackageError` is dropped, with a note; where it fails on the untrained
    network alone, that baseline is.

    Returns:
        The table; its ``chosen`` is the method with the highest gain, or a cheaper one that is as good within the noise.
    """
    removal, untrained = removal or Removal(), untrained or {}
    found: dict[str, _Found] = {}
    asked = _Asked({**methods, **{_untrained(name): untrained[name] for name in methods if name in untrained}})
    begun, done = time.monotonic(), 0
    while done < len(images) and (done < AT_LEAST or minutes is None or time.monotonic() - begun < 60 * minutes):
        part = images.part(done, done + AT_A_TIME)
        sensitive = max(0, min(len(part), sensitivity_images - done))
        _add(found, scores, part, asked, removal, seed, sensitive)
        done += len(part)
        advance(len(part))
    seen = images.part(0, done)
    notes: list[str] = []
    if done < len(images):
        notes.append(f"The time limit of {minutes:g} minutes was reached after {done} of {len(images)} images.")
    notes += asked.notes()
    left = tuple(name for name in methods if name in asked.methods)
    found = {name: own for name, own in found.items() if name not in asked.dropped}
    measures = _Measures(seen, found, left, seed=seed, resamples=resamples)
    grades = tuple(measures.grade(one) for one in found)
    table = GradeTable(
        model=name,
        package=package,
        images=seen.paths,
        n=done,
        groups=len(np.unique(seen.groups)),
        settings=_settings(removal, images.pixels.shape[1], seed, resamples, min(sensitivity_images, done)),
        grades=grades,
        agreement=agreements({one: np.concatenate(found[one].maps) for one in left}, seen.placements) if done else (),
        gains={one: tuple(map(float, values.gains)) for one, values in found.items()},
        chosen="",
        why="",
        notes=tuple(notes),
    )
    chosen, why = choose(table, seen.groups, seed=seed, resamples=resamples)
    return replace(table, chosen=chosen, why=why)


def _untrained(name: str) -> str:
    """Return what a method on the network with re-drawn weights is called."""
    return f"{UNTRAINED}: {name}"


class _Asked:
    """The methods that are asked for maps, and those that failed: these are not asked again."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.methods = dict(methods)
        self.dropped: dict[str, str] = {}  # name -> why

    def drop(self, name: str, why: str) -> None:
        """Ask a method no more, nor of the untrained network."""
        for one in (name, _untrained(name)):
            if self.methods.pop(one, None) is not None:
                self.dropped[one] = why

    def notes(self) -> list[str]:
        """Say what was dropped, every reason once."""
        named: dict[str, list[str]] = {}
        for name, why in self.dropped.items():
            if not (name.startswith(f"{UNTRAINED}: ") and name.removeprefix(f"{UNTRAINED}: ") in self.dropped):
                named.setdefault(why, []).append(name)
        return [f"{', '.join(names)}: not graded. {why}" for why, names in named.items()]


def _settings(removal: Removal, size: int, seed: int, resamples: int, sensitive: int) -> dict[str, object]:
    return {
        "steps": removal.steps,
        "cell": removal.side(size),
        "fill": removal.fill,
        "measured": removal.measured,
        "sensitivity_radius": RADIUS,
        "sensitivity_samples": SAMPLES,
        "sensitivity_images": sensitive,
        "agreement_grid": GRID,
        "resamples": resamples,
        "seed": seed,
    }


def _add(
    found: dict[str, _Found],
    scores: Scorer,
    part: Images,
    asked: _Asked,
    removal: Removal,
    seed: int,
    sensitive: int,
) -> None:
    """Ask every method for maps of a few more images and follow their curves."""
    maps: dict[str, FloatArray] = {}
    for name in list(asked.methods):
        method = asked.methods.get(name)
        if method is None:  # the method itself has failed: it is no baseline for anything
            continue
        own = found.setdefault(name, _Found())
        begun = time.monotonic()
        try:
            answer = method(part.pixels, part.placements, part.targets)
        except PackageError as error:
            asked.drop(name, str(error))
            continue
        own.seconds += time.monotonic() - begun
        own.passes += answer.passes * len(part)
        if answer.completeness_error is not None:
            own.errors.append(answer.completeness_error)
        maps[name] = answer.values
    maps |= baseline_maps(part.pixels, part.placements, seed=seed)
    curves = removal_curves(scores, part.pixels, part.placements, part.targets, maps, removal=removal, seed=seed)
    for name in maps:
        own = found.setdefault(name, _Found())
        own.maps.append(maps[name])
        own.curves.append(curves[name])
    few = part.part(0, sensitive)
    for name, method in list(asked.methods.items()):
        if sensitive and not name.startswith(UNTRAINED) and found[name].passes <= DEAR * (len(found[name].gains)):
            values = maps[name][:sensitive]

            def again(pixels: ByteArray, at: Sequence[Placement], targets: IntArray, method: Method = method) -> FloatArray:
                return method(pixels, at, targets).values

            try:
                largest = largest_sensitivity(again, few.pixels, few.placements, few.targets, values, seed=seed)
            except PackageError as error:
                asked.drop(name, str(error))
                continue
            found[name].sensitivity.append(largest)


@dataclass(frozen=True)
class _Measures:
    """Turns what was found into grades."""

    images: Images
    found: dict[str, _Found]
    methods: tuple[str, ...]
    seed: int
    resamples: int

    def grade(self, name: str) -> MethodGrade:
        own = self.found[name]
        areas = [own.gains, np.concatenate([one.deletion_area for one in own.curves])]
        inserted = [one.insertion_area for one in own.curves if one.insertion_area is not None]
        if inserted:
            areas.append(np.concatenate(inserted))
        gain, deletion, *insertion = self._means(*areas)
        grade = MethodGrade(
            name=name,
            baseline=name not in self.methods,
            relevance_gain=gain,
            deletion_area=deletion,
            insertion_area=insertion[0] if insertion else None,
            localisation=self._localisation(own),
            passes=own.passes / len(self.images),
            seconds=own.seconds / len(self.images),
        )
        if grade.baseline:
            return grade
        best, difference, beats = self._against(name)
        return replace(
            grade,
            best_baseline=best,
            difference=difference,
            beats_baselines=beats,
            completeness_error=self._some(own.errors),
            sensitivity=self._some(own.sensitivity),
            randomisation=self._randomisation(name),
        )

    def _against(self, name: str) -> tuple[str, Estimate, Verdict]:
        """Compare a method with every baseline that is one for it; the best is found on the same images, to its advantage."""
        rivals = [*BASELINE_MAPS, *(one for one in self.found if one == _untrained(name))]
        gains = self.found[name].gains
        differences = self._means(*(gains - self.found[rival].gains for rival in rivals))
        best = int(np.argmax([self.found[rival].gains.mean() for rival in rivals]))
        verdicts = {is_above_zero(one) for one in differences}
        beats: Verdict = "no" if "no" in verdicts else "not estimable" if "not estimable" in verdicts else "yes"
        return rivals[best], differences[best], beats

    def _randomisation(self, name: str) -> RandomisationTest | None:
        """Hold a method's maps against its maps of the network that has forgotten everything."""
        other = self.found.get(_untrained(name))
        if other is None:
            return None
        maps, redrawn = (np.concatenate(one.maps) for one in (self.found[name], other))
        stages = [("all weights", redrawn)]
        return randomisation_test(maps, stages, self.images.placements, self.images.groups, seed=self.seed)

    def _localisation(self, own: _Found) -> LocalisationGrade | None:
        masks = self.images.masks
        if masks is None or not masks.any():
            return None
        places = localise(np.concatenate(own.maps), masks, self.images.placements)
        columns = (places.pointing, places.energy, places.rank_accuracy, places.chance)
        return LocalisationGrade(*(self._some([column]) or _nothing() for column in columns))

    def _means(self, *columns: DoubleArray) -> tuple[Estimate, ...]:
        return mean_estimates(np.stack(columns, axis=1), self.images.groups, seed=self.seed, resamples=self.resamples)

    def _some(self, parts: list[DoubleArray]) -> Estimate | None:
        """Return the mean of what is known of the first images, and of those only what is a number; ``None`` where nothing is."""
        if not parts:
            return None
        values = np.concatenate(parts)
        kept = ~np.isnan(values)
        groups = self.images.groups[: len(values)][kept]
        return mean_estimates(values[kept, np.newaxis], groups, seed=self.seed, resamples=self.resamples)[0]


def _nothing() -> Estimate:
    return Estimate(None, None, None, 0, 0, "no interval", "not estimable: no images")


# ---------------------------------------------------------------------------------------------------- which method


def choose(table: GradeTable, groups: IntArray, *, seed: int, resamples: int = RESAMPLES) -> tuple[str, str]:
    """Choose a method by its gain; of those that the best does not clearly beat, the one with the fewest passes.

    A method whose maps are the same for every class is not chosen where there is another, nor one that fails the randomisation
    test. Among equals those that beat their baselines come first.

    Args:
        table: Of :func:`grade_methods`.
        groups: Group number of every image of the table, shape (n,).
        seed: Of the intervals.
        resamples: Behind each interval.

    Returns:
        The method and the reason in a sentence; two empty texts where there is no method.
    """
    known = [grade for grade in table.grades if not grade.baseline and grade.relevance_gain.value is not None]
    if not known:
        return "", ""
    of_class = [grade for grade in known if grade.name not in OF_NO_CLASS] or known
    grades = [grade for grade in of_class if not _fails(grade)] or of_class
    best = max(grades, key=_gain)
    columns = [np.subtract(table.gains[best.name], table.gains[grade.name]) for grade in grades]
    behind = mean_estimates(np.stack(columns, axis=1), groups, seed=seed, resamples=resamples)
    equal = [
        grade
        for grade, one in zip(grades, behind, strict=True)
        if is_above_zero(one) != "yes" or one.value is None or one.value < WORTH
    ]
    chosen = min([grade for grade in equal if grade.beats_baselines == "yes"] or equal, key=lambda grade: grade.passes)
    why = f"{best.name} has the highest gain ({_gain(best):.3f})"
    left_out = []
    for before, after, what in ((known, of_class, "depend on the class"), (of_class, grades, "pass the randomisation test")):
        highest = max(before, key=_gain)
        if highest not in after:
            left_out.append(f"of those that {what}, which {highest.name} ({_gain(highest):.3f}) does not")
    why = " ".join([why, ", and ".join(left_out)]) if left_out else why
    if chosen.name != best.name:
        why = f"{why}; {chosen.name} is as good within the noise ({_gain(chosen):.3f}) and costs less"
    if all(abs(gain) <= ROUNDING for gains in table.gains.values() for gain in gains):
        why = f"the score does not move whatever is replaced in an image: no map can be told from another; {chosen.name} is taken"
    if chosen.beats_baselines == "no":
        why = f"{why}; it does not beat its baselines, so its maps are drawn in grey"
    elif chosen.beats_baselines == "not estimable":
        why = f"{why}; there are too few images to tell whether it beats its baselines"
    return chosen.name, f"{why}."


def _gain(grade: MethodGrade) -> float:
    return grade.relevance_gain.value or 0.0


def _fails(grade: MethodGrade) -> bool:
    """Whether the method's maps hardly change when what the model has learnt is taken away."""
    return grade.randomisation is not None and grade.randomisation.passed is False
