"""Labels that contradict each other."""

from __future__ import annotations

from collections import Counter

from vitrail.audit.check import AuditContext, finding, number_of
from vitrail.records import Finding


class ConflictingLabels:
    """LBL401: copies of one image under different labels."""

    code = "LBL401"
    title = "Copies of one image with different labels"
    why = "The same picture cannot be two things: at least one of the labels is wrong, and nothing in the pixels says which."

    def run(self, context: AuditContext) -> Finding | None:
        """Find groups of copies that carry more than one label. ``count``: groups."""
        if not context.conflicting:
            return None
        files = context.manifest.files
        pairs = Counter(" / ".join(sorted({files[row].label for row in rows})) for rows in context.conflicting)
        table = ", ".join(f"{pair}: {number:,}" for pair, number in pairs.most_common())
        total = sum(len(rows) for rows in context.conflicting)
        return finding(
            self,
            severity="error",
            count=len(context.conflicting),
            message=f"{number_of(len(context.conflicting), 'group')} of byte-identical images ({total:,} files) "
            f"with different labels ({table}).",
            fix="Let an expert decide which label is right, and delete the copies under the other label.",
            consequence="All copies are quarantined: used neither for training nor for the clean score.",
            evidence=[context.evidence(rows) for rows in context.conflicting],
        )
