"""Whether the test part that a data set ships is like its training part: the mix of classes, and the images of each class.

Properties are cut into ranges, and the share of images in each range is compared between the parts, within a class. Whether a
difference is more than chance is judged by whole groups (copies, patients): what would be seen if groups were dealt out to the
two parts at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.records import Evidence, Finding, ImageFile, IntArray

LARGEST_STABLE_PSI = 0.2
"""Population stability index above which BAL804 calls a difference large, the usual limit."""
FALSE_DISCOVERIES = 0.01
"""Expected share of false alarms among what BAL804 reports (Benjamini and Hochberg 1995)."""
LEAST_GROUPS = 20
"""Independent images that a class must have on both sides to be compared."""
NEIGHBOURS = 5
"""How many images that follow one another may be of one patient whom nobody has marked."""

_MOST_RANGES = 10
_GROUPS_PER_RANGE = 5
_EXAMPLES = 4
_COMPONENTS = 5
_WORDS = {
    "quality": "JPEG quality",
    "mean": "mean brightness",
    "deviation": "contrast",
    "levels": "number of grey values",
    "black": "share of black pixels",
    "white": "share of white pixels",
    "colour": "share of coloured pixels",
}

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


# ---------------------------------------------------------------------------------------------------- statistics


def stability_index(test: DoubleArray, training: DoubleArray) -> float:
    """Return the population stability index of two columns of counts over the same ranges: 0 where they have equal shares.

    PSI = sum (p - q) ln(p / q) with p and q the shares in the two parts; half an image is added to every range, so that an
    empty one does not make it infinite. Usual reading: under 0.1 stable, over 0.2 a large shift.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (test, training))
    return float(((p - q) * np.log(p / q)).sum())


def regrouping_test(
    codes: IntArray, units: IntArray, in_test: BoolArray, *, neighbours: int = NEIGHBOURS, least: float = 0
) -> float:
    """Return how probable so large a difference in shares is when units are dealt out to the two parts at random.

    For every unit, the number of its images in each range is compared with the number expected from all images. Dealing the
    units out at random gives the sum over the test units a mean of zero and a covariance that is known exactly (sampling
    without replacement); its quadratic form is referred to the chi-square distribution. With one image per unit this is
    Pearson's test, but for the factor (n - 1) / n.

    Units that follow each other are often slices of a patient whom nobody has marked. So the form is divided by a design effect:
    one plus twice the sum of the correlations of units with those that follow, with weights that fall to zero (Bartlett's kernel;
    Newey and West 1987), at least 1. Where neighbours have nothing in common it changes little.

    Args:
        codes: Range of every image, 0, 1, ..., shape (n,).
        units: Unit of every image, 0 to units - 1, shape (n,). Images of a unit stand in one part.
        in_test: Whether the image stands in the test part, shape (n,).
        neighbours: How many following units to compare a unit with; 0: order means nothing.
        least: Units divided by the design effect that each part must have.

    Returns:
        p value, 0..1; 1 where all images are in one range, or a part is empty or too small.
    """
    from scipy.special import gammaincc

    _, first = np.unique(units, return_index=True)
    ranges, number = int(codes.max(initial=0)) + 1, len(first)
    counts = np.bincount(units * ranges + codes, minlength=number * ranges).reshape(number, ranges).astype(np.float64)
    of_test = in_test[first]
    tested = int(of_test.sum())
    if ranges < 2 or tested in (0, number):
        return 1.0
    surplus = counts - counts.sum(axis=1, keepdims=True) * (counts.sum(axis=0) / counts.sum())
    covariance = (surplus.T @ surplus) * (tested * (number - tested) / (number * (number - 1)))
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-9 * values.max(initial=0)
    if not kept.any():
        return 1.0
    white = surplus @ vectors[:, kept] / np.sqrt(values[kept])
    total = white[of_test].sum(axis=0)
    statistic = float(total @ total)
    in_order = np.argsort(first)
    along = white @ (total / np.sqrt(max(statistic, 1e-300)))  # what matters is how alike neighbours are in what differs
    effect = _design_effect([along[in_order[of_test[in_order] == part]] for part in (False, True)], neighbours)
    if min(tested, number - tested) / effect < least:
        return 1.0
    return float(gammaincc(kept.sum() / 2, statistic / effect / 2))


