"""GRADE: how good an explanation is, measured on the model itself and beside maps that know nothing of it."""

from vitrail.explanation.grading.choose import (
    GRADES,
    ToGrade,
    all_graded,
    chosen_here,
    chosen_words,
    first_named,
    grade_package,
    graded,
    grading_passes,
    kept_grades,
    method_graded,
    pick_images,
)
from vitrail.explanation.grading.faithfulness import Removal, RemovalCurves, removal_curves
from vitrail.explanation.grading.grade import Images, Maps, grade_methods
from vitrail.explanation.grading.localisation import find_masks, masks_found
from vitrail.explanation.grading.randomisation import randomisation_test
from vitrail.explanation.grading.wishes import check_explanation

__all__ = [
    "GRADES",
    "Images",
    "Maps",
    "Removal",
    "RemovalCurves",
    "ToGrade",
    "all_graded",
    "check_explanation",
    "chosen_here",
    "chosen_words",
    "find_masks",
    "first_named",
    "grade_methods",
    "grade_package",
    "graded",
    "grading_passes",
    "kept_grades",
    "masks_found",
    "method_graded",
    "pick_images",
    "randomisation_test",
    "removal_curves",
]
