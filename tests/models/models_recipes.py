"""Recipes and pixels for the tests of this room."""

from __future__ import annotations

import numpy as np

from vitrail.records import ByteArray, Recipe

GREY = Recipe(32, "grey", False, False, "unit")


def pixels_of(recipe: Recipe, *, count: int = 5, seed: int = 0) -> ByteArray:
    """Noise in the shape that a recipe asks for."""
    shape = (count, recipe.size, recipe.size, recipe.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
