"""One short vector per image that says what it looks like, so that images can be compared by the thousand.

The vectors are drawn from the thumbnails by fixed formulas: how strongly and in which direction the grey values change in each
cell of a grid, a coarse picture of the grey values, and how bright the darkest to the brightest eighth of it is. Nothing is
learnt from other images and nothing is downloaded, so that an audit needs no network and no graphics card. They see layout, shape
and coarse texture: another organ, another view, a photograph. They do not see a faint nodule, and two images that are near to
each other need not show the same disease.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.records import ByteArray, FloatArray, IntArray, Manifest
from vitrail.row_file import RowFile

DIMENSIONS = 64
"""Length of a descriptor, where the data set has enough images to fill it."""
BLOCK = 64
"""So many thumbnails are held in floating point at a time: they stay in the processor's cache."""
FITTED_ON = 20_000
"""The reduction is computed on at most so many images, drawn with a fixed seed."""

REFERENCES = 8_000
"""Neighbours are sought among at most so many images, drawn with a fixed seed: time is then linear in the number of images."""

_SIDE = 64  # thumbnails are halved: finer detail is noise and compression
_CELLS = 8
_COARSE = 8
_HARMONICS = 5
_LEVELS = 8
_PARTS = ((_HARMONICS * _CELLS**2, 1.0), (_COARSE**2, 1.0), (_LEVELS, 0.7))  # length and weight of each kind
_ROWS = 256  # rows of the table of distances at a time
_RUN = 16  # columns of that table in one hand


