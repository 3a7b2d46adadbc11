"""Groups of images on their way into parts (or folds): dealt out, completed, improved by exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from vitrail.records import IntArray

Counts = npt.NDArray[np.float64]

_EXCHANGES = 600
_CANDIDATES = 200
_FEW_GROUPS = 500
_DRAWINGS = 4  # of few groups, the best of so many drawings is taken
_ATTEMPTS = 40


class Inseparable(Exception):
    """A class cannot be in every part, as far as the search saw: its images share groups with those of other classes.

    Attributes:
        number: The class.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def draw(counts: Counts, shares: Sequence[float], rng: np.random.Generator) -> IntArray:
    """Draw a part for every group, with every class in every part.

    Args:
        counts: Number of images per group and class, shape (groups, classes); every class has an image.
        shares: Share of every class's images that each part shall have; they sum to 1.
        rng: Decides among what is equal.

    Returns:
        Part of every group, shape (groups,).

    Raises:
        Inseparable: No such drawing was found.
    """
    best: Drawing | None = None
    stuck = 0
    wanted = _DRAWINGS if len(counts) <= _FEW_GROUPS else 1
    for attempt in range(_ATTEMPTS):
        drawing = Drawing(counts, shares, rng, at_random=attempt >= wanted)
        lacking = drawing.complete()
        if lacking is not None:
            stuck = lacking
        else:
            drawing.improve()
            best = drawing if best is None or drawing.deviation < best.deviation - 1e-9 else best
        if best is not None and attempt + 1 >= wanted:
            return best.part_of
    raise Inseparable(stuck)


