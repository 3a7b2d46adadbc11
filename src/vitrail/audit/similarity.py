"""Near copies: images that show the same picture, compressed again, brightened, cropped, turned or mirrored.

Three looks, each at fewer pairs and closer than the one before:

1. *Coarse structure proposes.* The lowest frequencies of every thumbnail (a discrete cosine transform, as perceptual hashes use,
   but kept as numbers) are compared with those of all others in all eight orientations; in that transform, turning and mirroring
   are exchanges of signs and axes and cost nothing. What all images have in common, their anatomy, is left out. Every image
   proposes its nearest few. Further transforms of the image without its rim find copies that were cropped.
2. *Alignment.* The two thumbnails of a proposed pair are laid over one another: scale and shift along both axes, by a few steps
   of the method of Lucas and Kanade (1981).
3. *Pixels decide.* What remains of both after their coarse structure is taken away must agree: edges, texture, noise. Two
   patients look alike in the coarse; they never agree in the detail.

How much agreement two different images can reach depends on the organ and the modality, so the threshold is calibrated on the
data set itself: pairs with different labels are hardly ever copies, and where their agreement ends, copies may begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from vitrail.audit.alignment import (
    MIDDLE,
    ORIENTATIONS,
    SMALL,
    agreement_of_detail,
    align,
    correlation,
    resample,
    shrunk,
    turn,
)
from vitrail.engine import map_in_order
from vitrail.records import ByteArray, FloatArray, IntArray, Manifest
from vitrail.row_file import RowFile

FREQUENCIES = 8
"""Side of the square of lowest frequencies that the first look compares."""
RIMS = (2, 4)
"""Pixels of 64 that further transforms leave out on every side, to meet copies that were cropped."""
NEAREST = 3
"""So many nearest neighbours every image proposes, as it is; in every other orientation one: for a turned copy of an image with
several copies it is enough to be joined to one of them."""
STRUCTURED = 2.0
"""Least deviation of the grey values (0..255) of an image that is compared: blank ones resemble everything and nothing."""
COARSE_AGREEMENT = 0.6
"""Least agreement of the coarse structure of a proposed pair."""
COMMON_SHARE = 0.9
"""So much of what all images have in common is left out of their coarse structure. All of it would leave nothing but noise of
images that are the common picture: of two images, or of a thousand copies of one."""
TURNED_AGREEMENT = 0.85
"""The same of a pair in another orientation: whoever mirrors seldom crops much too."""
PAIRS_PER_IMAGE = 2
"""So many pairs per image, on average, are looked at more closely: those that agree most."""
ALIGNED_AGREEMENT = 0.94
"""Least correlation at 32 pixels after alignment of a pair that is aligned more closely, and may serve the calibration."""
CLOSELY_ALIGNED_AGREEMENT = 0.95
"""Least correlation at 32 pixels of a pair that may be copies."""
LIKELY_AGREEMENT = 0.85
"""Least agreement of detail at 64 pixels of a pair whose detail is compared at 128 pixels."""
STRANGERS = 300
"""So many aligned pairs of different labels are compared at 128 pixels in any case, for the calibration."""
LOWEST_THRESHOLD = 0.90
"""Agreement of detail below which no pair is called a copy, whatever the calibration says."""
HIGHEST_THRESHOLD = 0.95
"""Agreement of detail above which a pair is called a copy, whatever the calibration says."""

_CELL = 4096  # images per cell of the search: all are compared with all up to twice that many
_CELLS_SEARCHED = 4
_BLOCK = 256  # pairs aligned at a time


@dataclass(frozen=True)
class NearCopy:
    """Two images that show the same picture.

    Attributes:
        first: Position in the manifest; less than ``second``.
        second: Position in the manifest.
        orientation: Position in :data:`vitrail.audit.alignment.ORIENTATIONS`: what turns ``first`` into ``second``.
        agreement: Correlation of the detail after alignment, 0..1.
    """

    first: int
    second: int
    orientation: int
    agreement: float


@dataclass(frozen=True)
class Similarity:
    """The near copies of a data set.

    Attributes:
        pairs: Most alike first. Of byte-identical files only the first takes part.
        threshold: Agreement from which on a pair counts as a copy.
        compared: Number of pairs whose detail was compared.
        strangers: Number of these with different labels, on which the threshold rests.
    """

    pairs: tuple[NearCopy, ...]
    threshold: float
    compared: int
    strangers: int


@dataclass(frozen=True)
class _Pairs:
    """Pairs of images on their way through the looks, one per entry.

    Attributes:
        first: Position among the images compared; the cropped one, if one of them is.
        second: Position among the images compared.
        orientation: What turns ``first`` into ``second``.
        agreement: Correlation at the last look.
        placement: How ``second`` lies on ``first``, shape (n, 4), see :func:`align`.
    """

    first: IntArray
    second: IntArray
    orientation: IntArray
    agreement: FloatArray
    placement: FloatArray

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: npt.NDArray[np.bool_] | IntArray) -> _Pairs:
        return _Pairs(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def first_of(self, keys: IntArray, order: IntArray) -> _Pairs:
        """Return the pairs in an order, of those with the same key only the first."""
        ordered = order[np.sort(np.unique(keys[order], return_index=True)[1])]
        return self.take(ordered)

    @classmethod
    def joined(cls, parts: list[_Pairs]) -> _Pairs:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def find_near_copies(manifest: Manifest, rows: IntArray) -> Similarity:
    """Find the pairs of images that are copies of one another without being the same bytes.

    Memory is bounded by blocks; time grows with the number of images (all pairs are compared up to about 8,000, the nearest cells
    of a clustering beyond).

    Args:
        manifest: The data set.
        rows: Positions of readable files, in ascending order, none of them byte-identical to another.
    """
    rows = rows[manifest.facts["deviation"][rows] > STRUCTURED]
    if len(rows) < 2:
        return Similarity((), HIGHEST_THRESHOLD, 0, 0)
    coarse = _coarse(manifest.thumbnails, rows)
    pairs = _align_all(coarse.small, _propose(coarse))
    strange = manifest.labels[rows[pairs.first]] != manifest.labels[rows[pairs.second]]
    strangers = np.zeros(len(pairs), dtype=bool)
    every = np.flatnonzero(strange)
    strangers[np.random.default_rng(0).choice(every, min(len(every), STRANGERS), replace=False)] = True
    close = pairs.agreement >= CLOSELY_ALIGNED_AGREEMENT
    pairs, strangers, acquaintances = pairs.take(close | strangers), strangers[close | strangers], int((close & ~strange).sum())
    agreement = _compare_detail(manifest.thumbnails, rows, pairs, in_any_case=strangers)
    threshold = _threshold(agreement[strangers], acquaintances)
    found = replace(pairs, agreement=agreement).take(agreement >= threshold)
    # The same two images may have been compared in several ways: the best one is what they are.
    low, high = np.minimum(found.first, found.second), np.maximum(found.first, found.second)
    found = found.first_of(low * len(rows) + high, np.argsort(-found.agreement, kind="stable"))
    copies = [
        NearCopy(int(first), int(second), int(orientation), round(float(agreement), 4))
        if first < second
        else NearCopy(int(second), int(first), _inverse(int(orientation)), round(float(agreement), 4))
        for first, second, orientation, agreement in zip(
            rows[found.first], rows[found.second], found.orientation, found.agreement, strict=True
        )
    ]
    in_order = tuple(sorted(copies, key=lambda pair: (-pair.agreement, pair.first, pair.second)))
    return Similarity(in_order, round(threshold, 4), len(pairs), int(strangers.sum()))


def _threshold(strangers: FloatArray, acquaintances: int) -> float:
    """Return the agreement that at most one pair of different images is expected to reach.

    On Fisher's scale (1915; the inverse hyperbolic tangent) the correlations of pairs with different labels are taken as normal,
    by their median and the upper half of their spread, which the few that are copies with a wrong label hardly move. As many
    draws are counted as there are pairs with equal labels.
    """
    if len(strangers) < 30:
        return 0.5 * (LOWEST_THRESHOLD + HIGHEST_THRESHOLD)
    middle, upper = np.arctanh(np.clip(np.quantile(strangers, (0.5, 0.8413)), -0.999, 0.999))
    tail = np.tanh(middle + (upper - middle) * -NormalDist().inv_cdf(1 / max(2, acquaintances)))
    return float(np.clip(tail, LOWEST_THRESHOLD, HIGHEST_THRESHOLD))


# ---------------------------------------------------------------------------------------------------- first look


@dataclass(frozen=True)
class _Coarse:
    """Every image in coarse.

    Attributes:
        whole: Lowest frequencies, shape (n, 8, 8), of length 1, the mean left out.
        inner: The same of the images without a rim, for each of ``RIMS``.
        small: uint8, shape (n, 32, 32).
    """

    whole: FloatArray
    inner: tuple[FloatArray, ...]
    small: ByteArray


def _coarse(thumbnails: RowFile, rows: IntArray) -> _Coarse:
    def reduce(block: slice) -> list[npt.NDArray[np.generic]]:
        pixels = shrunk(thumbnails[rows[block]], MIDDLE)
        cores = [np.ascontiguousarray(pixels[:, rim : MIDDLE - rim, rim : MIDDLE - rim]) for rim in (0, *RIMS)]
        transforms = [_normalised(_cosines(core.shape[1]) @ core @ _cosines(core.shape[1]).T) for core in cores]
        return [*transforms, np.rint(shrunk(thumbnails[rows[block]], SMALL)).astype(np.uint8)]

    blocks = list(map_in_order(reduce, _blocks(len(rows), 256)))
    whole, *inner, small = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return _Coarse(whole, tuple(inner), small)


def _cosines(side: int) -> FloatArray:
    """Return the first rows of the orthonormal discrete cosine transform (type II), shape (8, side)."""
    frequency, place = np.arange(FREQUENCIES)[:, None], np.arange(side)[None, :]
    scale = np.sqrt(np.where(frequency == 0, 1, 2) / side)
    return (scale * np.cos(np.pi * (2 * place + 1) * frequency / (2 * side))).astype(np.float32)


def _normalised(coefficients: npt.NDArray[np.floating]) -> FloatArray:
    coefficients[:, 0, 0] = 0
    length = np.sqrt((coefficients**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(coefficients / np.maximum(length, 1e-6), dtype=np.float32)


def _turned(coefficients: FloatArray, orientation: int) -> FloatArray:
    """Return the coefficients of images turned to an orientation: odd frequencies change sign where an axis is reversed."""
    signs = (-1.0) ** np.arange(FREQUENCIES, dtype=np.float32)
    if orientation & 4:
        coefficients = coefficients.transpose(0, 2, 1)
    if orientation & 1:
        coefficients = coefficients * signs[None, None, :]
    if orientation & 2:
        coefficients = coefficients * signs[None, :, None]
    return coefficients


def _propose(coarse: _Coarse) -> _Pairs:
    """Return every image's nearest neighbours in every orientation, each pair once per orientation, the most alike first."""
    common = coarse.whole.mean(axis=0, keepdims=True)
    queries = [(orientation, 0, _turned(coarse.whole, orientation)) for orientation in range(len(ORIENTATIONS))]
    queries += [(turned, rim, _turned(inner, turned)) for rim, inner in zip(RIMS, coarse.inner, strict=True) for turned in (0, 1)]
    size = len(coarse.whole)
    best: list[_Pairs] = []
    for members, candidates in _cells(coarse.whole):

        def ask(query: tuple[int, int, FloatArray], members: IntArray = members, candidates: IntArray = candidates) -> _Pairs:
            orientation, rim, turned = query
            # What an image shares with all that stand as it does, and with all that were turned as the query is.
            shared = np.concatenate([common, _turned(common, orientation)])[: 2 if orientation else 1]
            own, others = _without(turned[members], shared), _without(coarse.whole[candidates], shared)
            return _Pairs.joined(list(_nearest(own, others, members, candidates, orientation=orientation, rim=rim)))

        found = list(map_in_order(ask, queries))
        best.append(_most_alike(_Pairs.joined(found), size, most=PAIRS_PER_IMAGE * len(members)))
    return _most_alike(_Pairs.joined(best), size, most=PAIRS_PER_IMAGE * size)


