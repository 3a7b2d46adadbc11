"""The grade of a single map, beside random maps of the same image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vitrail.explanation.grading.baselines import random_map
from vitrail.explanation.grading.cells import DoubleArray
from vitrail.explanation.grading.faithfulness import Removal, Scorer, removal_curves
from vitrail.records import ByteArray, FloatArray, MapGrade, MethodGrade, Placement

RANDOM_MAPS = 20
NEEDED = 19
"""Random maps that a map must beat. A map that knows nothing beats so many in 1 of 11 images: it must have the right sign (1 of
2), and of itself and the ten pairs one of the two largest gains (2 of 11)."""


def grade_maps(
    scores: Scorer,
    pixels: ByteArray,
    placement: Placement,
    maps: Mapping[str, FloatArray],
    *,
    target: int,
    of_methods: Mapping[str, MethodGrade],
    removal: Removal | None = None,
    seed: int,
) -> dict[str, MapGrade]:
    """Grade maps of one image: the symmetric relevance gain of each among those of 20 random maps of the same image.

    The random maps come in pairs of opposite sign, whose gains are opposite too, so that ten of them are followed. They are as
    smooth as the coarsest class activation maps, which makes their gains spread widely: for finer maps the test is strict.

    Args:
        scores: The model.
        pixels: The prepared image, uint8, shape (size, size, channels).
        placement: What of it is image.
        maps: Method -> map, shape (size, size); the random maps are followed once for all of them.
        target: The class explained.
        of_methods: The methods' grades on other images of this model, where they have any; a method that does not beat its
            baselines there makes no good map here.
        removal: How parts are removed; no insertion is followed.
        seed: Same seed, same grades.
    """
    removal = replace(removal or Removal(), insertion=False)
    followed = {method: values[np.newaxis] for method, values in maps.items()}
    followed |= {
        f"random {number}": random_map(pixels, placement, seed, number=number)[np.newaxis] for number in range(RANDOM_MAPS // 2)
    }
    curves = removal_curves(scores, pixels[np.newaxis], (placement,), np.array([target]), followed, removal=removal, seed=seed)
    half = [float(curve.relevance_gain[0]) for name, curve in curves.items() if name not in maps]
    gains = np.array([*half, *(-one for one in half)])
    return {method: _grade(method, float(curves[method].relevance_gain[0]), gains, of_methods.get(method)) for method in maps}


def _grade(method: str, gain: float, gains: DoubleArray, of_method: MethodGrade | None) -> MapGrade:
    """Return the grade of a map by its gain and those of random maps."""
    beaten = float(np.count_nonzero(gain > gains) + 0.5 * np.count_nonzero(gain == gains))
    passed = beaten >= NEEDED
    known = MapGrade(None, (), None, None) if of_method is None else method_grade(method, of_method)
    chance = f"This map is no better than chance: it beats {beaten:g} of {len(gains)} random maps of the same image."
    return replace(
        known,
        relevance_gain=gain,
        random_gains=tuple(map(float, gains)),
        share_beaten=beaten / len(gains),
        passed=passed,
        reason=known.reason if passed else chance,
    )


def method_grade(method: str, of_method: MethodGrade) -> MapGrade:
    """Return what is known of a map without looking at it: how its method does on other images of this model. Costs no pass.

    Args:
        method: What made the map, for the reason.
        of_method: The method's grade on other images.
    """
    reason = ""
    if of_method.beats_baselines == "no":
        reason = (
            f"On {of_method.relevance_gain.n} other images, {method} maps of this model do not beat a map that knows nothing of "
            f"what it has learnt ({of_method.best_baseline})."
        )
    return MapGrade(
        relevance_gain=None,
        random_gains=(),
        share_beaten=None,
        passed=None,
        reason=reason,
        method_gain=of_method.relevance_gain,
        method_beats_baselines=of_method.beats_baselines,
    )