def describe(manifest: Manifest, rows: Sequence[int]) -> FloatArray:
    """Describe images by the gradients and grey values of their thumbnails.

    In each of 8 x 8 cells, the mean of the gradient's magnitude and of its first two circular harmonics over directions without
    sign (a smooth histogram of orientations: Dalal & Triggs 2005; Liu et al. 2014), square-rooted; 8 x 8 mean grey values,
    centred and scaled by the image's own contrast; and the mean grey value of each eighth of a 16 x 16 picture, in order of
    brightness. Each number is standardised over the data set, the kinds weigh 1, 1 and 0.7, and principal components reduce them
    to at most :data:`DIMENSIONS`. Of more than :data:`FITTED_ON` images the components come from a seeded subsample.

    Args:
        manifest: The data set.
        rows: Positions of readable files.

    Returns:
        float32 of shape (rows, d), d at most 64 and at least 1: first the direction in which images differ most; centred, and
        scaled so that the mean square of the length is 1. The same input gives the same numbers.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    if len(chosen) == 0:
        return np.zeros((0, 1), dtype=np.float32)
    thumbnails = manifest.thumbnails
    if len(chosen) <= FITTED_ON:
        raw = _raw(thumbnails, chosen)
        return _rescaled(raw @ _components(raw))
    fitted = np.sort(np.random.default_rng(0).choice(len(chosen), size=FITTED_ON, replace=False))
    components = _components(_raw(thumbnails, chosen[fitted]))
    blocks = (chosen[start : start + BLOCK] for start in range(0, len(chosen), BLOCK))
    return _rescaled(np.concatenate([_raw(thumbnails, block) @ components for block in blocks]))


def describe_all(manifest: Manifest) -> FloatArray:
    """Describe all readable images: float32 of shape (len(manifest), d), zeros where a file is not readable."""
    rows = [row for row, file in enumerate(manifest.files) if file.readable]
    found = describe(manifest, rows)
    result = np.zeros((len(manifest), found.shape[1]), dtype=np.float32)
    result[rows] = found
    return result


@dataclass(frozen=True)
class Neighbours:
    """The images nearest to each image, nearest first.

    Attributes:
        rows: Positions in the descriptors, int64 of shape (n, k); -1 where an image has fewer neighbours.
        distances: Euclidean distances, float32 of shape (n, k); infinite where there is none.
    """

    rows: IntArray
    distances: FloatArray


def neighbours(descriptors: FloatArray, groups: Sequence[int], *, count: int = 10) -> Neighbours:
    """Find the nearest images of other groups, exactly, among all images or :data:`REFERENCES` of them.

    Args:
        descriptors: float32, shape (n, d).
        groups: Group number per image: neighbours of an image's own group (copies, slices of the patient) are left out.
        count: So many neighbours.
    """
    size = len(descriptors)
    references = np.arange(size, dtype=np.int64)
    if size > REFERENCES:
        references = np.sort(np.random.default_rng(0).choice(size, size=REFERENCES, replace=False))
    group = np.asarray(groups, dtype=np.int64)
    rows = np.full((size, count), -1, dtype=np.int64)
    distances = np.full((size, count), np.inf, dtype=np.float32)
    if size == 0:
        return Neighbours(rows, distances)
    slots = -(-len(references) // _RUN) * _RUN
    targets = np.zeros((slots, descriptors.shape[1]), dtype=np.float32)
    targets[: len(references)] = descriptors[references]
    lengths = np.full(slots, np.inf, dtype=np.float32)
    lengths[: len(references)] = np.einsum("ij,ij->i", targets, targets)[: len(references)]
    order = np.argsort(group[references], kind="stable")
    ordered = group[references][order]
    for start in range(0, size, _ROWS):
        part = slice(start, start + _ROWS)
        square = descriptors[part] @ targets.T
        square *= -2.0
        square += lengths
        first = np.searchsorted(ordered, group[part], side="left")
        last = np.searchsorted(ordered, group[part], side="right")
        of, place = _ranges(first, last)
        square[of, order[place]] = np.inf
        found, nearest = _smallest(square, min(count, slots))
        reached = np.isfinite(nearest)
        # Once more from the differences: small distances drown in the rounding of a difference of large squares.
        apart = targets[found] - descriptors[part][:, None]
        distances[part, : found.shape[1]] = np.where(reached, np.sqrt(np.einsum("ijk,ijk->ij", apart, apart)), np.inf)
        rows[part, : found.shape[1]][reached] = references[found[reached]]
    return Neighbours(rows, distances)


def _smallest(values: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
    """Return places and values of the smallest numbers of every row, in order.

    Columns are dealt into hands; the smallest numbers all lie in the ``count`` hands with the smallest minima, so that one fast
    pass over all columns leaves few of them to sort.
    """
    size, width = values.shape
    hands = width // _RUN
    line = np.arange(size)[:, None]
    if hands > count:
        minima = values.reshape(size, _RUN, hands).min(axis=1)
        best = np.argpartition(minima, count - 1, axis=1)[:, :count]
        places = (best[:, None, :] + hands * np.arange(_RUN)[None, :, None]).reshape(size, -1)
    else:
        places = np.broadcast_to(np.arange(width), (size, width))
    candidates = values[line, places]
    chosen = np.argpartition(candidates, count - 1, axis=1)[:, :count]
    places, candidates = places[line, chosen], candidates[line, chosen]
    # Ties in the order of their place: the same answer on every machine.
    order = np.lexsort((places, candidates), axis=1)
    return places[line, order], candidates[line, order]


def _ranges(first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """Return row numbers and members of the ranges first..last of every row, one after the other."""
    lengths = last - first
    of = np.repeat(np.arange(len(first)), lengths)
    begin = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return of, np.repeat(first, lengths) + np.arange(len(of)) - begin


def _raw(thumbnails: RowFile, rows: IntArray) -> FloatArray:
    """Return the numbers before standardisation: float32, shape (rows, 392)."""
    result = np.empty((len(rows), sum(length for length, _ in _PARTS)), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        grey = _halved(thumbnails[rows[start : start + BLOCK]])
        fine = _pooled(grey, 2 * _COARSE)
        coarse = fine.reshape(-1, _COARSE, 2, _COARSE, 2).mean(axis=(2, 4)).reshape(len(grey), -1)
        coarse -= coarse.mean(axis=1, keepdims=True)
        coarse /= coarse.std(axis=1, keepdims=True) + np.float32(0.02)
        fine.sort(axis=1)
        levels = fine.reshape(len(grey), _LEVELS, -1).mean(axis=2)
        np.concatenate((_gradients(grey), coarse, levels), axis=1, out=result[start : start + BLOCK])
    return result


def _halved(thumbnails: ByteArray) -> FloatArray:
    """Return the means of 2 x 2 pixels, 0..1."""
    rows = thumbnails[:, ::2].astype(np.uint16)
    rows += thumbnails[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]).astype(np.float32) * np.float32(1 / (4 * 255))


def _gradients(grey: FloatArray) -> FloatArray:
    """Return magnitude and two harmonics of the gradient's direction, averaged over the cells of a grid."""
    across = np.zeros_like(grey)
    along = np.zeros_like(grey)
    np.subtract(grey[:, :, 2:], grey[:, :, :-2], out=across[:, :, 1:-1])
    np.subtract(grey[:, 2:], grey[:, :-2], out=along[:, 1:-1])
    # With the angle a: magnitude m, then m cos 2a, m sin 2a, m cos 4a, m sin 4a. No angle has to be computed.
    sine = across * along
    sine *= 2.0
    across *= across
    along *= along
    magnitude = across + along
    across -= along
    np.sqrt(magnitude, out=magnitude)
    scale = np.float32(1.0) / (magnitude + np.float32(1e-6))
    across *= scale
    sine *= scale
    double_sine = across * sine
    double_sine *= scale
    double_sine *= 2.0
    double_cosine = across * across
    double_cosine *= scale
    double_cosine *= 2.0
    double_cosine -= magnitude
    cells = [_pooled(channel, _CELLS) for channel in (magnitude, across, sine, double_cosine, double_sine)]
    means = np.concatenate(cells, axis=1)
    return np.sign(means) * np.sqrt(np.abs(means))