def _without(coefficients: FloatArray, shared: FloatArray) -> FloatArray:
    """Return coefficients (n, 8, 8) as vectors (n, 64) of length 1, most of what they have of ``shared`` (k, 8, 8) taken away."""
    vectors = coefficients.reshape(len(coefficients), -1)
    directions, _ = np.linalg.qr(shared.reshape(len(shared), -1).T)
    rest = vectors - COMMON_SHARE * (vectors @ directions) @ directions.T
    return np.asarray(rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _most_alike(pairs: _Pairs, size: int, *, most: int) -> _Pairs:
    """Return each pair once per orientation, those that agree most first, at most so many."""
    keys = (pairs.first * size + pairs.second) * len(ORIENTATIONS) + pairs.orientation
    ordered = pairs.first_of(keys, np.argsort(-pairs.agreement, kind="stable"))
    return ordered.take(np.arange(min(len(ordered), most)))


def _nearest(
    queries: FloatArray, targets: FloatArray, members: IntArray, candidates: IntArray, *, orientation: int, rim: int
) -> Iterator[_Pairs]:
    """Yield the nearest neighbours of ``members``, as ``queries`` show them turned and without a rim, among ``candidates``, as
    ``targets`` show them."""
    zoom = 1 - 2 * rim / MIDDLE
    for block in _blocks(len(members), 1024):
        own = members[block]
        agreement = queries[block] @ targets.T
        agreement[np.arange(len(own)), np.searchsorted(candidates, own)] = -1
        for _ in range(min(NEAREST if orientation == 0 else 1, len(candidates))):
            nearest = agreement.argmax(axis=1)
            best = agreement[np.arange(len(own)), nearest]
            agreement[np.arange(len(own)), nearest] = -1
            good = best >= (TURNED_AGREEMENT if orientation else COARSE_AGREEMENT)
            one, other = own[good], candidates[nearest[good]]
            # Without a rim, the neighbour is the cropped one; else the order does not matter, and the same pair is found twice.
            swapped = (one > other) | bool(rim)
            yield _Pairs(
                np.where(swapped, other, one),
                np.where(swapped, one, other),
                np.where(swapped, _inverse(orientation), orientation),
                best[good],
                np.tile(np.array([zoom, 0, zoom, 0], dtype=np.float32), (len(one), 1)),
            )


def _inverse(orientation: int) -> int:
    """Return the orientation that undoes another: only the quarter turns do not undo themselves."""
    return {5: 6, 6: 5}.get(orientation, orientation)


def _cells(whole: FloatArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield groups of images, and the images that each group is compared with.

    Large data sets are clustered by what no turning changes: for every frequency the root of the sum of squares over its two
    axes. Two images are never farther apart there than they are themselves, so copies stand in the same cell or in neighbours.
    """
    count = len(whole) // _CELL
    if count < 2:
        everyone = np.arange(len(whole))
        yield everyone, everyone
        return
    upper = np.triu_indices(FREQUENCIES)
    still = np.sqrt(whole[:, upper[0], upper[1]] ** 2 + whole[:, upper[1], upper[0]] ** 2)
    rng = np.random.default_rng(0)
    sample = still[np.sort(rng.choice(len(still), min(len(still), 256 * count), replace=False))]
    centres = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(10):
        home = _distances(sample, centres).argmin(axis=1)
        centres = np.stack(
            [sample[home == cell].mean(axis=0) if (home == cell).any() else centres[cell] for cell in range(count)]
        )
    near = np.concatenate(
        [_distances(still[block], centres).argsort(axis=1)[:, :_CELLS_SEARCHED] for block in _blocks(len(still), 4096)]
    )
    for cell in range(count):
        members = np.flatnonzero(near[:, 0] == cell)
        if len(members):
            yield members, np.flatnonzero((near == cell).any(axis=1))


def _distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    """Return the squared distances, less what is the same for every centre, shape (points, centres)."""
    return np.asarray((centres**2).sum(axis=1) - 2 * points @ centres.T)


# ---------------------------------------------------------------------------------------------------- second and third look


def _align_all(small: ByteArray, pairs: _Pairs) -> _Pairs:
    """Return the pairs that lie on one another after alignment at 32 pixels; what does at once is laid more closely."""

    def lay_once(part: _Pairs, first: FloatArray, second: FloatArray) -> _Pairs:
        placement = align(first, second, part.placement)
        return replace(part, agreement=correlation(first, resample(second, placement)), placement=placement)

    def lay(block: slice) -> _Pairs:
        part = pairs.take(np.arange(len(pairs))[block])
        first = _turned_pairs(small[part.first].astype(np.float32), part.orientation)
        second = small[part.second].astype(np.float32)
        part = lay_once(part, first, second)
        kept = part.agreement >= ALIGNED_AGREEMENT
        return lay_once(part.take(kept), first[kept], second[kept])

    parts = list(map_in_order(lay, _blocks(len(pairs), _BLOCK)))
    return _Pairs.joined(parts) if parts else pairs


def _compare_detail(thumbnails: RowFile, rows: IntArray, pairs: _Pairs, *, in_any_case: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the agreement of the detail of aligned pairs; 0 where a look at 64 pixels says that it is low."""

    def compare(block: slice) -> FloatArray:
        part = pairs.take(np.arange(len(pairs))[block])
        first, second = thumbnails[rows[part.first]], thumbnails[rows[part.second]]
        coarse = _turned_pairs(shrunk(first, MIDDLE), part.orientation), shrunk(second, MIDDLE)
        kept = in_any_case[block] | (agreement_of_detail(*coarse, part.placement) >= LIKELY_AGREEMENT)
        agreement = np.zeros(len(part), dtype=np.float32)
        part = part.take(kept)
        fine = _turned_pairs(first[kept].astype(np.float32), part.orientation), second[kept].astype(np.float32)
        agreement[kept] = agreement_of_detail(*fine, part.placement)
        return agreement

    blocks = list(map_in_order(compare, _blocks(len(pairs), _BLOCK)))
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float32)


def _turned_pairs(first: FloatArray, orientation: IntArray) -> FloatArray:
    """Return the first images of pairs, each turned as its pair asks."""
    turned = first.copy()
    for wanted in np.unique(orientation[orientation > 0]):
        turned[orientation == wanted] = turn(first[orientation == wanted], int(wanted))
    return turned


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
