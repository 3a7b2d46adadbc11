"""Smooth random fields and soft shapes: the pencils of the phantom.

Arrays are float32; the numbers beside them are Python floats, which (unlike NumPy's) leave an array's type as it is.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[Any]
"""Float32; the type says less because NumPy's own types take float32 times a Python float for float64."""


@functools.lru_cache(maxsize=256)
def spline_matrix(pixels: int, knots: int) -> Any:
    """Return the weights that draw ``pixels`` samples of a uniform cubic B-spline from ``knots`` + 3 values.

    A sparse float32 matrix of shape (pixels, knots + 3). A field is ``rows @ values @ columns.T``, which costs a tenth of a
    filter over the image, and, unlike a dense product, always runs in the one thread that asks for it.
    """
    from scipy import sparse

    position = np.linspace(0.0, knots, pixels, endpoint=False) + 0.5 * knots / pixels
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6.0
    knot = first[:, None] + np.arange(4)
    pixel = np.repeat(np.arange(pixels), 4)
    return sparse.csr_array((weights.astype(np.float32).ravel(), (pixel, knot.ravel())), shape=(pixels, knots + 3))


def smooth_field(rng: np.random.Generator, rows: int, columns: int, *, waves: int, progress: float = 0.0) -> Field:
    """Return a smooth random field of deviation about 1, float32 of shape (rows, columns).

    Args:
        rng: Draws two sets of values, whatever ``progress`` is.
        rows: Height in pixels.
        columns: Width in pixels.
        waves: Number of knots across the image: the more, the finer.
        progress: How far the field has changed along the stack of slices, in radians: neighbours resemble each other.
    """
    values = rng.standard_normal((2, waves + 3, waves + 3), dtype=np.float32)
    mixed = 1.6 * math.cos(progress) * values[0] + 1.6 * math.sin(progress) * values[1]
    stretched = np.ascontiguousarray((spline_matrix(columns, waves) @ mixed.T).T)
    field: Field = spline_matrix(rows, waves) @ stretched
    return field


def inside(distance: Field, softness: float) -> Field:
    """Return 1 where ``distance`` is negative, 0 where positive, with a soft edge ``softness`` wide."""
    return np.clip(0.5 - distance / softness, 0.0, 1.0)


def ellipse(across: Field, along: Field, *, at: tuple[float, float], half: tuple[float, float], turn: float = 0.0) -> Field:
    """Return about the signed distance to an ellipse (negative inside), in the units of the coordinates."""
    dx, dy = across - at[0], along - at[1]
    if turn:
        cosine, sine = math.cos(turn), math.sin(turn)
        dx, dy = cosine * dx + sine * dy, cosine * dy - sine * dx
    return min(half) * (np.sqrt((dx / half[0]) ** 2 + (dy / half[1]) ** 2) - 1.0)


def capsule(
    across: Field, along: Field, *, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> Field:
    """Return the signed distance to a thick line whose radius goes from one value to the other (negative inside)."""
    step = (end[0] - start[0]), (end[1] - start[1])
    dx, dy = across - start[0], along - start[1]
    share = np.clip((dx * step[0] + dy * step[1]) / (step[0] ** 2 + step[1] ** 2), 0.0, 1.0)
    gap = np.sqrt((dx - share * step[0]) ** 2 + (dy - share * step[1]) ** 2)
    return gap - (radii[0] + share * (radii[1] - radii[0]))


def paint(canvas: Field, tone: Field | float, cover: Field) -> None:
    """Lay ``tone`` over ``canvas`` in place where ``cover`` is 1, partly where it is between 0 and 1."""
    canvas += cover * (tone - canvas)
