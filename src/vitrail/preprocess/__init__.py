"""PREPROCESS: how an image becomes a model's input, the same way in training and in serving."""

from vitrail.preprocess.geometry import restore_map
from vitrail.preprocess.pixels import decode_cache, pixel_batches, prepare_file
from vitrail.preprocess.recipe import make_recipe, normalise, prepare
from vitrail.preprocess.remarks import remarks

__all__ = [
    "decode_cache",
    "make_recipe",
    "normalise",
    "pixel_batches",
    "prepare",
    "prepare_file",
    "remarks",
    "restore_map",
]
