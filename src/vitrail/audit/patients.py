"""Which images show the same patient, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.datasets import PatientKey, name_patients, propose_patient_keys
from vitrail.records import Manifest


@dataclass(frozen=True)
class Patients:
    """The patients of a data set, as far as anything tells them apart.

    Attributes:
        keys: Key of the patient per file; empty where nobody says who it is.
        certain: Whether the data set's table or headers say it, or the study; otherwise file names alone suggest it.
        origin: Where the keys come from, in words; empty where there are none.
        proposed: Patterns in the names that may tell patients, whether they are used or not.
    """

    keys: tuple[str, ...]
    certain: bool
    origin: str
    proposed: tuple[PatientKey, ...] = ()


def find_patients(manifest: Manifest, pattern: str | None) -> Patients:
    """Return the patients: what the study says, else what the data set's table or headers say, else what file names say aloud.

    Args:
        manifest: The data set.
        pattern: The study's ``data.patient``: a regular expression with one group, ``off``, or ``None``.

    Raises:
        StudyError: The pattern is no regular expression with one group.
    """
    paths = [file.path for file in manifest.files]
    if pattern is not None:
        keys = tuple(name_patients(paths, [pattern]))
        return Patients(keys, True, f"the study's pattern {pattern!r}" if any(keys) else "")
    known = tuple(file.patient for file in manifest.files)
    if any(known):
        return Patients(known, True, "the data set's own patient column or headers")
    proposed = propose_patient_keys(paths, [file.label for file in manifest.files], [file.part for file in manifest.files])
    explicit = [key.pattern for key in proposed if key.explicit]
    return Patients(tuple(name_patients(paths, explicit)), False, "file names" if explicit else "", proposed)
