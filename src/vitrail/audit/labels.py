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
    explanation = (
        "The label of an image is the class whose folder it stands in. Here files that show the same picture stand in folders "
        "of different classes. If an image can have only one class, at least one of these labels is wrong; if it can have "
        "several, one folder for each class is the wrong form for the data.\n\n"
        "This check looks at groups of copies, byte-identical (SHA-256) or near, mirrored and rotated ones as DUP202 and DUP203 "
        "find them, and asks whether they all carry one label. It cannot say which label is right, and neither can a model. "
        "vitrail uses none of these copies, neither for training nor for the clean score, until somebody has decided. An expert "
        "should look at each of them; and since only copies betray themselves in this way, other images of these classes may be "
        "mislabelled just as often."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find groups of copies that carry more than one label. ``count``: groups."""
        if not context.conflicting:
            return None
        files = context.manifest.files
        pairs = Counter(" / ".join(sorted({files[row].label for row in rows})) for rows in context.conflicting)
        table = ", ".join(f"{pair}: {number:,}" for pair, number in pairs.most_common())
        total = sum(len(rows) for rows in context.conflicting)
        exact = sum(len({files[row].sha256 for row in rows}) == 1 for rows in context.conflicting)
        return finding(
            self,
            severity="error",
            count=len(context.conflicting),
            message=f"{number_of(len(context.conflicting), 'group')} of copies of one picture ({total:,} files; "
            f"{exact:,} of the groups byte-identical) with different labels ({table}).",
            fix="Let an expert decide which label is right, and delete the copies under the other label.",
            consequence="All copies are quarantined: used neither for training nor for the clean score.",
            evidence=[context.evidence(rows) for rows in context.conflicting],
        )
