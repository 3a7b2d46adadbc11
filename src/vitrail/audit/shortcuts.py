"""Shortcuts: properties that have nothing to do with the disease and give the label away all the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vitrail.audit.additive import DoubleArray, Property
from vitrail.audit.association import cramers_v
from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.audit.nuisance import FamilyName, source_of
from vitrail.audit.shortcut_results import FamilyResult, Shortcuts, measure_shortcuts
from vitrail.records import Evidence, Finding, IntArray, Severity

NESTED = 0.9
"""Cramer's V of label and source above which the two cannot be told apart."""

_SHOWN = 4  # typical images per class
_LISTED = 6  # properties in the evidence
_SOURCE_GROUPS = 5  # groups a source needs to count
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}

_PROTOCOL = (
    "From these properties alone, without a look at the picture, a simple classifier names the class of images that it has not "
    "seen; images of one group (copies, slices, patients) are never split between learning and trying. The figure is balanced "
    "accuracy, the mean over the classes of the share that is named rightly, so that guessing reaches 1 divided by the number of "
    "classes. To rule out chance, the same is done 200 times with labels that were dealt anew."
)
_ADVICE = (
    " A finding is no proof that a model uses the property, only that it could. People compare their model's score with the "
    "figure, make the property equal for all classes, or collect the classes in the same way."
)


class _FamilyCheck:
    """A check that asks whether the properties of some families predict the label."""

    code: str
    title: str
    why: str
    explanation: str
    families: tuple[tuple[FamilyName, str], ...]
    caveat: str
    fix: str
    nothing: str = ""

    def run(self, context: AuditContext) -> Finding | None:
        """Judge the families. ``count``: images that were looked at."""
        found = measure_shortcuts(context)
        items = [item for name, _ in self.families if (item := found.named(name)) is not None]
        if not items and self.nothing:
            raise NotApplicable(self.nothing)
        severe = [(severity, item) for item in items if (severity := found.severity(item)) is not None]
        if not severe:
            return None
        severe.sort(key=lambda pair: (_ORDER[pair[0]], -pair[1].result.balanced_accuracy))
        severity, worst = severe[0]
        return finding(
            self,
            severity=severity,
            count=len(found.rows),
            message=self._message(found, [item for _, item in severe]),
            fix=self.fix,
            consequence="Nothing is changed: the images are used as they are. Compare every model with this figure.",
            evidence=[*_alone(item for _, item in severe), *_typical(context, found, worst)],
        )

    def _message(self, found: Shortcuts, items: Sequence[FamilyResult]) -> str:
        worst, words = items[0], dict(self.families)
        best = worst.result.most_telling
        alone, item = worst.result.singles[best], worst.family.properties[best]
        first = (
            f"{_capital(words[worst.family.name])} alone {_reach(worst)} against {found.chance:.2f} by chance "
            f"(p = {worst.result.p_value:.3f}, {number_of(len(found.rows), 'image')}{' sampled' * found.sampled}, "
            f"{number_of(int(found.trial.groups.max()) + 1, 'group')})"
        )
        others = "".join(f"; {words[other.family.name]} alone {_reach(other)}" for other in items[1:])
        telling = f"; most telling: {item.name} ({_extremes(item, found.trial.labels, found.classes)})"
        if alone.accuracy > found.majority:
            telling += (
                f", which alone names {_percent(alone.accuracy)} rightly where always naming the most frequent class would "
                f"{_percent(found.majority)}"
            )
        return f"{first}{others}{telling}{_file_size(worst)}. {self._warning(worst)}"

    def _warning(self, worst: FamilyResult) -> str:  # noqa: ARG002 - for checks that say more
        return self.caveat