def _design_effect(parts: Sequence[DoubleArray], neighbours: int) -> float:
    """Return by how much the variance of a sum is larger than it looks, because numbers that follow each other are alike."""
    centred = [part - part.mean() for part in parts if len(part) > 2 * neighbours]
    total = sum(float(part @ part) for part in centred)
    shared = [sum(float(part[:-lag] @ part[lag:]) for part in centred) for lag in range(1, neighbours + 1)]
    fading = 1 - np.arange(1, neighbours + 1) / (neighbours + 1)
    varies = total > 1e-9 * sum(float(part @ part) for part in parts)  # not where all units of a part are the same
    return max(1.0, 1 + 2 * float(fading @ shared) / total) if varies else 1.0


def discoveries(p_values: Sequence[float], *, share: float = FALSE_DISCOVERIES) -> BoolArray:
    """Return which of several tests stand out when at most ``share`` of those may be false (Benjamini and Hochberg 1995)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= share * np.arange(1, len(p) + 1) / max(1, len(p)))
    found = np.zeros(len(p), dtype=bool)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def ranges_of(values: DoubleArray, in_test: BoolArray, *, most: int) -> IntArray:
    """Cut values into at most ``most`` ranges at the quantiles of both parts, each part weighing half; unknown ones apart.

    Args:
        values: One per image, not-a-number where unknown, shape (n,).
        in_test: Whether the image stands in the test part, shape (n,).
        most: Largest number of ranges of known values.

    Returns:
        Range of every image, 0, 1, ...
    """
    known = ~np.isnan(values)
    codes = np.zeros(len(values), dtype=np.int64)
    if known.any():
        order = np.argsort(values[known], kind="stable")
        ordered, tested = values[known][order], in_test[known][order]
        weights = np.where(tested, 0.5 / max(1, tested.sum()), 0.5 / max(1, (~tested).sum()))
        reached = np.cumsum(weights) / weights.sum()
        places = np.searchsorted(reached, np.arange(1, most) / most - 1e-9)
        edges = np.unique(ordered[places])
        codes[known] = 1 + np.searchsorted(edges, values[known], side="left")
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


# ---------------------------------------------------------------------------------------------------- the check


@dataclass(frozen=True)
class _Property:
    """One property of all images: numbers, or words; ``kind`` says what it is a property of."""

    name: str
    kind: str
    numbers: DoubleArray | None = None
    words: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class _Comparison:
    """One property of one class (or the classes themselves), compared between the parts."""

    name: str
    kind: str
    where: str
    psi: float
    p: float
    note: str
    examples: tuple[str, ...]


class Shift:
    """BAL804: a test part that is not like the training part."""

    code = "BAL804"
    title = "Test images unlike the training images"
    why = (
        "The test then measures how the model does on other images than it learned from, or rewards it for telling the two apart."
    )
    explanation = (
        "A test part is expected to be drawn from the same kind of images as the training part. When it came from another "
        "hospital, another scanner or another web site, or was saved in another way, the two differ: that is called a "
        "shift. A shift can make a score too low (the model never saw such images) or too high (the shift happens to go "
        "along with the class).\n\n"
        "This check compares the mix of classes, and within each class what is easily measured: size of the file, width "
        "and height, brightness, contrast, sharpness, noise, traces of compression, and the rough layout of the pictures. "
        "Values are cut into ranges; the population stability index (PSI) sums how far the shares of the ranges differ, "
        "and over 0.2 is called a large shift. Chance alone can do that in small parts, so the check also asks how often "
        "dealing out patients and copies as wholes at random would give as large a difference, and reports it only when "
        "that is less than 1 %, corrected for the number of comparisons (Benjamini and Hochberg).\n\n"
        "A shift is not always bad: a test from another hospital is the honest way to see whether a model travels. It "
        "must be known, and said. Where nobody meant it, people draw the test anew from all images, or bring all images "
        "into one form before training. Where nothing says which images are of one patient, files that follow one another "
        "and resemble each other count as fewer."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Compare the shipped test part with all other images. ``count``: properties that differ, in one class or several."""
        comparisons = list(_compare(context))
        significant = discoveries([comparison.p for comparison in comparisons])
        large = [
            comparison
            for comparison, found in zip(comparisons, significant, strict=True)
            if found and comparison.psi > LARGEST_STABLE_PSI
        ]
        if not large:
            return None
        large.sort(key=lambda comparison: -comparison.psi)
        strongest: dict[str, _Comparison] = {}
        for comparison in large:
            strongest.setdefault(comparison.name, comparison)
        of_kind: dict[str, str] = {}
        for name, comparison in strongest.items():
            of_kind.setdefault(comparison.kind, name)
        names = list(strongest)
        shown = "; ".join(strongest[name].note for name in of_kind.values())
        others = ", ".join(name for name in names if name not in of_kind.values())
        classes = len({comparison.where for comparison in large} - {""})
        words = f"{len(names)} {'property' if len(names) == 1 else 'properties'}"
        reach = f" in {number_of(classes, 'class')}" if classes else ""
        return finding(
            self,
            severity="warning",
            count=len(names),
            message=f"The test part differs from the training part in {words}{reach}: {shown}"
            f"{f'; also {others}' if others else ''}.",
            fix="Find out where the test images come from and say so beside every score; to test on images like those that "
            "train, set `use_shipped_test: false` under `split:` in the study.",
            consequence="Nothing is changed: the test score is about images like those of the test part.",
            evidence=[Evidence(comparison.examples, comparison.note) for comparison in large],
        )