def _pooled(values: FloatArray, cells: int) -> FloatArray:
    """Average (n, 64, 64) over a grid: shape (n, cells * cells)."""
    width = _SIDE // cells
    bands = values.reshape(len(values), cells, width, _SIDE).sum(axis=2)  # along memory first: eight times fewer are left
    pool = np.repeat(np.eye(cells, dtype=np.float32), width, axis=0) * np.float32(1.0 / width**2)
    result: FloatArray = (bands.reshape(-1, _SIDE) @ pool).reshape(len(values), cells * cells)
    return result


def _components(raw: FloatArray) -> FloatArray:
    """Return the matrix (numbers, d) that standardises and reduces; what it gives still has to be centred."""
    import scipy.linalg

    count, width = raw.shape
    centred = raw - raw.mean(axis=0)
    weight = np.empty(width, dtype=np.float32)
    start = 0
    for length, share in _PARTS:
        part = slice(start, start + length)
        deviation = centred[:, part].std(axis=0)
        # A corner that is black in all images but one must not turn that one into a giant: a floor under the deviation.
        floored = np.maximum(deviation, 0.25 * np.sqrt(np.mean(deviation**2)) + 1e-6)
        weight[part] = share / (floored * np.sqrt(length))
        start += length
    centred *= weight
    covariance = (centred.T @ centred).astype(np.float64) / count
    wanted = min(DIMENSIONS, width, max(1, count - 1))
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=(width - wanted, width - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = max(1, int(np.count_nonzero(values > 1e-6 * values[0])))
    vectors = vectors[:, :kept]
    strongest = vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)]
    matrix: FloatArray = (vectors * np.where(strongest < 0, -1.0, 1.0) * weight[:, None]).astype(np.float32)
    return matrix


def _rescaled(reduced: FloatArray) -> FloatArray:
    reduced = reduced - reduced.mean(axis=0)
    size = float(np.sqrt(np.einsum("ij,ij->", reduced, reduced, dtype=np.float64) / len(reduced)))
    return (reduced / np.float32(size or 1.0)).astype(np.float32)
