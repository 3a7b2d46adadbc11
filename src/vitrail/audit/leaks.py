"""Images that stand in more than one part of a data set that ships its own parts."""

from __future__ import annotations

from vitrail.audit.check import AuditContext, NotApplicable, are, finding, per_class, share_of
from vitrail.records import Finding


class LeakedTestImages:
    """LEAK301: test images that also stand in the shipped training or validation part."""

    code = "LEAK301"
    title = "Test images with an exact copy in training"
    why = "A model can answer these test images from memory, so the test score promises more than new patients will see."

    def run(self, context: AuditContext) -> Finding | None:
        """Find test images with a byte-identical copy outside the test part. ``count``: such test images."""
        files = context.manifest.files
        test = context.shipped("test")
        if len(test) == len(context.readable()):
            raise NotApplicable("the data set ships nothing but a test part")
        if not context.leaking:
            return None
        leaked = [row for row in test if files[row].path in context.leaked]
        others = {files[row].part for rows in context.leaking for row in rows} - {"test"}
        where = "validation" if others == {"validation"} else "training or validation" if "validation" in others else "training"
        table = per_class((files[row].label for row in leaked), of=(files[row].label for row in test))
        return finding(
            self,
            severity="error",
            count=len(leaked),
            message=f"{share_of(len(leaked), len(test), 'test images')} {are(len(leaked))} byte-identical to {where} images; "
            f"by class {table}.",
            fix="Set `use_shipped_test: false` under `split:` in the study to draw a new test set that holds copies on one side, "
            "or delete the listed copies from the training part.",
            consequence="The leaked test images are scored apart: the clean score, without them, is the headline; "
            "the official score, with them, stands beside it.",
            evidence=[context.evidence(sorted(rows, key=lambda row: files[row].part != "test")) for rows in context.leaking],
        )


class LeakedValidationImages:
    """LEAK306: validation images that also stand in the shipped training part."""

    code = "LEAK306"
    title = "Validation images with an exact copy in training"
    why = "Training is stopped and models are chosen on the validation images; copies make memory look like skill."

    def run(self, context: AuditContext) -> Finding | None:
        """Find validation images with a byte-identical copy in training. ``count``: such validation images."""
        files = context.manifest.files
        validation = context.shipped("validation")
        if not context.readable("train"):
            raise NotApplicable("the data set ships no readable training part")
        crossing = [rows for rows in context.copies if {"train", "validation"} <= {files[row].part for row in rows}]
        if not crossing:
            return None
        shared = [row for rows in crossing for row in rows if files[row].part == "validation"]
        table = per_class((files[row].label for row in shared), of=(files[row].label for row in validation))
        return finding(
            self,
            severity="warning",
            count=len(shared),
            message=f"{share_of(len(shared), len(validation), 'validation images')} {are(len(shared))} byte-identical "
            f"to training images; by class {table}.",
            fix="Delete the listed copies from one of the two parts.",
            consequence="The shipped validation part is pooled with the training part, and validation is drawn anew "
            "with copies on one side.",
            evidence=[context.evidence(sorted(rows, key=lambda row: files[row].part != "validation")) for rows in crossing],
        )
