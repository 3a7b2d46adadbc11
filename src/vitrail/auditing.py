"""A study's audit: its images are read and audited, and what was found is kept.

The checks and the page load while other processes read the images, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.datasets import find_layout, scan_folder
from vitrail.places import cache_of, check_places, source_fingerprint
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, Manifest
from vitrail.storage import fingerprint, read_record, write_record
from vitrail.study import Study

if TYPE_CHECKING:
    from vitrail.audit_folder import AuditPaths


def audit(study: Study, *, progress: Progress = SILENT) -> tuple[Manifest, AuditReport]:
    """Read the images and audit them; nothing is trained, no run folder is made, and no finding stops it.

    Raises:
        UsageError: The folder or the study cannot be used.
    """
    check_places(study)
    if study.audit.accept:  # loads the checks, which else are loaded while the images are read
        from vitrail.audit import check_acceptances

        check_acceptances(study.audit)
    cache = cache_of(study)
    manifest = scan_folder(study.data.path, cache=cache, settings=study.data, progress=progress, meanwhile=_load_what_follows)
    from vitrail.audit import ask, judge
    from vitrail.audit.fixes import apply_fixes, read_fixes

    if study.data.fixes is not None:
        manifest = apply_fixes(manifest, read_fixes(study.data.fixes), source=str(study.data.fixes))
    shipped, patient = study.split.use_shipped_test, study.data.patient
    # A data set that has not changed is not audited twice; what the study accepts is judged each time.
    files = [(file.path, file.label, file.part, file.sha256, file.status, file.problem, file.patient) for file in manifest.files]
    kept = cache / "audits" / f"{fingerprint(files, manifest.notes, shipped, patient, source_fingerprint())}.json"
    try:
        report = read_record(kept, AuditReport)
    except (OSError, ValueError):
        report = ask(manifest, uses_shipped_parts=shipped, patient=patient, progress=progress)
        write_record(kept, report)
    return manifest, judge(report, study.audit)


def find_images(study: Study) -> None:
    """Find out whether there are classes of images where the study says, without opening one.

    Raises:
        DataError: There are none.
    """
    find_layout(study.data.path, cache=cache_of(study), settings=study.data)


def keep_audit(study: Study, manifest: Manifest, report: AuditReport) -> AuditPaths:
    """Write an audit into the study's output folder: its page, its JSON and its list of fixes."""
    from vitrail.audit_folder import audit_folder, save_audit

    return save_audit(
        audit_folder(study.output, study.name),
        manifest,
        report,
        name=study.name,
        accepted=study.audit.accept,
        applied=study.data.fixes,
    )


def _load_what_follows() -> None:
    """Load the checks with their libraries and the page with its templates, and look at our own source."""
    from vitrail.audit import load_libraries
    from vitrail.reporting import compile_audit_page

    load_libraries()
    compile_audit_page()
    source_fingerprint()
