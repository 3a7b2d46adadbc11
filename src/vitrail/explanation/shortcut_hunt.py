"""The shortcut hunt: where does a model look, and does it need to?

Two tests that know nothing of one another, on validation images. First, whether its maps point outside the anatomy more than
their area, and than the same network before it learnt, would have it. Second, whether the model still knows the classes when the
anatomy is replaced, beyond what the outline of the anatomy tells. Either alone errs: maps spill over, and replaced parts are
unlike anything the model has seen. A shortcut is found only where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitrail.audit.text_lines import find_lines
from vitrail.datasets import read_image
from vitrail.decision import Decision
from vitrail.errors import DataError, PackageError, UsageError
from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.explanation.foreground import foreground
from vitrail.explanation.grading.asking import method_of
from vitrail.explanation.grading.cells import BoolArray, DoubleArray
from vitrail.explanation.grading.choose import pick_images
from vitrail.explanation.grading.faithfulness import Scorer
from vitrail.explanation.grading.grade import DEAR, Method
from vitrail.explanation.grading.localisation import mask_at_input
from vitrail.explanation.grading.means import RESAMPLES
from vitrail.explanation.grading.redrawn import RedrawnModel
from vitrail.explanation.hunting.changes import (
    BORDER_ALONE,
    CHANGES,
    WHOLE,
    Survival,
    changed_images,
    scores_of,
    smallest_found,
    survival,
)
from vitrail.explanation.hunting.places import Verdict, areas_of, places_of, region_shares, shares_in
from vitrail.explanation.hunting.wording import message_of, verdict_of
from vitrail.explanation.occlusion import Occlusion
from vitrail.explanation.package_model import ExplainablePackage, ExplainablePart, model_of, why_not
from vitrail.explanation.run_explain import AUTO, EXPLAINERS, choose_methods
from vitrail.records import ByteArray, FloatArray, IntArray, Placement, RegionShare, ShortcutHunt

COARSE = Occlusion(patch=1 / 7, stride=1.0)
"""Asked in the place of a method that is dearer than 60 passes per map: about 50 passes, fine enough to tell corners apart."""
FIRST = "hires-cam"
"""Asked of every model that it suits, whatever method the model's gallery shows. Shares of a map's relevance are counted here, so
it must say place by place what the logit gains. Grad-CAM averages the gradient over the places first: with maximum pooling, where
one place alone counts, it hands the corner's share to all others and missed marks that the model had learnt. With average pooling
the two are the same map."""
_AT_A_TIME = 8


@dataclass(frozen=True)
class HuntImages:
    """Prepared images on which a model is hunted.

    Attributes:
        pixels: uint8, shape (n, size, size, channels).
        placements: What of them is image.
        truth: True class of each, shape (n,).
        groups: Group number of each, shape (n,).
        paths: Where they come from; empty when they come from nowhere.
        text: Where letters stand, shape (n, size, size); ``None``: not looked for.
    """

    pixels: ByteArray
    placements: tuple[Placement, ...]
    truth: IntArray
    groups: IntArray
    paths: tuple[str, ...] = ()
    text: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def chosen(self, rows: IntArray) -> HuntImages:
        """Return some of them."""
        return HuntImages(
            self.pixels[rows],
            tuple(self.placements[row] for row in rows),
            self.truth[rows],
            self.groups[rows],
            tuple(self.paths[row] for row in rows) if self.paths else (),
            None if self.text is None else self.text[rows],
        )


def pick_hunted(truth: IntArray, groups: IntArray, *, most: int, seed: int) -> IntArray:
    """Choose images at random, as many of every class as there are, one of every group before a second of any.

    Args:
        truth: Class of every image, shape (n,).
        groups: Group number of every image, shape (n,).
        most: So many at most.
        seed: Same seed, same images.

    Returns:
        Positions, the classes by turns, shape (up to ``most``,).
    """
    turns = []
    for one in np.unique(truth):
        own = np.flatnonzero(truth == one)
        picked = own[pick_images(groups[own], most=len(own), seed=seed)]
        turns.append(np.stack([np.arange(len(picked)), np.full(len(picked), one), picked]))
    if not turns:
        return np.zeros(0, dtype=np.int64)
    turn, label, position = np.concatenate(turns, axis=1)
    return np.asarray(position[np.lexsort((label, turn))][:most], dtype=np.int64)


def hunt_shortcuts(
    name: str,
    classes: Sequence[str],
    scores: Scorer,
    images: HuntImages,
    method: Method | None,
    *,
    method_name: str = "",
    untrained: Method | None = None,
    anatomy: BoolArray | None = None,
    decision: Decision | None = None,
    seed: int,
    package: str = "",
    resamples: int = RESAMPLES,
    advance: Callable[[int], None] = lambda _: None,
) -> ShortcutHunt:
    """Hunt for shortcuts of one model.

    Args:
        name: The model's name.
        classes: Names of the classes, in the order of the scores.
        scores: The model.
        images: On which it is hunted; never test images.
        method: Makes its maps; ``None``: there are none, and only what survives is measured.
        method_name: How the method is called.
        untrained: The same method on the network with its weights drawn anew; ``None``: there is none.
        anatomy: Where the anatomy is, shape (n, size, size), where it is known; ``None``: it is looked for in every image.
        decision: How the model's scores become a class; ``None``: the highest score.
        seed: Of the intervals.
        package: The fingerprint of the model's package, for the record.
        resamples: Behind every interval.
        advance: Told of every few images done.

    Returns:
        The hunt; it changes nothing of the model.
    """
    notes: tuple[str, ...] = ()
    if anatomy is None:
        anatomy, notes = _found_anatomy(images)
    seen = anatomy.any(axis=(1, 2))
    fewest = _fewest(images.truth[seen], images.groups[seen], len(classes))
    enough = fewest >= FEWEST_GROUPS
    used = np.flatnonzero(seen) if enough else np.arange(len(images))
    used_images, used_anatomy = images.chosen(used), anatomy[used]
    answers = _answers(scores, used_images, used_anatomy, enough=enough)
    survived, smallest = _survived(answers, used_images, classes, fewest, decision=decision, resamples=resamples, seed=seed)
    regions, passes = _regions(
        used_images, used_anatomy, classes, method, untrained, resamples=resamples, seed=seed, advance=advance
    )
    points = _points(regions) if enough else "not estimable"
    return ShortcutHunt(
        model=name,
        package=package,
        images=images.paths,
        n=len(images),
        with_anatomy=int(np.count_nonzero(seen)),
        groups=len(np.unique(images.groups)),
        method=method_name if method else "",
        regions=regions,
        interventions=survived.interventions,
        beyond_outline=survived.beyond_outline,
        points_outside=points,
        survives=survived.verdict,
        verdict=verdict_of(points, survived.verdict),
        message=message_of(survived, regions, points, smallest=smallest),
        smallest_found=smallest,
        settings={"fill": "median of all images", "resamples": resamples, "seed": seed},
        passes=passes + len(answers),
        notes=notes,
    )


def _found_anatomy(images: HuntImages) -> tuple[BoolArray, tuple[str, ...]]:
    """Look for the anatomy in every image: where it is, shape (n, size, size), and of how many images it cannot be said."""
    found = [foreground(pixels, placement) for pixels, placement in zip(images.pixels, images.placements, strict=True)]
    reasons = [one.reason for one in found if not one.estimable]
    notes = tuple(f"{_counted(reasons.count(why))} without an estimable anatomy: {why}." for why in dict.fromkeys(reasons))
    if not found:
        return np.zeros(images.pixels.shape[:3], dtype=np.bool_), notes
    return np.stack([one.mask for one in found]), notes


def _answers(scores: Scorer, images: HuntImages, anatomy: BoolArray, *, enough: bool) -> Mapping[str, DoubleArray]:
    """Ask the model for the images as they are and changed; without enough of them, only what needs no anatomy."""
    changed = changed_images(images.pixels, images.placements, anatomy)
    return scores_of(scores, {one: changed[one] for one in (CHANGES if enough else (WHOLE, BORDER_ALONE))})


def _survived(
    answers: Mapping[str, DoubleArray],
    images: HuntImages,
    classes: Sequence[str],
    fewest: int,
    *,
    decision: Decision | None,
    resamples: int,
    seed: int,
) -> tuple[Survival, float | None]:
    """Return whether the classes are still known without the anatomy, and the smallest weight of a made-up mark that is found."""
    truth, groups = images.truth, images.groups
    survived = survival(answers, truth, groups, classes, decision=decision, resamples=resamples, seed=seed)
    if fewest < FEWEST_GROUPS:
        why = f"{_counted(fewest)} of a class, in independent groups, with an anatomy that can be told from the ground"
        survived = replace(survived, reason=f"{why}, and {FEWEST_GROUPS} are needed (explanation.hunt_images)")
    if survived.verdict == "not estimable":
        return survived, None
    return survived, smallest_found(answers, truth, groups, classes, resamples=min(resamples, 500), seed=seed)


def _counted(number: int) -> str:
    return f"{number:,} image" if number == 1 else f"{number:,} images"


def _fewest(truth: IntArray, groups: IntArray, classes: int) -> int:
    """Return the number of independent images of the class that has fewest."""
    return min((len(np.unique(groups[truth == one])) for one in range(classes)), default=0)


def _points(regions: Sequence[RegionShare]) -> Verdict:
    verdicts = {one.above_chance for one in regions}
    return "yes" if "yes" in verdicts else "no" if "no" in verdicts else "not estimable"


def _regions(
    images: HuntImages,
    anatomy: BoolArray,
    classes: Sequence[str],
    method: Method | None,
    untrained: Method | None,
    *,
    resamples: int,
    seed: int,
    advance: Callable[[int], None],
) -> tuple[tuple[RegionShare, ...], float]:
    """Ask for maps of the true classes and share their relevance out; also the passes per image.

    The true class, not the predicted one: so every class has the images that it was given, as in the other test, and not only
    as many as the model happens to name so.
    """
    if method is None or not len(images):
        return (), 0.0
    maps: list[FloatArray] = []
    others: list[FloatArray] = []
    passes = 0.0
    for start in range(0, len(images), _AT_A_TIME):
        rows = np.arange(start, min(start + _AT_A_TIME, len(images)))
        few = images.chosen(rows)
        for ask, kept in ((method, maps), (untrained, others)):
            if ask is not None:
                answer = ask(few.pixels, few.placements, images.truth[rows])
                kept.append(answer.values)
                passes += answer.passes * len(few)
        advance(len(few))
    with_text = images.text is not None and bool(images.text.any())
    places = [
        places_of(placement, anatomy[row], images.text[row] if images.text is not None else None, with_text=with_text)
        for row, placement in enumerate(images.placements)
    ]
    regions = region_shares(
        shares_in(np.concatenate(maps), places),
        areas_of(images.placements, places),
        shares_in(np.concatenate(others), places) if others else None,
        images.truth,
        images.groups,
        classes,
        resamples=resamples,
        seed=seed,
    )
    return regions, passes / len(images)


# ---------------------------------------------------------------------------------------------------- a whole package


def hunt_package(
    package: ExplainablePackage,
    files: Sequence[Path],
    paths: Sequence[str],
    truth: IntArray,
    groups: IntArray,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    advance: Callable[[int], None] = lambda _: None,
) -> ShortcutHunt | None:
    """Hunt for shortcuts of a package on image files, never of test images.

    Maps are by :data:`FIRST` where it suits the model, else by the first method that does; one of more than 60 passes per map
    gives way to coarse occlusion.

    Args:
        package: A loaded package.
        files: The images; those that cannot be read are passed over.
        paths: Their names in the data set.
        truth: True class of each, shape (n,).
        groups: Group number of each, shape (n,).
        seed: Of whatever is drawn.
        resamples: Behind every interval.
        advance: Told of every few images.

    Returns:
        The hunt, of an ensemble as of one model; not estimable where its members cannot be asked together; ``None`` where no
        image can be read.
    """
    try:
        whole = model_of(package)
    except UsageError as error:
        return _not_estimable(package, str(error), seed=seed, resamples=resamples)
    model = whole.plain
    prepared, notes = _prepared(model, files, paths, truth, groups)
    if prepared is None:
        return None
    name, maps = _method(model, seed=seed)
    untrained = None
    if model.network is not None and name != "occlusion":
        try:
            redrawn = RedrawnModel(model, seed=seed)
            choose_methods(redrawn, (name,))
            untrained = method_of(redrawn, name, seed=seed)
        except (UsageError, PackageError) as error:
            notes.append(f"No comparison with an untrained network. {error}")
    hunt = hunt_shortcuts(
        package.name,
        package.classes,
        model.scores,
        prepared,
        maps,
        method_name=name,
        untrained=untrained,
        decision=package.decision,
        seed=seed,
        package=package.fingerprint,
        resamples=resamples,
        advance=advance,
    )
    if len(whole.views) > 1:
        notes.append(f"Asked of the images themselves; the model averages its scores over {len(whole.views)} views of them.")
    return replace(hunt, notes=(*hunt.notes, *notes))


def _not_estimable(package: ExplainablePackage, why: str, *, seed: int, resamples: int) -> ShortcutHunt:
    """Return a hunt that holds nothing but the reason."""
    return ShortcutHunt(
        model=package.name,
        package=package.fingerprint,
        images=(),
        n=0,
        with_anatomy=0,
        groups=0,
        method="",
        regions=(),
        interventions=(),
        beyond_outline=None,
        points_outside="not estimable",
        survives="not estimable",
        verdict="not estimable",
        message=f"Not estimable: {why}",
        smallest_found=None,
        settings={"resamples": resamples, "seed": seed},
        passes=0.0,
        notes=(),
    )


def _method(model: ExplainablePart, *, seed: int) -> tuple[str, Method]:
    """Return a method that suits and does not cost too much."""
    own = AUTO if why_not(EXPLAINERS[FIRST], model) else FIRST
    ((name, explainer),) = choose_methods(model, (own,)).items()
    cost = explainer.cost(model)
    if cost.forward + cost.backward > DEAR:
        name, explainer = "occlusion", COARSE
    return name, method_of(model, name, explainer=explainer, seed=seed)


def _prepared(
    model: ExplainablePart, files: Sequence[Path], paths: Sequence[str], truth: IntArray, groups: IntArray
) -> tuple[HuntImages | None, list[str]]:
    """Bring the images, and the letters in them, to the model's input."""
    rows, ready, text = [], [], []
    notes: list[str] = []
    for row, file in enumerate(files):
        try:
            pixels, placement = model.prepare(file)
            original = read_image(file).pixels
        except (DataError, OSError) as error:
            notes.append(f"{paths[row]}: passed over. {error}")
            continue
        lines = np.zeros((placement.height, placement.width), dtype=np.bool_)
        if original.shape[:2] == lines.shape:
            for line in find_lines(original):
                lines[line.top : line.bottom, line.left : line.right] = True
        rows.append(row)
        ready.append((pixels, placement))
        text.append(mask_at_input(lines, placement, size=len(pixels)))
    if not ready:
        return None, notes
    return (
        HuntImages(
            np.stack([pixels for pixels, _ in ready]),
            tuple(placement for _, placement in ready),
            np.asarray(truth)[rows],
            np.asarray(groups)[rows],
            tuple(paths[row] for row in rows),
            np.stack(text),
        ),
        notes,
    )