class FileShortcut(_FamilyCheck):
    """SHC501: the length or the dimensions of files give the label away."""

    code = "SHC501"
    title = "File or image size gives the label away"
    why = "Classes that were collected or saved differently can be told apart without looking at the organ."
    families: tuple[tuple[FamilyName, str], ...] = (("file", "file properties"), ("geometry", "width and height"))
    caveat = "File size also depends on what is in the picture: part of this can be real signal."
    fix = "Collect all classes from the same sources; or save all images at one size, in one format and quality, and audit again."
    explanation = (
        "When one class comes from another web site, scanner or programme than another, its files differ in size, format, width "
        "or height, and a model can learn these differences in the place of the disease. "
        + _PROTOCOL
        + "\n\nIt can be wrong: a file is longer where the picture shows more detail, and that can be the disease. Where all "
        "images share size and form, the finding is therefore a warning at most." + _ADVICE
    )

    def _warning(self, worst: FamilyResult) -> str:
        if worst.family.name == "file" and not worst.family.suspect:
            return (
                "All images share one size and one form, so the size of the file tells how much detail the picture holds: noise, "
                "sharpness, exposure, or the disease."
            )
        return self.caveat


class BorderShortcut(_FamilyCheck):
    """SHC502: edges, frames and margins give the label away."""

    code = "SHC502"
    title = "Edges and field of view give the label away"
    why = "What stands at the edge is rarely the disease: frames, crops and positions belong to where an image was made."
    families: tuple[tuple[FamilyName, str], ...] = (("border", "edges, corners and margins"),)
    caveat = "Plane, field of view and the site of a lesion can be real signal: look at the images before you judge."
    fix = "Compare the images listed for each class; crop or pad all to the same field of view, and audit again."
    explanation = (
        "Brightness of the outermost pixels, black frames, and how far from the edge the body begins: these depend on the "
        "scanner, on cropping, and on how a patient was placed. "
        + _PROTOCOL
        + "\n\nIt is often innocent: where a disease is imaged in another plane or nearer, the edge differs for a good reason. "
        "It is never an error, therefore." + _ADVICE
    )


class IntensityShortcut(_FamilyCheck):
    """SHC503: brightness and contrast give the label away."""

    code = "SHC503"
    title = "Brightness and contrast give the label away"
    why = "Exposure, window and file conversion differ between sources; a model that sorts by them fails on the next scanner."
    families: tuple[tuple[FamilyName, str], ...] = (("intensity", "brightness and contrast"),)
    caveat = "Disease changes brightness too: this can be real signal."
    fix = (
        "Compare the images listed for each class; if their exposure differs, set `scaling: standardise` and compare the scores."
    )
    explanation = (
        "Mean brightness, contrast, percentiles of the grey values, shares of black and white pixels: disease can change them, "
        "and so can exposure, the display window chosen at export, and file conversion. "
        + _PROTOCOL
        + "\n\nIt is often innocent, for a lesion may be bright; it is never an error, therefore."
        + _ADVICE
    )


class OverlayShortcut(_FamilyCheck):
    """SHC504: letters and marks in the corners give the label away."""

    code = "SHC504"
    title = "Marks in the corners give the label away"
    why = "A side marker or a caption says which hospital or ward made the image, and models find it at once."
    families: tuple[tuple[FamilyName, str], ...] = (("overlay", "bright strokes in the corners"),)
    caveat = "The strokes are found by their shape: look at the listed images to see whether they are letters or anatomy."
    fix = "Look at the listed images; crop or cover the corners of all images, and audit again."
    explanation = (
        "Letters, side markers and scales that are burned into the pixels are thin, bright and stand on an even ground. They are "
        "searched in the four corners; in grey images, coloured pixels count as marks too. "
        + _PROTOCOL
        + "\n\nIt can be wrong: a thin bright line of the body that crosses a corner looks the same. Where strokes are as "
        "frequent in the middle of the images as in the corners, the finding is a warning at most." + _ADVICE
    )


class SourceShortcut(_FamilyCheck):
    """SHC505: scanner, software or site give the label away."""

    code = "SHC505"
    title = "Scanner, software or site gives the label away"
    why = "Where one hospital sends most of a class, a model can learn to recognise the hospital."
    families: tuple[tuple[FamilyName, str], ...] = (("source", "source properties"),)
    caveat = "Prevalence differs between sites, so some of this is to be expected; a model can still use it."
    fix = "Add images of the missing classes from every source, or test on a source that the model has not seen."
    nothing = "neither headers nor folders say where images come from, or all come from one place"
    explanation = (
        "The header of an image may name scanner, station or software; a folder inside the class folder may name the site. "
        + _PROTOCOL
        + "\n\nSources with fewer than five groups are pooled. Folders are left out where one of them holds a single class: "
        "it may then be a kind of the disease. Names of files are left out always." + _ADVICE
    )


