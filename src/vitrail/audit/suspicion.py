"""Images whose label does not fit what they look like, and images that look like nothing else in the data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.audit.descriptors import neighbours
from vitrail.audit.label_jury import REHEARSALS, WRONG_SHARE, Judged, Jury, Scores, rehearse
from vitrail.records import Evidence, Finding, IntArray

GROUPS_PER_CLASS = 10
"""Classes with fewer groups are not judged by LBL402."""
SEEN_AT_LEAST = 0.25
"""Where fewer of the planted errors stand in the first twentieth of the list LBL402 does not apply: chance gives 0.05."""
CERTAIN_PRECISION = 0.8
"""Precision in rehearsals from which LBL402 may warn."""
WRONG_LABELS_LIMIT = 0.01
"""Share of labels that may be wrong, by the rehearsals, from which LBL402 warns."""
LISTED = 50
"""So many images are named at most."""

FAR = 6.5
"""Robust z-score of an image's isolation from which LBL404 warns."""
FAR_IN_CLASS = 3.0
"""It must stand so far out of its own class too."""
COLOURED = 0.05
"""Share of coloured pixels that makes an image coloured."""
FEW_COLOURED = 0.02
"""Where at most this share of the images is coloured, those are strangers."""

_NEAREST = 10  # neighbours that vote
_SMALLEST_SET = 50  # images
_RANK = 5  # the neighbour whose distance tells isolation