class Drawing:
    """Groups on their way into parts: dealt out with care, or thrown at random.

    Groups that count the same images of every class are of one *kind* and exchangeable.

    Deviation is measured as the sum over parts and classes of (images missing) squared, divided by the images of the class.

    Attributes:
        part_of: Part of every group, shape (groups,).
    """

    def __init__(self, counts: Counts, shares: Sequence[float], rng: np.random.Generator, *, at_random: bool = False) -> None:
        self._rng = rng
        self._kinds, self._kind_of = _kinds(counts)
        self._weights = 1 / counts.sum(axis=0)
        self._targets = np.outer(shares, counts.sum(axis=0))
        self._missing = self._targets.copy()
        self.part_of: IntArray = self._scatter() if at_random else self._deal(np.bincount(self._kind_of))
        self._stock = np.zeros((len(shares), len(self._kinds)), dtype=np.int64)
        np.add.at(self._stock, (self.part_of, self._kind_of), 1)

    @property
    def deviation(self) -> float:
        """Sum over parts and classes of (images missing) squared, divided by the images of the class."""
        return float((self._missing**2 * self._weights).sum())

    # ------------------------------------------------------------------------------------------------ dealing

    def _deal(self, stock: IntArray) -> IntArray:
        """Deal the groups out, large kinds first, in random order among equals.

        Of a kind with many groups, every part gets its share at once, in proportion to what it lacks. What remains goes one by
        one: a group goes, among the parts that it brings nearer to their targets, to the one that lacks the largest share of
        what the group holds, so that large groups spread over the parts in proportion; where it fits nowhere, it goes where it
        does least harm.
        """
        shuffled = self._rng.permutation(len(self._kind_of))
        members = shuffled[np.argsort(self._kind_of[shuffled], kind="stable")]
        ends = np.cumsum(stock)
        order = self._rng.permutation(len(stock))
        order = order[np.argsort(-self._kinds[order].sum(axis=1), kind="stable")]
        worth = self._kinds * self._weights
        half = ((self._kinds * worth).sum(axis=1) / 2).tolist()
        per_image = 1 / self._targets
        missing, relative = self._missing, self._missing * per_image
        part_of = np.empty(len(self._kind_of), dtype=np.int64)
        for kind in order.tolist():
            held, worthy, first, end = self._kinds[kind], worth[kind], int(ends[kind] - stock[kind]), int(ends[kind])
            if stock[kind] >= len(missing):
                shares = self._bulk(worthy, int(stock[kind]))
                last = first + int(shares.sum())
                part_of[members[first:last]] = np.repeat(np.arange(len(shares)), shares)
                missing -= np.outer(shares, held)
                relative = missing * per_image
                first = last
            for group in members[first:end].tolist():
                fit = missing @ worthy - half[kind]
                part = int(fit.argmax())
                if fit[part] >= 0:
                    lack = relative @ held
                    lack[fit < 0] = -np.inf
                    part = int(lack.argmax())
                part_of[group] = part
                missing[part] -= held
                relative[part] -= held * per_image[part]
        return part_of

    def _scatter(self) -> IntArray:
        """Throw the groups into parts at random: another start, where the best dealing cannot be completed."""
        part_of = self._rng.integers(0, len(self._missing), len(self._kind_of))
        np.subtract.at(self._missing, part_of, self._kinds[self._kind_of])
        return part_of

    def _bulk(self, worth: Counts, number: int) -> IntArray:
        """Return how many of ``number`` groups of a kind each part gets at once, rounded down, in proportion to its lack."""
        lack = np.maximum(self._missing @ worth, 0)
        total = lack.sum()
        if total <= 0:
            return np.zeros(len(lack), dtype=np.int64)
        return np.asarray(np.floor(number * lack / total + 1e-9), dtype=np.int64)

    # ------------------------------------------------------------------------------------------------ completing

    def complete(self) -> int | None:
        """Move or exchange groups so that every class is in every part; return a class for which no step does it, or ``None``."""
        while True:
            holes = np.argwhere(self._present() == 0)
            if not len(holes):
                return None
            steps = [
                self._best_gift(giver, int(part), int(number))
                for part, number in holes
                for giver in range(len(self._stock))
                if giver != part
            ]
            fewer, _, giver, taker, given, taken = min(steps)
            if fewer >= 0:
                return int(holes[0][1])
            self._exchange(giver, taker, given, taken)

    def _best_gift(self, giver: int, taker: int, number: int) -> tuple[float, float, int, int, int, int]:
        """Return the step that gives the taker class ``number``: change in holes, in deviation, the two parts and the kinds."""
        given, taken = self._candidates(giver)[:-1], self._candidates(taker)
        given = given[self._kinds[given][:, number] > 0]
        if not len(given):
            return np.inf, np.inf, giver, taker, -1, -1
        net = self._padded()[given][:, None, :] - self._padded()[taken][None, :, :]
        present = self._present()
        before = (present[giver] == 0).sum() + (present[taker] == 0).sum()
        holes = (present[giver] - net < 1).sum(axis=-1) + (present[taker] + net < 1).sum(axis=-1) - before
        change = self._change(giver, taker, given, taken)
        row, column = np.unravel_index(np.lexsort((change.ravel(), holes.ravel()))[0], change.shape)
        return float(holes[row, column]), float(change[row, column]), giver, taker, int(given[row]), int(taken[column])

    # ------------------------------------------------------------------------------------------------ improving

    def improve(self) -> None:
        """Exchange single groups between parts (or move one) while that lowers the deviation; every class stays in every part."""
        pairs = list(combinations(range(len(self._stock)), 2))
        left, idle = _EXCHANGES, 0
        while left and idle < len(pairs):
            one, other = pairs[0]
            pairs = [*pairs[1:], pairs[0]]
            change, given, taken = self._best_exchange(one, other)
            if change > -1e-9:
                idle += 1
                continue
            left, idle = left - 1, 0
            self._exchange(one, other, given, taken)

    def _best_exchange(self, one: int, other: int) -> tuple[float, int, int]:
        """Return the change in deviation, and the kinds that change places (-1: nothing in return)."""
        given, taken = self._candidates(one), self._candidates(other)
        change = self._change(one, other, given, taken)
        change[~self._leaves_all(one, other, given, taken)] = np.inf
        row, column = np.unravel_index(change.argmin(), change.shape)
        return float(change[row, column]), int(given[row]), int(taken[column])

    def _candidates(self, part: int) -> IntArray:
        """Return kinds of which a part has a group, a random choice when there are very many, and -1 for "no group"."""
        kinds = np.flatnonzero(self._stock[part])
        if len(kinds) > _CANDIDATES:
            kinds = self._rng.choice(kinds, _CANDIDATES, replace=False)
        return np.append(kinds, -1)

    def _padded(self) -> Counts:
        """Return the kinds and, at the end (so at -1), "no group"."""
        return np.vstack([self._kinds, np.zeros(self._kinds.shape[1])])

    def _present(self) -> Counts:
        """Return the number of images per part and class."""
        return np.asarray(np.rint(self._targets - self._missing))

    def _change(self, one: int, other: int, given: IntArray, taken: IntArray) -> Counts:
        """Return the change in deviation for every kind given (rows) and taken in return (columns).

        With d = given - taken and w the weights it is 2 (d² + d · gap) w, summed over the classes; multiplied out, so that the
        cost is one matrix product.
        """
        padded = self._padded()
        gifts, returns = padded[given], padded[taken]
        gap = (self._missing[one] - self._missing[other]) * self._weights
        of_gifts = gifts**2 @ self._weights + gifts @ gap
        of_returns = returns**2 @ self._weights - returns @ gap
        return np.asarray(2 * (of_gifts[:, None] + of_returns[None, :] - 2 * (gifts * self._weights) @ returns.T))

    def _leaves_all(self, one: int, other: int, given: IntArray, taken: IntArray) -> npt.NDArray[np.bool_]:
        """Return whether both parts keep at least one image of every class that they have, for every pair of kinds."""
        padded, present = self._padded(), self._present()
        gifts, returns = padded[given], padded[taken]
        scarce = (present[one] <= gifts.max(axis=0)) | (present[other] <= returns.max(axis=0))
        net = gifts[:, None, scarce] - returns[None, :, scarce]
        kept = (present[one, scarce] - net >= 1) & (present[other, scarce] + net >= 1)
        return np.asarray(np.all(kept | (net == 0), axis=-1))

    def _exchange(self, one: int, other: int, given: int, taken: int) -> None:
        """Let a group of one kind go from one part to another, and one of another kind back (-1: none)."""
        for kind, giver, taker in ((given, one, other), (taken, other, one)):
            if kind < 0:
                continue
            group = self._rng.choice(np.flatnonzero((self.part_of == giver) & (self._kind_of == kind)))
            self.part_of[group] = taker
            self._stock[giver, kind] -= 1
            self._stock[taker, kind] += 1
            self._missing[giver] += self._kinds[kind]
            self._missing[taker] -= self._kinds[kind]


def _kinds(counts: Counts) -> tuple[Counts, IntArray]:
    """Return the different rows of ``counts``, and which of them each row is.

    Rows are told apart by a hash, which is much faster than sorting them; that equal hashes mean equal rows is verified.
    """
    factors = np.random.default_rng(0).integers(1, 2**63, counts.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = (counts.astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    _, first, kind_of = np.unique(hashes, return_index=True, return_inverse=True)
    kinds = counts[first]
    if not np.array_equal(kinds[kind_of], counts):
        kinds, kind_of = np.unique(counts, axis=0, return_inverse=True)
    return kinds, kind_of.reshape(-1)
