"""SPLIT: who trains, who stops training early, who tests.

Groups (copies of one image, slices of one volume, images of one patient) are drawn as wholes, class by class, from a seed.
Every split, drawn or read from a file, passes :func:`check_split` before anybody sees it; folds for cross-validation pass
:func:`check_folds`.

How far a drawn part may be from what was asked: where every group has one label, the number of images of a class in validation,
in the test part or in a fold differs from its share of that class by at most the size of the class's largest group; with single
images, by at most one. Training takes what remains. Where groups mix labels (patients with several findings), the same is aimed
at and every class is in every part.
"""

from vitrail.split.check import check_split
from vitrail.split.drawing import Drawing
from vitrail.split.folds import Folds, check_folds, load_folds, make_folds, save_folds
from vitrail.split.lookalike import with_groups
from vitrail.split.make import draw_rows, make_split
from vitrail.split.table import load_split, save_split

__all__ = [
    "Drawing",
    "Folds",
    "check_folds",
    "check_split",
    "draw_rows",
    "load_folds",
    "load_split",
    "make_folds",
    "make_split",
    "save_folds",
    "save_split",
    "with_groups",
]