class LikelyLabelErrors:
    """LBL402: images that look like another class than the one they are filed under."""

    code = "LBL402"
    title = "Labels that may be wrong"
    why = "A model learns wrong labels as if they were right, and is marked wrong for right answers where they stand in the test."
    explanation = (
        "Three witnesses are heard about every label, without ever hearing the label itself: a simple classifier that was fitted "
        "to other images (and to no copy of this one nor to another image of the same patient), the labels of the ten images "
        "that look most alike, and the labels of the other images of the same patient, as far as patients are known. Where they "
        "agree that another class fits better, the label is suspicious.\n\n"
        "How far to trust that is measured on your data: the check makes 2 % of the labels wrong on purpose, one image at a time "
        "and at random, and looks how many of them it finds at the top of its list. The finding tells that figure. If hardly any "
        "are found, the check does not apply, which is no proof that the labels are right. Real errors are harder than random "
        "ones: a doubtful case looks like both classes, and where all images of a patient carry the same wrong label, only looks "
        "are left as a witness. The check sees small pictures only, so it suspects rare variants of a disease, too.\n\n"
        "The list is a queue for an expert, the most suspicious first, and never a reason to delete: removing what a classifier "
        "finds difficult makes every later score look better than it is."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Rank the images by how badly their label fits. ``count``: images that are worth a second look."""
        rows, labels, groups, names = _judgeable(context)
        descriptors = context.descriptors[rows]
        near = neighbours(descriptors, groups.tolist(), count=_NEAREST)
        jury = Jury(descriptors, near, groups, len(names))
        rehearsal = rehearse(jury, labels, len(names))
        if rehearsal.seen < SEEN_AT_LEAST:
            raise NotApplicable(
                f"of labels made wrong on purpose, only {100 * rehearsal.seen:.0f} % were among the first twentieth of the "
                "suspicions: small pictures do not tell these classes apart"
            )
        judged = jury.judge(labels)
        suspicion = judged.suspicion(labels)
        order = np.argsort(-suspicion, kind="stable")
        order = order[suspicion[order] >= rehearsal.limit]
        if len(order) == 0:
            return None
        at_most = 2 * int(np.count_nonzero(suspicion >= rehearsal.median))
        certain = rehearsal.precision >= CERTAIN_PRECISION and at_most >= WRONG_LABELS_LIMIT * len(labels)
        likely = judged.likely(labels)
        kinds = Counter(f"{names[labels[row]]} that may be {names[likely[row]]}" for row in order)
        frequent = ", ".join(f"{kind}: {number:,}" for kind, number in kinds.most_common(3))
        limited = f"; the first {LISTED} are listed" if len(order) > LISTED else ""
        return finding(
            self,
            severity="warning" if certain else "info",
            count=len(order),
            message=f"{number_of(len(order), 'label')} that {'fits' if len(order) == 1 else 'fit'} badly ({frequent}){limited}: "
            f"in {REHEARSALS} rehearsals with {100 * WRONG_SHARE:.0f} % of the labels made wrong at random, "
            f"{100 * rehearsal.precision:.0f} % of the first {rehearsal.first} on the list were such errors; "
            "real errors are harder to find.",
            fix="Let an expert look at the listed images, from the top, until errors become rare; move the wrong ones to the "
            "right class folder. Delete none because a list suspects it.",
            consequence="The labels are used as they are.",
            evidence=[_label_note(context, rows[row], names, judged, labels[row], likely[row], row) for row in order[:LISTED]],
        )


def _judgeable(context: AuditContext) -> tuple[IntArray, IntArray, IntArray, list[str]]:
    """Return positions, class numbers and groups of the images whose labels can be judged, and the names of their classes."""
    files = context.manifest.files
    # Of byte-identical copies with two labels LBL401 tells all there is. Of near copies this check can tell which label is odd.
    clear = [rows for rows in context.copies if len({files[row].label for row in rows}) > 1]
    told = {row for rows in clear for row in rows}
    rows = [row for row in context.readable() if row not in told]
    enough = {name for name, groups in context.groups_per_class(rows).items() if groups >= GROUPS_PER_CLASS}
    names = sorted(enough)
    rows = [row for row in rows if files[row].label in enough]
    if len(names) < 2 or len(rows) < _SMALLEST_SET:
        raise NotApplicable(
            f"fewer than two classes have {GROUPS_PER_CLASS} independent images each, {_SMALLEST_SET} images in all"
        )
    number = {name: place for place, name in enumerate(names)}
    labels = np.array([number[files[row].label] for row in rows], dtype=np.int64)
    groups = np.array([context.groups[row] for row in rows], dtype=np.int64)
    return np.array(rows, dtype=np.int64), labels, groups, names


def _label_note(
    context: AuditContext, position: int, names: Sequence[str], judged: Judged, given: int, likely: int, row: int
) -> Evidence:
    """Say what each witness thinks of one label."""
    note = (
        f"filed under {names[given]}, looks like {names[likely]}: probability of {names[given]} {judged.looks[row, given]:.2f} "
        f"by looks, {judged.near[row, given]:.2f} by similar images"
    )
    if np.ptp(judged.group[row]) > 0.01:
        note += f", {judged.group[row, given]:.2f} by the images of the same group"
    return Evidence((context.manifest.files[position].path,), note)


# ---------------------------------------------------------------------------------------------------- strangers


class OffTopicImages:
    """LBL404: images that do not look like any other image of the data set."""

    code = "LBL404"
    title = "Images that look like nothing else here"
    why = "A photograph, a page of text or another organ in a class folder teaches the model something that is not in the study."
    explanation = (
        "Downloads and exports pick up pictures that do not belong: a scanned letter, a photograph, a diagram, a view of "
        "another organ. This check compares all images with one another by shape, coarse grey values and their spread, and "
        "finds those whose fifth nearest neighbour is much farther away than is usual in this data set and among the "
        "images around them; and single coloured images in a data set that is grey otherwise.\n\n"
        "It looks at small pictures and cannot name what it sees: a rare but right view, a strongly rotated or inverted image, "
        "or an image with a huge implant stands out in the same way, and a stranger that comes in six similar "
        "copies hides. In a data set of many different views it takes a very odd image to stand out. Look at the images that are "
        "listed, and remove what does not belong; keep what is only rare."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find isolated and coloured images. ``count``: such images."""
        rows = np.array(context.readable(), dtype=np.int64)
        if len(rows) < _SMALLEST_SET:
            raise NotApplicable(f"there are fewer than {_SMALLEST_SET} readable images to compare")
        isolation = _isolation(context, rows)
        labels = context.manifest.labels[rows]
        overall, within = _robust_z(isolation), np.full(len(rows), np.inf)
        for label in np.unique(labels):
            members = labels == label
            if members.sum() >= 2 * _RANK:
                within[members] = _robust_z(isolation[members])
        far = (overall >= FAR) & (within >= FAR_IN_CLASS)
        colour = np.nan_to_num(context.manifest.facts["colour"][rows])
        coloured = colour >= COLOURED
        if coloured.mean() > FEW_COLOURED:
            coloured[:] = False
        found = np.flatnonzero(far | coloured)
        if len(found) == 0:
            return None
        order = found[np.lexsort((found, -overall[found]))]
        both = f"{number_of(int(far.sum()), 'image')} far from all others, {int(coloured.sum()):,} in colour"
        limited = f"; the first {LISTED} are listed" if len(order) > LISTED else ""
        return finding(
            self,
            severity="warning",
            count=len(order),
            message=f"{number_of(len(order), 'image')} that {'looks' if len(order) == 1 else 'look'} like nothing else in the "
            f"data set ({both}){limited}.",
            fix="Look at the listed images; move those that do not belong to the study out of the class folders.",
            consequence="They are used like all others.",
            evidence=[
                Evidence(
                    (context.manifest.files[rows[row]].path,), _stranger_note(overall[row], far[row], colour[row], coloured[row])
                )
                for row in order[:LISTED]
            ],
        )


def _isolation(context: AuditContext, rows: IntArray) -> Scores:
    """Return the logarithm of the distance to the fifth neighbour of another group, half corrected by that of the neighbours.

    Half of the correction of a local outlier factor (Breunig et al. 2000): whole, it punishes the edge of every dense cluster,
    and none of it lets a rare but regular view pass for a stranger.
    """
    descriptors = context.descriptors[rows]
    near = neighbours(descriptors, [context.groups[row] for row in rows.tolist()], count=_RANK)
    reached = near.distances[:, -1].astype(np.float64)
    reached[~np.isfinite(reached)] = np.nan
    known = reached[np.isfinite(reached)]
    # Unnoticed copies lie close together: they must not make everything beside them look far away.
    distance = np.log(np.maximum(reached, max(0.5 * float(np.median(known)), 1e-3) if len(known) else 1.0))
    around = np.where(near.rows >= 0, distance[near.rows], np.nan)
    counted = np.isfinite(around)
    mean = np.where(counted, around, 0.0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    result: Scores = distance - 0.5 * mean
    return result


def _robust_z(values: Scores) -> Scores:
    """Return distances from the median in units of the median absolute deviation; 0 where a value is unknown or all are equal."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.zeros_like(values)
    median = np.median(known)
    spread = 1.4826 * float(np.median(np.abs(known - median)))
    z: Scores = np.nan_to_num((values - median) / max(spread, 0.02))
    return z


def _stranger_note(z: float, far: bool, colour: float, coloured: bool) -> str:
    parts = []
    if far:
        parts.append(f"{z:.1f} robust standard deviations farther from similar images than usual")
    if coloured:
        parts.append(f"{100 * colour:.0f} % of the pixels coloured, in a data set that is grey")
    return "; ".join(parts)
