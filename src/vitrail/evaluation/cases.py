"""Which test images a report shows: some that the model got right, and the errors it was surest of."""

from __future__ import annotations

import numpy as np

from vitrail.records import Predictions


def pick_cases(predictions: Predictions, *, each: int) -> tuple[int, ...]:
    """Choose images to look at. Copies of one image count once.

    Args:
        predictions: Of one model.
        each: So many right and so many wrong ones at most.

    Returns:
        Positions in ``predictions``. First the right ones: by turns from every class, each time the one with the median score
        of what is left, because a typical case teaches more than the easiest. Then the wrong ones, most confident first.
    """
    right = predictions.predicted == predictions.truth
    confidence = predictions.probabilities.max(axis=1)
    _, first_of_group = np.unique(predictions.groups, return_index=True)
    candidates = np.sort(first_of_group)
    of_class = [right[candidates] & (predictions.truth[candidates] == label) for label in range(len(predictions.classes))]
    by_class = [list(candidates[rows]) for rows in of_class]
    chosen: list[int] = []
    while len(chosen) < each and any(by_class):
        for rows in by_class:
            if rows and len(chosen) < each:
                rows.sort(key=lambda row: (confidence[row], row))
                chosen.append(int(rows.pop(len(rows) // 2)))
    wrong = sorted((int(row) for row in candidates[~right[candidates]]), key=lambda row: (-confidence[row], row))
    return (*chosen, *wrong[:each])
