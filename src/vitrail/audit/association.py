"""Small statistics on many questions and on two categories."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vitrail.records import IntArray


def adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values adjusted for the number of questions asked (Benjamini & Hochberg 1995), in the given order."""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)[::-1]
    ranked = values[order] * len(values) / np.arange(len(values), 0, -1)
    result = np.empty_like(values)
    result[order] = np.minimum(1.0, np.minimum.accumulate(ranked))
    return tuple(result.tolist())


def cramers_v(first: IntArray, second: IntArray) -> float:
    """Return how closely two categories go together, 0..1, corrected for bias (Bergsma 2013).

    Args:
        first: Category of every case, integers from 0, shape (n,).
        second: The same for the other category.
    """
    first, second = (np.unique(codes, return_inverse=True)[1] for codes in (first, second))
    rows, columns, size = int(first.max()) + 1, int(second.max()) + 1, len(first)
    if min(rows, columns) < 2:
        return 0.0
    table = np.bincount(first * columns + second, minlength=rows * columns).reshape(rows, columns).astype(np.float64)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / size
    phi = float(((table - expected) ** 2 / expected).sum()) / size
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (size - 1))
    smaller = min(rows - (rows - 1) ** 2 / (size - 1), columns - (columns - 1) ** 2 / (size - 1)) - 1
    return math.sqrt(min(1.0, phi / smaller)) if smaller > 0 else 0.0