class CompressionShortcut(_FamilyCheck):
    """SHC506: compression, noise or sharpness give the label away."""

    code = "SHC506"
    title = "Compression or noise gives the label away"
    why = "Compression leaves traces in every pixel, and these differ between sources, not between diseases."
    families: tuple[tuple[FamilyName, str], ...] = (("compression", "compression settings"), ("noise", "noise and sharpness"))
    caveat = "Noise and sharpness also depend on what is in the picture; compression settings do not."
    fix = "Fetch the images in their original form, or save all with the same settings, and audit again."
    explanation = (
        "JPEG has a quality setting and several ways to store colour; every programme has its habits. Noise, sharpness and the "
        "traces of 8 x 8 blocks tell more of it. "
        + _PROTOCOL
        + "\n\nCompression settings cannot be anatomy. Noise and sharpness can be, in part, and are a warning at most."
        + _ADVICE
    )


class NestedSource:
    """SHC507: label and source cannot be told apart."""

    code = "SHC507"
    title = "Label and source cannot be told apart"
    why = (
        "Where every class comes from its own source, no score on this data can tell recognising disease from recognising source."
    )
    explanation = (
        "Cramer's V measures how closely two categories go together: 0 when they are independent, 1 when one follows from the "
        "other. Here it compares the label with the source (scanner, software or site as headers say it, or the folder inside "
        "the class folder), one case per group, with sources of at least five groups.\n\nAbove 0.9 the data cannot answer the "
        "question: a perfect score may mean that the model knows the scanner. More images of the same kind do not help, only the "
        "missing combinations do. It can be wrong where software was chosen by hand after the diagnosis, which would itself be a "
        "shortcut."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Compare label and source. ``count``: images that were looked at."""
        found = measure_shortcuts(context)
        source = source_of([context.manifest.files[row] for row in found.rows])
        if source is None:
            raise NotApplicable(SourceShortcut.nothing)
        codes, trial = source.values.astype(np.int64), found.trial
        cases = np.unique(np.stack([trial.groups, trial.labels, codes]), axis=1)
        often = np.bincount(cases[2], minlength=len(source.levels)) >= _SOURCE_GROUPS
        cases = cases[:, often[cases[2]]]
        if np.count_nonzero(often) < 2:
            raise NotApplicable(f"fewer than two sources have {_SOURCE_GROUPS} independent images")
        association = cramers_v(cases[1], cases[2])
        if association <= NESTED or 2 * cases.shape[1] < int(trial.groups.max()) + 1:
            return None
        table = np.bincount(codes * len(found.classes) + trial.labels, minlength=len(source.levels) * len(found.classes))
        table = table.reshape(len(source.levels), len(found.classes))
        order = [index for index in np.argsort(-table.sum(axis=1), kind="stable").tolist() if often[index]]
        return finding(
            self,
            severity="error",
            count=len(found.rows),
            message=f"The label follows from the {source.name} (Cramer's V {association:.2f}, {number_of(len(order), 'source')}, "
            f"{number_of(len(found.rows), 'image')}{' sampled' * found.sampled}): skill for the disease cannot be evaluated on "
            "this data.",
            fix="Add images of every class from every source; until then make no claim about the disease.",
            consequence="Nothing is changed: scores of this data measure source and disease together.",
            evidence=[Evidence((), f"{source.levels[index]}: {_counts(table[index], found.classes)}") for index in order],
        )


# ---------------------------------------------------------------------------------------------------- words and evidence


def _alone(items: Iterable[FamilyResult]) -> list[Evidence]:
    """Say what the most telling properties achieve alone, a line per family."""
    lines = []
    for item in items:
        ranked = sorted(
            zip(item.result.singles, item.family.properties, strict=True), key=lambda pair: -pair[0].balanced_accuracy
        )
        table = ", ".join(f"{single.balanced_accuracy:.2f} {one.name}" for single, one in ranked[:_LISTED])
        lines.append(Evidence((), f"balanced accuracy of single properties: {table}"))
    return lines


def _typical(context: AuditContext, found: Shortcuts, worst: FamilyResult) -> list[Evidence]:
    """Show the images of every class that are named rightly with the widest margin, clearest classes first."""
    item = worst.family.properties[worst.result.most_telling]
    pieces = []
    clear = [float(worst.result.margins[found.trial.labels == index].mean()) for index in range(len(found.classes))]
    for index in np.argsort([-mean for mean in clear], kind="stable").tolist():
        places = np.flatnonzero((found.trial.labels == index) & (worst.result.margins > 0))
        best = places[np.argsort(-worst.result.margins[places], kind="stable")]
        distinct = best[np.sort(np.unique(found.trial.groups[best], return_index=True)[1])][:_SHOWN]
        paths = tuple(context.manifest.files[row].path for row in found.rows[distinct].tolist())
        share = _percent(float(worst.result.sensitivity[index]))
        note = f"{found.classes[index]}: {share} named rightly; {_summary(item, found.trial.labels == index)}"
        pieces.append(Evidence(paths, f"{note}; the clearest images" if paths else note))
    return pieces


def _reach(item: FamilyResult) -> str:
    result = item.result
    return f"reach a balanced accuracy of {result.balanced_accuracy:.2f} [{result.low:.2f}, {result.high:.2f}]"


def _file_size(worst: FamilyResult) -> str:
    """Say what the size of the file achieves, where another property of the file is more telling."""
    names = [item.name for item in worst.family.properties]
    if "file size" not in names or names.index("file size") == worst.result.most_telling:
        return ""
    return f" (file size alone: {_percent(worst.result.singles[names.index('file size')].accuracy)})"


def _extremes(item: Property, labels: IntArray, classes: Sequence[str]) -> str:
    """Return how a property differs between the two classes that it sets apart most."""
    if item.levels or _mostly_zero(item.values):
        level = _dividing_level(item, labels, len(classes)) if item.levels else -1
        shares = [_share(item.values[labels == index], level) for index in range(len(classes))]
        high, low = int(np.argmax(shares)), int(np.argmin(shares))
        what = item.levels[level] if item.levels else "present"
        return f"{what} in {_percent(shares[high])} of {classes[high]}, {_percent(shares[low])} of {classes[low]}"
    medians = [_middle(item.values[labels == index]) for index in range(len(classes))]
    low, high = int(np.nanargmin(medians)), int(np.nanargmax(medians))
    return f"median {_amount(medians[low], item.unit)} {classes[low]}, {_amount(medians[high], item.unit)} {classes[high]}"


def _summary(item: Property, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    """Return a property of one class in words."""
    values = item.values[chosen]
    if item.levels:
        level = int(np.bincount(values.astype(np.int64)).argmax())
        return f"{item.name} {item.levels[level]} in {_percent(_share(values, level))}"
    if _mostly_zero(item.values):
        return f"{item.name} in {_percent(_share(values, -1))}"
    return f"median {item.name} {_amount(_middle(values), item.unit)}"


def _dividing_level(item: Property, labels: IntArray, classes: int) -> int:
    """Return the category whose share differs most between classes."""
    table = np.bincount(item.values.astype(np.int64) * classes + labels, minlength=len(item.levels) * classes)
    shares = table.reshape(len(item.levels), classes) / np.bincount(labels, minlength=classes)
    return int((shares.max(axis=1) - shares.min(axis=1)).argmax())


def _mostly_zero(values: DoubleArray) -> bool:
    """Whether a property is absent from half of the images or more: medians would hide it."""
    return bool(np.count_nonzero(values == 0) * 2 >= len(values))


def _share(values: DoubleArray, level: int) -> float:
    """Return the share of one category; with -1, of values above zero."""
    return float((values == level).mean() if level >= 0 else (values > 0).mean())


def _middle(values: DoubleArray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _amount(value: float, unit: str) -> str:
    """Return a number with its unit, for people."""
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB" if value >= 1e6 else f"{value / 1e3:.0f} kB" if value >= 1e4 else f"{value / 1e3:.1f} kB"
    if unit == "share":
        return _percent(value)
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number}{' ' * bool(unit)}{unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _counts(row: IntArray, classes: Sequence[str]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in zip(classes, row.tolist(), strict=True))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
