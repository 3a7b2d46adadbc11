"""Whom the images show: the study knows best, then the data set itself, then the names of the files."""

from __future__ import annotations

import pytest
from audit_data import data_set, entry

from vitrail.audit.patients import find_patients
from vitrail.errors import StudyError
from vitrail.records import Manifest


def made(*, column: bool = False, name: str = "person") -> Manifest:
    """Twenty patients of three images each; the column, if there is one, calls them otherwise than the names do."""
    return data_set(
        *(
            entry(f"cyst/{name}{number}_{image}.png", patient=f"C{number}" if column else "")
            for number in range(20)
            for image in range(3)
        )
    )


def test_the_studys_pattern_comes_first():
    found = find_patients(made(column=True), r"person\d+_(\d)")
    assert set(found.keys) == {"0", "1", "2"}
    assert (found.certain, found.proposed) == (True, ())
    assert found.origin == r"the study's pattern 'person\\d+_(\\d)'"


def test_the_column_or_headers_come_next():
    found = find_patients(made(column=True), None)
    assert set(found.keys) == {f"C{number}" for number in range(20)}
    assert found.certain
    assert "column or headers" in found.origin


def test_file_names_that_say_it_aloud_come_last_and_are_only_a_hint():
    found = find_patients(made(), None)
    assert set(found.keys) == {f"person{number}" for number in range(20)}
    assert not found.certain
    assert found.origin == "file names"
    assert [key.explicit for key in found.proposed] == [True]


def test_names_that_only_look_like_it_are_proposed_and_not_used():
    found = find_patients(made(name="img"), None)
    assert set(found.keys) == {""}
    assert (found.certain, found.origin) == (False, "")
    assert [(key.explicit, key.groups) for key in found.proposed] == [(False, 20)]


def test_off_means_that_every_image_stands_for_itself():
    found = find_patients(made(column=True), "off")
    assert set(found.keys) == {""}
    assert found.origin == ""


def test_a_pattern_that_fits_nothing_tells_nothing():
    found = find_patients(made(), "(nobody)")
    assert set(found.keys) == {""}
    assert found.origin == ""


@pytest.mark.parametrize("pattern", ["person", "(a)(b)", "("])
def test_what_is_no_pattern_with_one_group_is_refused(pattern):
    with pytest.raises(StudyError) as error:
        find_patients(made(), pattern)
    assert [problem.key for problem in error.value.problems] == ["data.patient"]
