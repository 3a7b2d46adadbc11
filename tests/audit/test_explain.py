from __future__ import annotations

import pytest

from vitrail.audit import CHECKS
from vitrail.audit.explain import explain_check, explanation_of, list_checks, paragraphs
from vitrail.errors import UsageError

LEAK = next(check for check in CHECKS if check.code == "LEAK301")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_code_is_explained_in_lines_that_fit(check):
    text = explain_check(check.code, width=60)
    words = " ".join(text.split())
    assert text.splitlines()[0] == f"{check.code}  {check.title}"
    assert check.why in words
    assert " ".join(check.explanation.split()) in words
    assert max(len(line) for line in text.splitlines()[1:]) <= 60


def test_the_case_of_a_code_does_not_matter():
    assert explain_check(" leak301 ") == explain_check("LEAK301")


@pytest.mark.parametrize("word", ["all", "ALL"])
def test_all_lists_every_check_with_its_title_in_order(word):
    lines = explain_check(word).splitlines()
    assert [line.split()[0] for line in lines] == sorted(check.code for check in CHECKS)
    assert f"LEAK301  {LEAK.title}" in lines


def test_an_unknown_code_lists_the_known_ones():
    with pytest.raises(UsageError, match="'LEAK999': no check has this code") as error:
        explain_check("LEAK999")
    assert list_checks() in str(error.value)


def test_paragraphs_are_parted_by_blank_lines_alone():
    assert paragraphs("One\n  line.\n \n\n    Two.\n") == ("One line.", "Two.")
    assert explanation_of("LEAK301") == paragraphs(LEAK.explanation)
    assert explanation_of("OLD001") == ()
