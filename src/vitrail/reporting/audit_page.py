"""The page of an audit: one HTML file about a folder of images on which nothing has been trained.

It shares its look and the layout of findings with the report, needs no plotting library, and stays at a few MB however many
images there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vitrail.audit.fixes import Fix
from vitrail.records import AuditReport, Finding, Manifest
from vitrail.reporting.findings import SEVERITY_WORDS, finding_views, severity_counts
from vitrail.reporting.page import compile_templates, render
from vitrail.reporting.thumbnails import Thumbnails, examples
from vitrail.reporting.wording import counted
from vitrail.settings import Acceptance
from vitrail.storage import write_text

MOST_LISTED = 200
"""Pieces of evidence and rows of tables that one finding lists; ``audit.json`` has them all."""
MOST_CLASSES = 200
_TEMPLATES = ("audit.html.j2", "page.html.j2", "parts.html.j2", "findings.html.j2")  # the page, and what it is made of
PART_WORDS = {"train": "Training", "validation": "Validation", "test": "Test", "": "No part"}

TERMS: tuple[tuple[str, str], ...] = (
    (
        "Error, warning, note",
        "An error means that claims about the test images are not to be trusted as they stand. A warning is something to look "
        "at before training. A note is good to know.",
    ),
    (
        "Training, validation, test",
        "A model learns from the training images. The validation images say when to stop and which model to take. The test "
        "images are kept for one honest exam at the end.",
    ),
    (
        "Leak",
        "Something of the test that also stands in training: the same image, a copy of it, another slice or another image of "
        "the same patient. A model can remember it instead of recognising it, and the exam is too easy.",
    ),
    (
        "Copy, near copy, mirrored copy",
        "An exact copy has the same bytes. A near copy shows the same picture with other bytes: saved again, scaled, slightly "
        "cropped. A mirrored copy is a near copy that was flipped or turned.",
    ),
    (
        "Group",
        "Images that belong together: copies of one image, slices of one volume, images of one patient. vitrail keeps a group "
        "on one side of every split it draws.",
    ),
    (
        "Shortcut",
        "Something besides the disease that tells the classes apart, for example the size of the files or a frame around the "
        "image. A model that learns it looks good here and fails elsewhere.",
    ),
)


@dataclass(frozen=True)
class ClassCounts:
    """One class of the data set.

    Attributes:
        name: The class.
        parts: Readable images in each of the parts that the table shows.
        unusable: Files that are not readable images.
        excluded: Files that the list of fixes leaves out.
        total: All files.
        bars: Width of each part's bar in per cent of the widest class.
    """

    name: str
    parts: tuple[int, ...]
    unusable: int
    excluded: int
    total: int
    bars: tuple[float, ...]


def write_audit_page(
    manifest: Manifest,
    report: AuditReport,
    path: Path,
    *,
    name: str,
    fixes: Sequence[Fix] = (),
    fixes_file: str = "fixes.csv",
    accepted: Sequence[Acceptance] = (),
) -> None:
    """Write the page of an audit as one self-contained HTML file, whole or not at all.

    The same audit gives the same bytes. Large audits are cut: at most about 600 pictures and 200 listed files for each finding,
    and the page says how much more there is and where it stands.

    Args:
        manifest: The data set.
        report: What is wrong with it.
        path: The HTML file.
        name: Name of the study, for the heading.
        fixes: What is proposed for single files; the page counts them and says how they are applied.
        fixes_file: Name of the list of fixes that stands beside the page.
        accepted: The acceptances of the study, for their last days.

    Raises:
        OutputError: The folder cannot be written.
    """
    thumbnails = Thumbnails(manifest)
    parts = tuple(part for part in PART_WORDS if any((file.part or "") == part and file.readable for file in manifest.files))
    classes = _class_counts(manifest, parts)
    numbers = dict(severity_counts([finding for finding in report.findings if not finding.accepted]))
    content = {
        "name": name,
        "version": version("vitrail"),
        "manifest": manifest,
        "audit": report,
        "verdict": _verdict(report),
        "meaning": _meaning(numbers["error"], numbers["warning"], len(report.findings)),
        "severities": severity_counts(report.findings),
        "parts": [("Images" if parts == ("",) else PART_WORDS[part]) for part in parts],
        "classes": classes[:MOST_CLASSES],
        "total": _total(classes, len(parts)),
        "more_classes": max(0, len(classes) - MOST_CLASSES),
        "examples": examples(manifest, thumbnails, preferred=lambda row: manifest.files[row].part in ("train", None)),
        "findings": finding_views(report.findings, thumbnails, most_listed=MOST_LISTED, until=_last_days(report, accepted)),
        "fixes": Counter(fix.action for fix in fixes),
        "fixes_file": fixes_file,
        "terms": TERMS,
    }
    write_text(path, render(_TEMPLATES[0], content))


def compile_audit_page() -> None:
    """Compile the templates of the page before it is needed."""
    compile_templates(*_TEMPLATES)


def _verdict(report: AuditReport) -> str:
    """Return the headline: what was found, in numbers."""
    if not report.findings:
        return "The audit found nothing."
    found = [counted(number, *SEVERITY_WORDS[severity]) for severity, number in severity_counts(report.findings) if number]
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    settled = sum(bool(finding.accepted) for finding in report.findings)
    return f"The audit found {listed}{f', of which the study accepts {settled}' if settled else ''}."


def _meaning(errors: int, warnings: int, findings: int) -> str:
    """Return what the numbers mean, counting what the study does not accept."""
    if errors:
        return (
            "Scores on this data set are not to be trusted as they stand: settle the errors first, and read what vitrail does "
            "about each of them."
        )
    if warnings:
        return "Nothing makes the test images unfit for a claim, but look at the warnings before you train."
    if findings:
        return "Nothing needs to be done before training."
    return "None of its checks had anything to say. It finds what it looks for; that is no proof that all is well."


def _last_days(report: AuditReport, accepted: Sequence[Acceptance]) -> dict[str, str]:
    """Return the last day of the acceptance of each accepted finding, where it has one."""

    def last_day(finding: Finding) -> str:
        days = [item.until for item in accepted if (item.code, item.reason) == (finding.code, finding.accepted)]
        return days[0].isoformat() if days and days[0] is not None else ""

    return {finding.code: last_day(finding) for finding in report.findings if finding.accepted}


def _class_counts(manifest: Manifest, parts: tuple[str, ...]) -> list[ClassCounts]:
    readable = Counter((file.label, str(file.part or "")) for file in manifest.files if file.readable)
    excluded = Counter(file.label for file in manifest.files if file.status == "excluded")
    totals = Counter(file.label for file in manifest.files)
    widest = max((sum(readable[name, part] for part in parts) for name in manifest.classes), default=0) or 1
    rows = []
    for name in manifest.classes:
        counts = tuple(readable[name, part] for part in parts)
        unusable = totals[name] - sum(counts) - excluded[name]
        bars = tuple(round(100 * count / widest, 2) for count in counts)
        rows.append(ClassCounts(name, counts, unusable, excluded[name], totals[name], bars))
    return rows


def _total(classes: Sequence[ClassCounts], parts: int) -> ClassCounts:
    return ClassCounts(
        name="All classes",
        parts=tuple(sum(row.parts[part] for row in classes) for part in range(parts)),
        unusable=sum(row.unusable for row in classes),
        excluded=sum(row.excluded for row in classes),
        total=sum(row.total for row in classes),
        bars=(),
    )
