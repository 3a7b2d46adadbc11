"""How much of the differences between images goes along with the class: variance within and between classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.audit.check import AuditContext, NotApplicable, finding
from vitrail.records import Evidence, Finding, FloatArray, IntArray
from vitrail.row_file import RowFile

MOST_IMAGES = 20_000
"""Of more independent images, so many are drawn with a fixed seed."""
SIDE = 32
"""Thumbnails are reduced to so many pixels a side: finer detail moves with every patient."""

_BLOCK = 64  # thumbnails at a time: they stay in the processor's cache
_Z = 1.959963984540054
_SLIGHT, _CLEAR = 0.01, 0.14  # what Cohen (1988) calls a small and a large explained share

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Separability:
    """Variance within and between classes, per number of the vectors (mean over their columns).

    Attributes:
        within: Variance within each class, in the order of the classes; not-a-number for a class without images.
        pooled: Variance within classes, all classes together (mean square within).
        between: Variance between the classes' means beyond what chance gives them (variance component); negative when the
            means are nearer to each other than chance would have them.
        f_ratio: Mean square between over mean square within, Fisher's F: the usual ratio. It grows with the number of images.
        ratio: ``between / pooled``: does not grow with the number of images.
        explained: Share of the variance that the class explains, corrected for chance (omega squared, Hays 1963): about 0 for
            random labels, 1 when all images of a class are alike.
        low: Lower end of its 95 % interval (jackknife over images).
        high: Upper end.
    """

    within: tuple[float, ...]
    pooled: float
    between: float
    f_ratio: float
    ratio: float
    explained: float
    low: float
    high: float


def separability(vectors: FloatArray | DoubleArray, labels: IntArray, classes: int) -> Separability:
    """Split the variance of vectors into that within and that between classes.

    With SS the sums of squared distances (within: to the class's mean; total: to the mean of all), n images and k classes:
    MS within = SS within / (n - k), MS between = (SS total - SS within) / (k - 1), F = MS between / MS within; the variance
    component between = (MS between - MS within) / n0 with n0 = (n - sum n_c^2 / n) / (k - 1); omega squared = (SS between -
    (k - 1) MS within) / (SS total + MS within). All are summed over the columns first. The interval is omega squared plus and
    minus 1.96 times its jackknife standard error; every value with one image left out follows from that image's two distances.

    Args:
        vectors: One row per independent image, shape (n, d). A common factor changes nothing but the variances themselves.
        labels: Class of every row, 0 to ``classes`` - 1, shape (n,).
        classes: Number of classes.

    Raises:
        ValueError: There are fewer than two classes, a class has a single image, or all images of every class are the same.
    """
    return _separability(*_distances(vectors, labels, classes), labels, classes, vectors.shape[1])


def _separability(of_class: DoubleArray, total: DoubleArray, label: IntArray, classes: int, d: int) -> Separability:
    """Do the same from the squared distances of every image to the mean of its class and of all, over ``d`` columns."""
    number = np.bincount(label, minlength=classes).astype(np.float64)
    usable = number >= 2
    n, k = len(label), int(usable.sum())
    if k < 2 or (number == 1).any():
        raise ValueError("separability: needs at least two classes, each of at least two images.")
    ss_within, ss_total = float(of_class.sum()), float(total.sum())
    if ss_total <= 0 or ss_within <= 1e-12 * ss_total:
        raise ValueError("separability: needs images that differ within their class.")
    within = np.full(classes, np.nan)
    within[usable] = np.bincount(label, of_class, minlength=classes)[usable] / (number[usable] - 1) / d
    ms_within, ms_between = ss_within / (n - k), (ss_total - ss_within) / (k - 1)
    per_class = (n - float((number[usable] ** 2).sum()) / n) / (k - 1)
    component = (ms_between - ms_within) / per_class
    explained = float(_omega_squared(np.array(ss_within), np.array(ss_total), n, k))
    left_out = _omega_squared(
        ss_within - of_class * number[label] / (number[label] - 1), ss_total - total * n / (n - 1), n - 1, k
    )
    error = float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
    return Separability(
        within=tuple(within.tolist()),
        pooled=ms_within / d,
        between=component / d,
        f_ratio=ms_between / ms_within,
        ratio=component / ms_within,
        explained=explained,
        low=explained - _Z * error,
        high=min(1.0, explained + _Z * error),
    )


def _omega_squared(within: DoubleArray, total: DoubleArray, n: int, k: int) -> DoubleArray:
    mean_square = within / (n - k)
    return np.asarray((total - within - (k - 1) * mean_square) / (total + mean_square))


def _distances(vectors: FloatArray | DoubleArray, labels: IntArray, classes: int) -> tuple[DoubleArray, DoubleArray]:
    """Return every row's squared distance to the mean of its class, and to the mean of all."""
    members = np.zeros((classes, len(vectors)), dtype=vectors.dtype)
    members[labels, np.arange(len(vectors))] = 1
    centred = vectors - vectors.mean(axis=0)
    means = (members @ centred) / np.maximum(members.sum(axis=1), 1)[:, None]
    total = np.einsum("ij,ij->i", centred, centred).astype(np.float64)
    centred -= means[labels]
    return np.einsum("ij,ij->i", centred, centred).astype(np.float64), total


def standardised(thumbnails: RowFile, rows: IntArray) -> FloatArray:
    """Return thumbnails of 32 x 32 means, each with mean 0 and variance 1: brightness and contrast of an image do not count.

    Args:
        thumbnails: uint8, shape (files, 128, 128).
        rows: Which of them.

    Returns:
        float32, shape (rows, 1024); zeros for an image of one grey value.
    """
    step = thumbnails.shape[1] // SIDE
    result = np.empty((len(rows), SIDE * SIDE), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(thumbnails[rows[start : start + _BLOCK]])
        lines = block[:, ::step].astype(np.uint16)
        for offset in range(1, step):
            lines += block[:, offset::step]
        cells = lines[:, :, ::step].astype(np.float32)
        for offset in range(1, step):
            cells += lines[:, :, offset::step]
        result[start : start + _BLOCK] = cells.reshape(len(block), -1)
    result -= result.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.einsum("ij,ij->i", result, result) / result.shape[1])
    result /= np.where(spread > 0, spread, 1)[:, None]
    return result


class ClassSeparability:
    """BAL805: how far apart the classes lie, measured so that more images do not change the answer."""

    code = "BAL805"
    title = "How far apart the classes lie"
    why = "It says how much of the differences between images a class accounts for, before any model is trained."
    explanation = (
        "Images of one class differ from one another: other patients, other slices, other scanners. That is the variance "
        "within the class. The average images of the classes differ too: that is the variance between classes. Where the "
        "second is large against the first, even a crude method tells the classes apart.\n\nThe usual ratio of the two "
        "(Fisher's F) multiplies the differences between classes by the number of images, so that it grows when images "
        "are added although the classes lie no further apart. So this check also gives a ratio of variances that does "
        "not, and the share of all differences that the class explains (omega squared): 0 % for classes that were drawn "
        "by lot, 100 % when all images of a class look the same. Images are compared as thumbnails of 32 x 32 pixels with "
        "equal brightness and contrast; copies and images of one patient count once.\n\nIt is information, not a fault. A "
        "small share is normal in medicine, since a lesion fills few pixels; it means that a model must find details. A "
        "large share is a reason to look: classes from two hospitals, or of two kinds of views, lie far apart for reasons "
        "that have nothing to do with the disease. The checks of shortcuts (SHC) ask that question."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Measure the variance within and between classes. ``count``: number of classes that are compared."""
        manifest = context.manifest
        rows, note = _independent(context)
        labels, classes = manifest.labels[rows], len(manifest.classes)
        if len(np.unique(labels)) < 2:
            raise NotApplicable("fewer than two classes have two independent images")
        vectors = standardised(manifest.thumbnails, rows)
        distances, total = _distances(vectors, labels, classes)
        try:
            found = _separability(distances, total, labels, classes, vectors.shape[1])
        except ValueError:
            raise NotApplicable("the images of every class are all the same") from None
        compared = [number for number, value in enumerate(found.within) if not np.isnan(value)]
        order = sorted(compared, key=lambda number: -found.within[number])
        evidence = []
        for number in order:
            of_class = np.flatnonzero(labels == number)
            places = (distances[of_class].argmin(), distances[of_class].argmax())
            shown = tuple(manifest.files[rows[of_class[place]]].path for place in places)
            words = f"variance {found.within[number]:.2f} within the class, {len(of_class):,} independent images"
            evidence.append(Evidence(shown, f"{manifest.classes[number]}: {words}; its most typical and its most unusual image"))
        return finding(
            self,
            severity="info",
            count=len(compared),
            message=f"The class explains {_percent(found.explained)} % of the differences between images as thumbnails "
            f"(95 % interval {_percent(found.low)} to {_percent(found.high)} %), {_reading(found)}; variance within classes "
            f"{found.pooled:.2f}, between classes {max(0.0, found.between):.3f}, ratio {max(0.0, found.ratio):.3f} at any "
            f"number of images (the usual ratio, F = {found.f_ratio:,.1f}, grows with it){note}.",
            fix="Nothing needs to be done; where the classes lie far apart, find out whether the disease or the origin of the "
            "images sets them apart.",
            consequence="Nothing follows from it in this run.",
            evidence=evidence,
        )


def _independent(context: AuditContext) -> tuple[IntArray, str]:
    """Return the first usable image of every group and class, of very many a choice, and words about that choice.

    Classes with a single such image are left out.
    """
    files = context.manifest.files
    rows = np.array([row for row in context.readable() if files[row].path not in context.quarantined], dtype=np.int64)
    if not len(rows):
        return rows, ""
    labels = context.manifest.labels
    groups = np.asarray(context.groups, dtype=np.int64)[rows]
    units = groups * len(context.manifest.classes) + labels[rows]
    rows = np.sort(rows[np.unique(units, return_index=True)[1]])
    note = ""
    if len(rows) > MOST_IMAGES:
        note = f"; measured on {MOST_IMAGES:,} of {len(rows):,} independent images"
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_IMAGES, replace=False))
    return rows[np.bincount(labels[rows])[labels[rows]] >= 2], note


def _reading(found: Separability) -> str:
    """Say what the explained share means."""
    if found.low <= 0 or found.explained < _SLIGHT:
        return "so that the classes look alike at this scale and a model must find details"
    if found.explained < _CLEAR:
        return "so that images of one class differ among themselves far more than the classes do"
    return "so that the classes already differ in their rough layout"


def _percent(share: float) -> str:
    return f"{100 * max(0.0, share):.1f}"