def _compare(context: AuditContext) -> Iterator[_Comparison]:
    """Compare the mix of classes and, within every class that is large enough, all properties.

    Raises:
        NotApplicable: There are no two parts to compare, or too few independent images.
    """
    context.shipped("test")
    files = context.manifest.files
    apart = context.leaked | context.quarantined
    rows = np.array([row for row in context.readable() if files[row].path not in apart], dtype=np.int64)
    in_test = np.array([files[row].part == "test" for row in rows], dtype=bool)
    units = np.unique(np.asarray(context.groups, dtype=np.int64)[rows] * 2 + in_test, return_inverse=True)[1]
    enough, tested = _enough(units, in_test)
    if not enough:
        raise NotApplicable(f"training and test part have fewer than {LEAST_GROUPS} independent images to compare")
    labels, classes = context.manifest.labels[rows], context.manifest.classes
    yield _comparison(
        _Property("mix of classes", "data set", words=tuple(files[row].label for row in rows)),
        "",
        rows,
        units,
        in_test,
        10**6,
        files,
    )
    properties = list(_properties(context, rows))
    for number, name in enumerate(classes):
        chosen = np.flatnonzero(labels == number)
        its_units = np.unique(units[chosen], return_inverse=True)[1]
        enough, tested = _enough(its_units, in_test[chosen])
        if not enough:
            continue
        most = min(_MOST_RANGES, max(2, tested // _GROUPS_PER_RANGE))
        for item in properties:
            of_class = _Property(
                item.name,
                item.kind,
                None if item.numbers is None else item.numbers[chosen],
                tuple(item.words[place] for place in chosen) if item.words else (),
                item.unit,
            )
            yield _comparison(of_class, name, rows[chosen], its_units, in_test[chosen], most, files)


def _enough(units: IntArray, in_test: BoolArray) -> tuple[bool, int]:
    """Return whether both parts have enough units, and the smaller number of them."""
    smaller = min(len(np.unique(units[in_test])), len(np.unique(units[~in_test])))
    return smaller >= LEAST_GROUPS, smaller


def _comparison(
    item: _Property, where: str, rows: IntArray, units: IntArray, in_test: BoolArray, most: int, files: Sequence[ImageFile]
) -> _Comparison:
    """Compare one property of the given images between the parts."""
    if item.numbers is not None:
        codes = ranges_of(item.numbers, in_test, most=most)
    else:
        frequent = [word for word, _ in Counter(item.words).most_common(most - 1)]
        index = {word: number for number, word in enumerate(frequent)}
        codes = np.array([index.get(word, len(frequent)) for word in item.words], dtype=np.int64)
    ranges = int(codes.max(initial=0)) + 1
    test, training = (np.bincount(codes[part], minlength=ranges).astype(np.float64) for part in (in_test, ~in_test))
    psi = stability_index(test, training)
    neighbours = NEIGHBOURS if where else 0  # classes stand in folders: their order says nothing about patients
    p = regrouping_test(codes, units, in_test, neighbours=neighbours, least=LEAST_GROUPS) if psi > LARGEST_STABLE_PSI else 1.0
    excess = int((test / test.sum() - training / training.sum()).argmax())
    examples = rows[in_test & (codes == excess)][:_EXAMPLES]
    of_class = f" of {where}" if where else ""
    note = f"{item.name}{of_class}: {_in_words(item, in_test)}; PSI {psi:.1f}" if p <= FALSE_DISCOVERIES else ""
    return _Comparison(item.name, item.kind, where, psi, p, note, tuple(files[row].path for row in examples))


def _in_words(item: _Property, in_test: BoolArray) -> str:
    """Say how a property differs: medians and the middle 80 %, or the words and their shares."""
    if item.numbers is None:
        parts = [
            Counter(word for word, is_test in zip(item.words, in_test, strict=True) if is_test == flag) for flag in (False, True)
        ]
        totals = [sum(part.values()) for part in parts]
        differing = max(parts[0] | parts[1], key=lambda word: abs(parts[1][word] / totals[1] - parts[0][word] / totals[0]))
        shares = [f"{100 * part[differing] / total:.0f} %" for part, total in zip(parts, totals, strict=True)]
        return f"{differing or 'unknown'} {shares[0]} in training, {shares[1]} in test"
    halves = [item.numbers[~in_test], item.numbers[in_test]]
    known = [half[~np.isnan(half)] for half in halves]
    gaps = [100 * (1 - len(some) / len(half)) for some, half in zip(known, halves, strict=True)]
    if abs(gaps[0] - gaps[1]) > 10 or not all(len(some) for some in known):
        return f"unknown for {gaps[0]:.0f} % in training, {gaps[1]:.0f} % in test"
    if item.unit == "-":
        return "differs between training and test"
    (low, middle, high), (test_low, test_middle, test_high) = (np.percentile(some, (10, 50, 90)) for some in known)
    unit = f" {item.unit}" * bool(item.unit)
    return (
        f"median {_number(middle)} in training, {_number(test_middle)}{unit} in test (10th to 90th percentile {_number(low)} to "
        f"{_number(high)} and {_number(test_low)} to {_number(test_high)}{unit})"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------------------------------------------- properties


def _properties(context: AuditContext, rows: IntArray) -> Iterator[_Property]:
    """Return what is compared: properties of the files, measurements, and the rough layout of the pictures."""
    manifest = context.manifest
    files = [manifest.files[row] for row in rows]
    # The length of a volume or clip says how many slices it has, nothing about one of them.
    size = np.array([np.nan if "#" in file.path else file.size_bytes / 1000 for file in files])
    width, height = (
        np.array([float(length) or np.nan for length in side]) for side in ([f.width for f in files], [f.height for f in files])
    )
    yield _Property("file size", "file", size, unit="kB")
    yield _Property("width", "frame", width, unit="px")
    yield _Property("height", "frame", height, unit="px")
    yield _Property("width over height", "frame", width / height)
    yield _Property("format", "file", words=tuple(file.format for file in files))
    yield _Property("stored form", "file", words=tuple(file.mode for file in files))
    yield _Property("source", "file", words=tuple(file.source for file in files))
    facts = manifest.facts[rows]
    for name in facts.dtype.names or ():
        if name == "blockiness":
            continue  # known only for images that are small enough to be decoded whole: width and height say that
        yield _Property(_WORDS.get(name, name), "file" if name == "quality" else "picture", facts[name].astype(np.float64))
    descriptors = context.descriptors
    for number in range(min(_COMPONENTS, descriptors.shape[1])):
        yield _Property("layout of the pictures", "picture", descriptors[rows, number].astype(np.float64), unit="-")
