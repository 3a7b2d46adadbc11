"""A folder of everything that can go wrong with files: the audit goes on, uses what is good and names what is not."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from torture_folder import CLASSES, make_torture_folder

from vitrail.audit import summary
from vitrail.auditing import audit
from vitrail.study import DataSettings, Study


@pytest.fixture(scope="module")
def tortured(tmp_path_factory):
    """The kinds of trouble, the manifest and the report of a small folder of them."""
    folder = tmp_path_factory.mktemp("torture")
    ordeals = make_torture_folder(folder / "images", files=300, mild=True)
    manifest, report = audit(Study(data=DataSettings(path=folder / "images"), output=folder / "runs"))
    return ordeals, manifest, report


def named_by_file_checks(report) -> set[str]:
    """The files that findings about files name, those about images that are used all the same left out."""
    about_files = [finding for finding in report.findings if finding.code.startswith("IO") and finding.code != "IO105"]
    return {re.sub(r"#\d+$", "", path) for finding in about_files for piece in finding.evidence for path in piece.paths}


def test_good_images_are_used_whatever_their_names(tortured):
    ordeals, manifest, report = tortured
    readable = {file.path for file in manifest.files if file.readable}
    good = {path for ordeal in ordeals if ordeal.expected == "used" for path in ordeal.paths}
    assert len(good) > 180
    assert good <= readable
    assert not good & named_by_file_checks(report)


def test_everything_bad_is_named_by_a_finding_and_used_by_none(tortured):
    ordeals, manifest, report = tortured
    named = named_by_file_checks(report)
    missing = Counter(
        ordeal.kind for ordeal in ordeals if ordeal.expected == "listed" for path in ordeal.paths if path not in named
    )
    assert missing == {}
    readable = {re.sub(r"#\d+$", "", file.path) for file in manifest.files if file.readable}
    assert not readable & {path for ordeal in ordeals if ordeal.expected == "listed" for path in ordeal.paths}


def test_every_unused_file_says_why_in_one_line(tortured):
    _, manifest, _ = tortured
    unused = [file for file in manifest.files if not file.readable]
    assert len(unused) > 60
    assert all(3 < len(file.problem) < 300 and "\n" not in file.problem for file in unused)


def test_classes_are_those_of_the_folders_and_names_can_be_written(tortured):
    _, manifest, report = tortured
    assert manifest.classes == CLASSES
    assert json.loads(json.dumps(summary(report)).encode("utf-8"))["readable"] == report.readable
