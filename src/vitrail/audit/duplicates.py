"""Copies of one image."""

from __future__ import annotations

from collections import Counter

from vitrail.audit.alignment import ORIENTATIONS
from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of, per_class
from vitrail.audit.similarity import NearCopy
from vitrail.records import Evidence, Finding

REDUNDANT_SHARE = 0.2
"""Share of a class's images that are further copies above which DUP204 warns."""


class ExactDuplicates:
    """DUP201: files with the same bytes."""

    code = "DUP201"
    title = "Exact copies"
    why = "Copies count one image several times: on both sides of a split they turn memory into a good score."
    explanation = (
        "Exact copies are files with the same bytes, whatever their names. They come from merging collections that overlap, "
        "from downloading twice, or from balancing a class by copying its images.\n\n"
        "This check compares a fingerprint of the content (SHA-256) of every file; two different images practically never "
        "share one, so there are no false alarms. Copies count one image several times: the class looks larger than it is, "
        "and where copies fall on both sides of a split, the model is asked in the exam what it was told in the lesson. "
        "vitrail keeps all copies of an image on one side of every split it draws. Deleting all but one of each group is the "
        "clean solution; LEAK301 tells about copies across a split that the data set ships, LBL401 about copies with "
        "different labels."
    )

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


class NearDuplicates:
    """DUP202: files that show the same picture, upright, in other bytes."""

    code = "DUP202"
    title = "Near copies"
    why = "A picture that was compressed again, brightened or cropped is still the same picture, and counts several times."
    explanation = (
        "Near copies show the same picture although their bytes differ: somebody opened an image and saved it again, changed its "
        "size or brightness, or cut off its rim. Exact comparison cannot see them.\n\n"
        "This check first finds pairs that look alike in the coarse, then lays one image over the other and compares what is "
        "left of both when the coarse structure is taken away: edges, texture, noise. Two patients never agree there, two "
        "copies always do. How much agreement counts as a copy is calibrated on the data set itself, on pairs of images with "
        "different labels, which are hardly ever copies. It can be wrong where images have almost no detail, and it counts "
        "neighbouring slices that are nearly identical, which is as it should be: they must not be on both sides of a split "
        "either. Look at the pairs, and keep one image of each."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find pairs that agree in their detail, in the orientation in which they are stored. ``count``: pairs."""
        pairs = _pairs(context, upright=True)
        if not pairs:
            return None
        return finding(
            self,
            severity="warning",
            count=len(pairs),
            message=f"{number_of(len(pairs), 'pair')} of images show the same picture in other bytes "
            f"({_labels(context, pairs)}); their detail agrees by {context.similarity.threshold:.2f} or more, which at most one "
            "pair of different images is expected to reach.",
            fix="Look at the pairs, and keep the better image of each: `fixes.csv` proposes which.",
            consequence="The files stay in use; near copies are kept on one side of every split that vitrail draws, "
            "and intervals count them once.",
            evidence=[_pair_evidence(context, pair) for pair in pairs],
        )


class TurnedDuplicates:
    """DUP203: files that show the same picture mirrored or rotated."""

    code = "DUP203"
    title = "Mirrored and rotated copies"
    why = "A mirrored or rotated image is the same patient again: usual checks for duplicates do not see it, a model does."
    explanation = (
        "Public collections were often enlarged with mirrored or rotated versions of their own images before they were "
        "published. Whoever splits such a collection at random tests on the mirror images of what was trained on.\n\n"
        "This check compares all images with all others in eight orientations (four quarter turns, each also mirrored), in the "
        "same way as DUP202 compares upright ones: coarse structure proposes, detail decides. An organ that is nearly "
        "symmetric can look like its own mirror image in the coarse, but its detail does not agree. Where left and right mean "
        "something, a mirrored image is not only a copy but wrong: such files should be removed, not just grouped."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find pairs that agree in their detail once one is turned or mirrored. ``count``: pairs."""
        pairs = _pairs(context, upright=False)
        if not pairs:
            return None
        kinds = Counter(ORIENTATIONS[pair.orientation] for pair in pairs)
        table = ", ".join(f"{kind}: {number:,}" for kind, number in kinds.most_common())
        return finding(
            self,
            severity="warning",
            count=len(pairs),
            message=f"{number_of(len(pairs), 'pair')} of images show the same picture turned or mirrored ({table}); by class "
            f"{_labels(context, pairs)}.",
            fix="Keep the original of each pair: `fixes.csv` proposes which file to leave out.",
            consequence="The files stay in use; such copies are kept on one side of every split that vitrail draws. Mirroring as "
            "augmentation adds nothing for them.",
            evidence=[_pair_evidence(context, pair) for pair in pairs],
        )


class Redundancy:
    """DUP204: a class that consists of copies to a large part."""

    code = "DUP204"
    title = "A class with many redundant images"
    why = "Counts of images overstate what a class can teach and how surely it is tested: copies say nothing new."
    explanation = (
        "The effective number of images of a class is the number of different pictures in it, all copies counted once, whether "
        "byte-identical, saved again, cropped, mirrored or rotated. A class of 1,000 images with 600 different pictures is a "
        "class of 600.\n\n"
        "This check warns where more than a fifth of a class's images are further copies. Class weights and claims about sample "
        "size should use the smaller number; the intervals that vitrail prints do."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Compare the images of every class with the different pictures among them. ``count``: classes above 20 %."""
        manifest = context.manifest
        rows = context.readable()
        images = Counter(manifest.files[row].label for row in rows)
        pictures = Counter(label for label, _ in {(manifest.files[row].label, context.pictures[row]) for row in rows})
        redundant = {name: images[name] - pictures[name] for name in manifest.classes if images[name]}
        poor = sorted(
            (name for name in redundant if redundant[name] > REDUNDANT_SHARE * images[name]),
            key=lambda name: -redundant[name] / images[name],
        )
        if not poor:
            return None
        notes = [
            f"{name}: {images[name]:,} images, {pictures[name]:,} different ({100 * redundant[name] / images[name]:.0f} % copies)"
            for name in poor
        ]
        return finding(
            self,
            severity="warning",
            count=len(poor),
            message=f"{number_of(len(poor), 'class')} in which more than {100 * REDUNDANT_SHARE:.0f} % of the images are further "
            f"copies. {'; '.join(notes)}.",
            fix="Leave out the redundant copies (`fixes.csv` proposes which), or collect different images.",
            consequence="Intervals and splits count a group of copies once.",
            evidence=[Evidence((), note) for note in notes],
        )


def _pairs(context: AuditContext, *, upright: bool) -> list[NearCopy]:
    if len(context.readable()) < 2:
        raise NotApplicable("fewer than two images can be read")
    return [pair for pair in context.similarity.pairs if (pair.orientation == 0) is upright]


def _labels(context: AuditContext, pairs: list[NearCopy]) -> str:
    files = context.manifest.files
    labels = (sorted({files[pair.first].label, files[pair.second].label}) for pair in pairs)
    counts = Counter(" / ".join(names) for names in labels)
    return ", ".join(f"{name} {number:,}" for name, number in counts.most_common())


def _pair_evidence(context: AuditContext, pair: NearCopy) -> Evidence:
    """Return a pair as evidence: how it is turned, how well it agrees, where its files stand."""
    words = [ORIENTATIONS[pair.orientation]] if pair.orientation else []
    places = context.evidence((pair.first, pair.second))
    return Evidence(places.paths, "; ".join([*words, f"detail agrees by {pair.agreement:.3f}", places.note.partition(": ")[2]]))
