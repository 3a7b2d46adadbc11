"""The list of openings of the test images: kept beside the runs, because it must outlive each of them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from vitrail.storage import locked, read_record, write_record


@dataclass(frozen=True)
class Opening:
    """One opening of a data set's test images.

    Attributes:
        data: Fingerprint of the data set.
        study: Fingerprint of the study.
        model: Name of the model they were opened for.
        when: ISO 8601 with time zone.
    """

    data: str
    study: str
    model: str
    when: str


def note_test_opening(path: Path, *, data: str, study: str, model: str) -> tuple[int, int]:
    """Note that the test images are about to be opened for a model.

    Beginning a run anew or changing a setting does not begin a new list: a test set that is looked at again and again while
    settings change is no test set any more.

    Args:
        path: The list, a JSON file.
        data: Fingerprint of the data set.
        study: Fingerprint of the study.
        model: The model's name.

    Returns:
        How often they were opened for this model of this study, and for any model of any study in the list.
    """
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with locked(path):
        openings = read_record(path, list[Opening]) if path.exists() else []
        openings.append(Opening(data, study, model, when))
        write_record(path, openings)
    of_data = [opening for opening in openings if opening.data == data]
    return sum((opening.study, opening.model) == (study, model) for opening in of_data), len(of_data)
