"""The grade of a single map, beside random maps of the same image."""

from __future__ import annotations

import numpy as np

from vitrail.explanation.grading.baselines import random_map
from vitrail.explanation.grading.faithfulness import Removal, Scorer, removal_curves
from vitrail.records import ByteArray, FloatArray, MapGrade, MethodGrade, Placement

RANDOM_MAPS = 20
NEEDED = 19
"""Random maps that a map must beat. A map that knows nothing beats so many in 2 of 21 images."""


def grade_map(
    scores: Scorer,
    pixels: ByteArray,
    placement: Placement,
    values: FloatArray,
    *,
    target: int,
    method: str,
    of_method: MethodGrade | None = None,
    removal: Removal | None = None,
    seed: int,
) -> MapGrade:
    """Grade one map: its symmetric relevance gain among those of 20 random maps of the same image.

    The random maps come in pairs of opposite sign, whose gains are opposite too, so that ten of them are followed. They are as
    smooth as the coarsest class activation maps, which makes their gains spread widely: for finer maps the test is strict.

    Args:
        scores: The model.
        pixels: The prepared image, uint8, shape (size, size, channels).
        placement: What of it is image.
        values: The map, shape (size, size).
        target: The class explained.
        method: What made the map, for the reason.
        of_method: The method's grade on other images of this model, where it has one; a method that does not beat its
            baselines there makes no good map here.
        removal: How parts are removed; no insertion is followed.
        seed: Same seed, same grade.
    """
    removal = removal or Removal()
    removal = Removal(removal.steps, removal.cell, removal.fill, removal.measured, insertion=False, batch=removal.batch)
    maps = {"map": values[np.newaxis]}
    maps |= {
        f"random {number}": random_map(pixels, placement, seed, number=number)[np.newaxis] for number in range(RANDOM_MAPS // 2)
    }
    curves = removal_curves(scores, pixels[np.newaxis], (placement,), np.array([target]), maps, removal=removal, seed=seed)
    gain, *half = (float(one.relevance_gain[0]) for one in curves.values())
    gains = np.array([*half, *(-one for one in half)])
    beaten = float(np.count_nonzero(gain > gains) + 0.5 * np.count_nonzero(gain == gains))
    passed = beaten >= NEEDED
    reason = ""
    if not passed:
        reason = f"This map is no better than chance: it beats {beaten:g} of {len(gains)} random maps of the same image."
    elif of_method is not None and of_method.beats_baselines == "no":
        reason = (
            f"On {of_method.relevance_gain.n} other images, {method} maps of this model do not beat a map that knows nothing of "
            f"what it has learnt ({of_method.best_baseline})."
        )
    return MapGrade(gain, tuple(map(float, gains)), beaten / len(gains), passed, reason)
