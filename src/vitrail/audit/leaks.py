"""Images that stand in more than one part of a data set that ships its own parts."""

from __future__ import annotations

from vitrail.audit.alignment import ORIENTATIONS
from vitrail.audit.check import AuditContext, NotApplicable, are, finding, number_of, per_class, share_of
from vitrail.records import Evidence, Finding

NEAR_LEAK_SHARE = 0.01
"""Share of the test images with a near copy outside the test part from which LEAK302 is an error."""


class LeakedTestImages:
    """LEAK301: test images that also stand in the shipped training or validation part."""

    code = "LEAK301"
    title = "Test images with an exact copy in training"
    why = "A model can answer these test images from memory, so the test score promises more than new patients will see."
    explanation = (
        "A model learns from the training images and is then examined on test images that it has never seen. A leak is a test "
        "image that also stands in the training or validation part. The model can recognise it as one recognises a "
        "photograph, without understanding anything; the score then promises more than new patients will see.\n\n"
        "This check compares a fingerprint of the content (SHA-256) of every test image with those of all other images. It "
        "finds copies with equal bytes only and has no false alarms; copies that were scaled, saved again or mirrored are the "
        "business of other checks. Such leaks are common in public data sets that were merged from several others.\n\n"
        "vitrail scores the leaked images apart: the clean score leaves them out, the official score keeps them, and the "
        "report shows both. To repair the data set, delete the copies from the training part (the list of fixes proposes "
        "this, so that the test stays comparable with other people's), or let vitrail draw a new test set."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find test images with a byte-identical copy outside the test part. ``count``: such test images."""
        files = context.manifest.files
        test = context.shipped("test")
        if len(test) == len(context.readable()):
            raise NotApplicable("the data set ships nothing but a test part")
        if not context.leaking:
            return None
        copied = {row for rows in context.leaking for row in rows}
        leaked = [row for row in test if row in copied]
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
    explanation = (
        "Validation images are held back from training. They say when to stop training and which of several models is best. "
        "Where they also stand in the training part, a model that memorises looks better than one that has learned, and the "
        "wrong one is chosen.\n\n"
        "This check compares a fingerprint of the content (SHA-256) of every image of the shipped validation part with those "
        "of the training part. It finds equal bytes only and has no false alarms. The scores on the test images stay honest, "
        "since the test is another part; but the chosen model may not be the best one. Delete the copies from one of the two "
        "parts, or let vitrail draw the validation part anew."
    )

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


class NearlyLeakedTestImages:
    """LEAK302: test images with a near, mirrored or rotated copy outside the test part."""

    code = "LEAK302"
    title = "Test images with a near or mirrored copy in training"
    why = "A model recognises a picture that was saved again or mirrored: it is an old acquaintance, not a new patient."
    explanation = (
        "A leak need not be byte-identical. A test image that also stands in training, only compressed again, cropped, "
        "brightened, mirrored or rotated, is nearly as easy to answer from memory.\n\n"
        "The pairs are those of DUP202 and DUP203: see there how they are found and when they can be wrong. This check lists "
        "those of which one image is in the test part and the other is not; exact copies are the business of LEAK301. vitrail "
        "scores these test images apart: the clean score leaves them out. Drawing a new test set, or leaving "
        "out the training copies, repairs it."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find pairs of near copies across the border of the test part. ``count``: test images without an exact copy outside."""
        files = context.manifest.files
        test = context.shipped("test")
        if len(test) == len(context.readable()):
            raise NotApplicable("the data set ships nothing but a test part")
        exact = {row for rows in context.leaking for row in rows}
        crossing = [pair for pair in context.similarity.pairs if context.crosses((pair.first, pair.second))]
        near = {row for rows in context.alike if context.crosses(rows) for row in rows if files[row].part == "test"} - exact
        if not near:
            return None
        table = per_class((files[row].label for row in near), of=(files[row].label for row in test))
        turned = sum(pair.orientation > 0 for pair in crossing)
        return finding(
            self,
            severity="error" if len(near) >= NEAR_LEAK_SHARE * len(test) else "warning",
            count=len(near),
            message=f"{share_of(len(near), len(test), 'test images')} {'has' if len(near) == 1 else 'have'} a near copy outside "
            f"the test part ({number_of(len(crossing), 'pair')}, {turned:,} of them turned or mirrored); by class {table}.",
            fix="Set `use_shipped_test: false` under `split:` in the study to draw a new test set that holds copies on one side, "
            "or leave out the listed copies in the training part.",
            consequence="These test images are scored apart, as exact copies are: the clean score is without them.",
            evidence=[_across(context, pair.first, pair.second, pair.orientation, pair.agreement) for pair in crossing],
        )


class PatientsAcrossParts:
    """LEAK303: patients on both sides of the border of the test part."""

    code = "LEAK303"
    title = "Patients in training and in the test"
    why = "Images of one patient resemble each other: a model that has seen the patient is not tested on a new one."
    explanation = (
        "Two images of the same person share anatomy, scanner and day. If one is trained on and the other tested on, the score "
        "says how well the model recognises known patients, not how well it will do on new ones; studies have measured "
        "differences of 30 to 55 points.\n\n"
        "Who is on an image is read from the data set's table, from DICOM headers, or from the pattern that the study gives; "
        "then the finding is an error. Where only file names suggest it (such as person12 in the name), it is a possible leak: "
        "numbers can begin anew for each class or part. Then the finding is a warning, the images count for the clean score, and "
        "somebody who knows the data should say what is true: set `data.patient` in the study to the pattern, or to off."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find patients with images in the test part and outside it. ``count``: such patients."""
        files = context.manifest.files
        test = context.shipped("test")
        patients = context.patients
        if not patients.origin:
            raise NotApplicable("nothing tells which images show the same patient")
        crossing = [rows for rows in context.sharing(patients.keys) if context.crosses(rows)]
        if not crossing:
            return None
        concerned = sorted({row for rows in crossing for row in rows if files[row].part == "test"})
        names = ", ".join(patients.keys[rows[0]] for rows in crossing[:6]) + (", ..." if len(crossing) > 6 else "")
        kind = "" if patients.certain else "possible "
        return finding(
            self,
            severity="error" if patients.certain else "warning",
            count=len(crossing),
            message=f"{number_of(len(crossing), f'{kind}patient')} ({names}) with images both in the test part and outside it: "
            f"{share_of(len(concerned), len(test), 'test images')}; patients by {patients.origin}.",
            fix="Set `use_shipped_test: false` under `split:` in the study to draw a test set by patient."
            if patients.certain
            else "Ask the source of the data what the numbers mean; then set `data.patient` in the study to the pattern that "
            "tells patients, or to off.",
            consequence="These test images are scored apart; parts that vitrail draws hold each patient on one side."
            if patients.certain
            else "The test part stays as it is and these images count; parts that vitrail draws hold each number on one side.",
            evidence=[
                Evidence(tuple(files[row].path for row in rows), f"{patients.keys[rows[0]]}: {context.evidence(rows).note}")
                for rows in (sorted(rows, key=lambda row: files[row].part != "test") for rows in crossing)
            ],
        )


class VolumesAcrossParts:
    """LEAK304: slices of one volume on both sides of the border of the test part."""

    code = "LEAK304"
    title = "Slices of one volume in training and in the test"
    why = "Neighbouring slices are nearly the same picture: with random labels, a slice-wise split still scores above 90 %."
    explanation = (
        "A volume is one examination in many slices. Splitting slices instead of volumes puts neighbours of every test slice "
        "into training. In a published experiment a network reached 96 % with labels drawn at random that way, and 50 % when "
        "split by subject.\n\n"
        "This check needs to know which images are slices of one volume: from the headers of DICOM series, or because several "
        "slices come from one file. Slices that were exported to plain pictures without their origin cannot be told; DUP202 "
        "finds those that are nearly identical."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find volumes with slices in the test part and outside it. ``count``: such volumes."""
        files = context.manifest.files
        context.shipped("test")
        volumes = context.sharing(file.volume for file in files)
        if not volumes:
            raise NotApplicable("no two images are known to be slices of one volume")
        crossing = [rows for rows in volumes if context.crosses(rows)]
        if not crossing:
            return None
        return finding(
            self,
            severity="error",
            count=len(crossing),
            message=f"{number_of(len(crossing), 'volume')} with slices both in the test part and outside it.",
            fix="Set `use_shipped_test: false` under `split:` in the study to draw a test set by volume.",
            consequence="These test images are scored apart; parts that vitrail draws hold each volume on one side.",
            evidence=[context.evidence(sorted(rows, key=lambda row: files[row].part != "test")) for rows in crossing],
        )


def _across(context: AuditContext, first: int, second: int, orientation: int, agreement: float) -> Evidence:
    """Return a pair of near copies, the test image first."""
    files = context.manifest.files
    rows = sorted((first, second), key=lambda row: files[row].part != "test")
    places = context.evidence(rows)
    turned = f"{ORIENTATIONS[orientation]}; " if orientation else ""
    return Evidence(places.paths, f"{turned}detail agrees by {agreement:.3f}; {places.note.partition(': ')[2]}")
