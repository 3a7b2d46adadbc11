"""PREPROCESS: how an image becomes a model's input, the same way in training and in serving."""

from vitrail.preprocess.bias import missing_for
from vitrail.preprocess.geometry import restore_map
from vitrail.preprocess.pixels import decode_cache, pixel_batches, prepare_file, prepare_file_for_all
from vitrail.preprocess.recipe import make_recipe, normalise, prepare
from vitrail.preprocess.remarks import remarks, view_remarks
from vitrail.preprocess.views import PLAIN, VIEWS, View, seen

__all__ = [
    "PLAIN",
    "VIEWS",
    "View",
    "decode_cache",
    "make_recipe",
    "missing_for",
    "normalise",
    "pixel_batches",
    "prepare",
    "prepare_file",
    "prepare_file_for_all",
    "remarks",
    "restore_map",
    "seen",
    "view_remarks",
]
