"""What the report shows of the grades of explanations: one table per model, methods first, then the maps that know nothing."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.records import GradeTable, MethodGrade
from vitrail.reporting.wording import Shown, caveats, methods, show

COLUMNS = (
    "Relevance gain (SRG)",
    "Deletion area (low is good)",
    "Insertion area (high is good)",
    "Gain over the best baseline",
    "Beats its baselines",
    "Passes per map",
)
_LOCALISATION = ("Points into the mask", "Energy in the mask", "Chance")
_VERDICTS = {"yes": "yes", "no": "no", "not estimable": "not estimable", "": "baseline"}


@dataclass(frozen=True)
class GradeView:
    """The grades of one model's explanations, in words.

    Attributes:
        lead: On what they stand, and which method was chosen.
        columns: Headings of the table.
        rows: Method or baseline, and its numbers.
        methods: How the intervals were made.
        notes: Caveats of the numbers, as footnotes.
        remarks: What else a reader must know: methods left out, sensitivity, randomisation.
        agreement: How alike the methods' maps are, a sentence each.
    """

    lead: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    methods: tuple[str, ...]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]
    agreement: tuple[str, ...]


def grade_view(table: GradeTable | None) -> GradeView | None:
    """Put a grade table into words; ``None`` where there is none."""
    if table is None or not (table.grades or (table.notes and not table.n)):
        return None
    if not table.grades:  # of no image: it says why
        return GradeView(" ".join(table.notes), COLUMNS, (), (), (), (), ())
    masks = any(grade.localisation for grade in table.grades)
    rows = tuple((grade.name, _cells(grade, masks=masks)) for grade in table.grades)
    used = [grade.relevance_gain for grade in table.grades] + [grade.difference for grade in table.grades]
    groups = "" if table.groups == table.n else f" in {table.groups:,} groups"
    return GradeView(
        lead=f"On {table.n:,} validation images{groups}: {table.why or 'no method was chosen.'}",
        columns=(*COLUMNS, *(_LOCALISATION if masks else ())),
        rows=rows,
        methods=methods(used),
        notes=caveats(numbers for _, numbers in rows),
        remarks=(*_remarks(table), *table.notes),
        agreement=tuple(_agreement(table)),
    )


def _cells(grade: MethodGrade, *, masks: bool) -> tuple[Shown, ...]:
    """Return the numbers of one row."""
    passes = _text(f"{grade.passes:,.0f}" if grade.passes else "0")
    numbers = [
        show("relevance_gain", grade.relevance_gain),
        show("deletion_area", grade.deletion_area),
        show("insertion_area", grade.insertion_area),
        _text("") if grade.difference is None else show("difference", grade.difference),
        _text(_VERDICTS[grade.beats_baselines]),
        passes,
    ]
    if masks:
        found = grade.localisation
        places = (None, None, None) if found is None else (found.pointing, found.energy, found.chance)
        numbers += [show("localisation", one) for one in places]
    return tuple(numbers)


def _text(text: str) -> Shown:
    return Shown(text, "", "", "", "", "", True)


def _remarks(table: GradeTable) -> list[str]:
    """Return what does not stand in the table."""
    told = []
    for grade in table.grades:
        if grade.sensitivity is not None and grade.sensitivity.value is not None:
            told.append(
                f"{grade.name}: where every pixel changes by at most {table.settings['sensitivity_radius']} of 255 grey levels, "
                f"the map changes by up to {grade.sensitivity.value:.0%} of its size "
                f"({table.settings['sensitivity_samples']} changes of {grade.sensitivity.n} images)."
            )
        if grade.completeness_error is not None and grade.completeness_error.value is not None:
            told.append(
                f"{grade.name}: its maps miss the sum that they promise by {grade.completeness_error.value:.1%} on average."
            )
        test = grade.randomisation
        if test is not None and test.last is not None and test.last.value is not None:
            verdict = "passed" if test.passed else "failed"
            told.append(
                f"{grade.name}: randomisation test {verdict}; with all weights drawn anew its maps keep a rank correlation of "
                f"{test.last.value:.2f} with those of the model (passed below {test.threshold:g})."
            )
    return told


def _agreement(table: GradeTable) -> list[str]:
    """Return how alike methods are, beyond what maps of different images have in common."""
    return [
        f"{pair.first} and {pair.second}: {pair.corrected:.2f} (rank correlation {pair.spearman:.2f}, of different images "
        f"{pair.chance:.2f}; n = {pair.n:,})"
        for pair in table.agreement
        if pair.corrected is not None
    ]
