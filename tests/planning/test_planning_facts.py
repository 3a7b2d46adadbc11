"""What the rules of a plan look at, read from files and findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.datasets import scan_folder
from vitrail.planning.facts import shortcuts_of
from vitrail.records import AuditReport, Finding, Severity


def finding(code: str, severity: Severity = "warning", accepted: str = "") -> Finding:
    return Finding(code, "Title", severity, 1, "Message.", "Why.", "Fix.", "Does.", (), accepted)


def report(*findings: Finding) -> AuditReport:
    return AuditReport(4, 4, findings, (), (0, 1, 2, 3), frozenset(), frozenset())


@pytest.mark.parametrize(("sides", "files_count"), [((20, 20), False), ((20, 24), True)])
def test_shortcuts_are_those_that_count_and_that_a_network_can_see(
    sides: tuple[int, int], files_count: bool, tmp_path: Path
) -> None:
    for number in range(4):
        (tmp_path / "images" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (20, sides[number % 2]), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "ab"[number % 2] / f"{number}.png")
    manifest = scan_folder(tmp_path / "images", cache=tmp_path / "cache")
    found = report(
        finding("SHC503", "error"),
        finding("SHC501", "error"),
        finding("SHC502", "info"),
        finding("SHC504", accepted="the letters stand on all images"),
        finding("DUP201"),
    )
    assert shortcuts_of(manifest, found) == (("SHC501", "SHC503") if files_count else ("SHC503",))
