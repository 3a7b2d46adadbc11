"""Copies of one image."""

from __future__ import annotations

from vitrail.audit.check import AuditContext, finding, number_of, per_class
from vitrail.records import Finding


class ExactDuplicates:
    """DUP201: files with the same bytes."""

    code = "DUP201"
    title = "Exact copies"
    why = "Copies count one image several times: on both sides of a split they turn memory into a good score."

    def run(self, context: AuditContext) -> Finding | None:
        """Find groups of byte-identical readable files. ``count``: files beyond the first of each group."""
        if not context.copies:
            return None
        files = context.manifest.files
        surplus = [files[row].label for rows in context.copies for row in rows[1:]]
        total = sum(len(rows) for rows in context.copies)
        groups = number_of(len(context.copies), "group")
        return finding(
            self,
            severity="warning",
            count=len(surplus),
            message=f"{total:,} files in {groups} are byte-identical copies; redundant: {len(surplus):,} ({per_class(surplus)}).",
            fix="Keep the first file of each group listed in the evidence and delete the others.",
            consequence="The files stay in use; copies are kept on one side of every split that vitrail draws, "
            "and intervals count a group of copies once.",
            evidence=[context.evidence(rows) for rows in context.copies],
        )
