"""An audit on disk, for people and programmes that look at it later.

<output>/audits/<study>/
  audit.html     the page
  audit.json     what ``vitrail audit --json`` prints
  fixes.csv      what is proposed for single files; a list that a person has changed is never overwritten
  fixes.sha256   which lists are still as vitrail wrote them
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.audit.fixes import Fix, fixes_to_csv, propose_fixes, read_fixes
from vitrail.audit.run_audit import summary
from vitrail.errors import DataError
from vitrail.records import AuditReport, Manifest
from vitrail.reporting import write_audit_page
from vitrail.settings import Acceptance
from vitrail.storage import check_writable, locked, write_bytes, write_text

LIST, DIGESTS = "fixes.csv", "fixes.sha256"


@dataclass(frozen=True)
class AuditPaths:
    """Where an audit stands.

    Attributes:
        page: The HTML page.
        summary: The JSON.
        fixes: The list of fixes that this audit proposes; ``None`` when it proposes nothing that is not in a list already.
        proposed: What stands in that list.
        kept: The list that a person has changed, or that the study applies, and that was therefore left alone; else ``None``.
    """

    page: Path
    summary: Path
    fixes: Path | None
    proposed: tuple[Fix, ...]
    kept: Path | None = None


def audit_folder(output: Path, study: str) -> Path:
    """Return the folder of the audits of one study.

    Args:
        output: The study's output folder.
        study: The study's name.
    """
    return output / "audits" / study


def save_audit(
    folder: Path,
    manifest: Manifest,
    report: AuditReport,
    *,
    name: str,
    accepted: Sequence[Acceptance] = (),
    applied: Path | None = None,
) -> AuditPaths:
    """Write the page, the JSON and the list of fixes of an audit.

    A list of fixes that a person has changed, or that the study applies, is left alone: proposals that are not in it go to
    ``fixes-new.csv`` beside it.

    Args:
        folder: Of the audit; made when it is not there.
        manifest: The data set.
        report: What is wrong with it.
        name: The study's name.
        accepted: The acceptances of the study.
        applied: The list of fixes that the study applies already.

    Raises:
        OutputError: The folder cannot be written.
    """
    check_writable(folder)
    fixes = propose_fixes(manifest, report)
    with locked(folder):
        place, proposed, kept = _save_fixes(folder, fixes, applied)
        page, plain = folder / "audit.html", folder / "audit.json"
        write_text(plain, json.dumps(summary(report), indent=2, allow_nan=False) + "\n")
        listed = place.name if place is not None else ""
        write_audit_page(manifest, report, page, name=name, fixes=proposed, fixes_file=listed, accepted=accepted)
    return AuditPaths(page, plain, place, proposed, kept)


def _save_fixes(folder: Path, fixes: tuple[Fix, ...], applied: Path | None) -> tuple[Path | None, tuple[Fix, ...], Path | None]:
    """Write the list; return where, what stands in it, and the list that was left alone."""
    place = folder / LIST
    if _may_be_written(place, applied):
        _write(place, fixes)
        return place, fixes, None
    settled = _paths_in(place)
    number, beside = 1, folder / "fixes-new.csv"
    while not _may_be_written(beside, applied):
        settled |= _paths_in(beside)
        number += 1
        beside = folder / f"fixes-new-{number}.csv"
    new = tuple(fix for fix in fixes if fix.path not in settled)
    if not new:
        beside.unlink(missing_ok=True)  # ours, and out of date
        return None, (), place
    _write(beside, new)
    return beside, new, place


def _may_be_written(place: Path, applied: Path | None) -> bool:
    """Return whether a list is not there yet, or as vitrail wrote it and not in use."""
    if not place.exists():
        return True
    in_use = applied is not None and applied.exists() and place.samefile(applied)
    return not in_use and _digests(place.parent).get(place.name) == hashlib.sha256(place.read_bytes()).hexdigest()


def _write(place: Path, fixes: Sequence[Fix]) -> None:
    content = fixes_to_csv(fixes)
    digests = _digests(place.parent) | {place.name: hashlib.sha256(content).hexdigest()}
    write_bytes(place, content)
    write_text(place.parent / DIGESTS, "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))


def _digests(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the lists as vitrail wrote them; the file reads as ``sha256sum`` writes it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = (folder / DIGESTS).read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return {}


def _paths_in(place: Path) -> set[str]:
    """Return the files that a list says something about; none when a person has made it unreadable."""
    with contextlib.suppress(DataError):
        return {fix.path for fix in read_fixes(place)}
    return set()
