"""What in the data could tell who a patient is: headers, burned-in text, EXIF blocks, file names. Never the values themselves."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.audit.text_lines import Proposals, find_lines, propose
from vitrail.datasets import read_image
from vitrail.engine import map_in_order
from vitrail.errors import DataError
from vitrail.records import Evidence, Finding, ImageFile

LISTED = 100
"""So many files are named at most."""
LOOKED_AT = 200
"""PHI702 opens at most so many images."""
BATCH = 80
"""It stops after a batch of so many in which hardly any holds text."""
AT_RANDOM = 12
"""So many images are opened whatever their thumbnails look like: text that stands in all of them does not stand out."""

_BY_LONE_LINE, _BY_LOUD_LINE = 3.0, 5.0  # robust z-scores of the thumbnails from which an image is opened
_RARE = 0.1
_AROUND_LINE = 0.09  # of the height, above and below a proposed line
_WITH_PATIENT_HEADER = frozenset({"DICOM", "NIFTI", "NIfTI"})
_IN_PIXELS = "BurnedInAnnotation"
_CONSEQUENCE = (
    "Training goes on. vitrail never writes these fields to its reports, models or logs; paths are written as they are."
)


class PersonalHeaders:
    """PHI701: fields of medical headers that name a person."""

    code = "PHI701"
    title = "Names and identifiers in image headers"
    why = "Whoever gets the files can read whom they show, which data protection law forbids in nearly every case."
    explanation = (
        "DICOM files carry the patient's name, date of birth, number, address and doctors beside the pixels; other formats have "
        "free fields where such things end up. This check lists which of these fields are filled, by their names. It never "
        "shows a value, and passes over what points to nobody, such as `Anonymous` or the codes that a de-identification "
        "program leaves.\n\n"
        "Empty fields are no proof that a data set is anonymous: names can be burned into the pixels (PHI702), stand in file "
        "names (PHI704), or in private fields that no list knows. Use a program for de-identification that follows "
        "DICOM PS3.15, at the place where the data come from, and keep the originals there."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find files whose medical header holds identifiers. ``count``: such files."""
        files = [file for file in context.manifest.files if file.format in _WITH_PATIENT_HEADER]
        if not files:
            raise NotApplicable("no file is of a format with a patient's header (DICOM, NIfTI)")
        return _about_fields(
            self,
            [(file, tuple(name for name in file.private if name != _IN_PIXELS)) for file in files],
            what="identifiers in the header",
            fix="Export the images de-identified (DICOM PS3.15, basic profile) before they are copied or shared any further.",
        )


class PersonalExif:
    """PHI703: EXIF blocks that name a person or a place."""

    code = "PHI703"
    title = "Names or places in EXIF blocks"
    why = "Photographs tell where and by whom they were taken, and so whose home or which practice they come from."
    explanation = (
        "Cameras and phones write an EXIF block into JPEG, PNG and TIFF files: the position by satellite, the owner, the artist, "
        "the serial number of the camera, comments. In photographs of skin, eyes or wounds this can lead to the patient or the "
        "doctor. This check lists which of these fields are filled, by their names, and never shows a value.\n\n"
        "The pixels are not touched by removing the block, for example with `exiftool -all= -tagsFromFile @ -Orientation`; keep "
        "the orientation, or the images will lie on their sides."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find images whose EXIF block holds personal fields. ``count``: such files."""
        files = [file for file in context.manifest.files if file.format and file.format not in _WITH_PATIENT_HEADER]
        if not files:
            raise NotApplicable("no file is of a format with an EXIF block")
        return _about_fields(
            self,
            [(file, file.private) for file in files],
            what="personal fields in the EXIF block",
            fix="Export the images de-identified: remove the EXIF blocks of the listed files and keep the orientation.",
        )


class PersonalPaths:
    """PHI704: dates and long numbers in the names of files and folders."""

    code = "PHI704"
    title = "Dates or patient numbers in file names"
    why = "A date of birth or a hospital's number in a file name names the patient to all who can look it up."
    explanation = (
        "Names of files and folders travel with the data into every list, log and report. This check finds dates in them "
        "(19610412, 1961-04-12, 12.04.1961), which may be dates of birth or of an examination, and numbers of eight to ten "
        "digits, as hospitals give them to patients. DICOM identifiers (1.2.840...), counters with leading zeros and "
        "fingerprints are passed over.\n\n"
        "A number is not always a patient's, and a date may be that of an export: look at a few. Names of persons are not "
        "searched for, because no rule tells them from other words. Rename the files to codes, and keep the list that links "
        "codes with patients apart from the images."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Search the paths. ``count``: files. A warning where there are dates, else for information."""
        told = [(file, kind) for file in _once(context.manifest.files) if (kind := personal_part(file.path))]
        if not told:
            return None
        kinds = Counter(kind for _, kind in told)
        table = ", ".join(f"{kind}: {number:,}" for kind, number in kinds.most_common())
        told.sort(key=lambda item: (item[1] != _DATE, item[0].path))
        return finding(
            self,
            severity="warning" if kinds[_DATE] else "info",
            count=len(told),
            message=f"{number_of(len(told), 'file')} with what may be a date or a patient's number in the path ({table})"
            f"{_limited(told)}.",
            fix="Export the images de-identified: rename files and folders to codes that mean nothing outside the study.",
            consequence=_CONSEQUENCE,
            evidence=[Evidence((file.path,), f"{kind} in the path") for file, kind in told[:LISTED]],
        )


class BurnedInText:
    """PHI702: text in the pixels."""

    code = "PHI702"
    title = "Text in the images"
    why = "Names and dates in the pixels stay when headers are cleaned, and a model can learn them instead of the disease."
    explanation = (
        "Ultrasound machines, scanners of films and screenshots write names, dates and settings into the picture itself. This "
        "check looks for lines of text: low, long places with many upright strokes of even brightness, and quiet above and "
        "below. The small pictures propose where to look, at most 200 images are then opened, and twelve are opened at random in "
        "any case. Nothing is read: whether the text is a name, a date or only `SUPINE`, a person has to see. Single letters, "
        "as the L and R that mark the sides, are not reported.\n\n"
        "It misses handwriting, very small letters (less than about one hundredth of the height) and pale text on bone; and a "
        "row of teeth or a scale can look like text. That nothing was found is no proof. Crop the border or cover the text "
        "before you share images, and check SHC504, which tells whether marks stand in one class more often than in another."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Look for text in the images that seem to hold some. ``count``: images with text among those that were opened."""
        files = context.manifest.files
        rows = np.array(context.readable(), dtype=np.int64)
        if len(rows) == 0:
            raise NotApplicable("the data set has no readable image")
        announced = [row for row in rows.tolist() if _IN_PIXELS in files[row].private]
        queue, chance = _queue(propose(context.manifest, rows))
        found: dict[int, tuple[float, str]] = {}
        opened = 0
        for start in range(0, len(queue), BATCH):
            batch = queue[start : start + BATCH]
            results = list(map_in_order(lambda item: _text_in(context, int(rows[item[0]]), item[1]), batch))
            opened += len(batch)
            found |= {int(rows[place]): text for (place, _), text in zip(batch, results, strict=True) if text is not None}
            if sum(text is not None for text in results) < _RARE * len(batch):
                break
        random_hits = sum(int(rows[place]) in found for place in chance)
        order = sorted(found, key=lambda row: (-found[row][0], row))
        named = [(row, found[row][1]) for row in order]
        named += [(row, "the header says that text is burned in") for row in announced if row not in found]
        if not named:
            return None
        often = f"; of {len(chance)} images opened at random, {random_hits:,} hold some" if random_hits else ""
        return finding(
            self,
            severity="warning",
            count=len(named),
            message=f"{number_of(len(named), 'image')} with possible text in the pixels, {number_of(opened, 'image')} of "
            f"{len(rows):,} opened{often}{_limited(named)}.",
            fix="Look at the listed images. Export them de-identified: without the overlay, or with the text cropped or covered.",
            consequence=_CONSEQUENCE,
            evidence=[Evidence((files[row].path,), note) for row, note in named[:LISTED]],
        )


# ---------------------------------------------------------------------------------------------------- headers


def _about_fields(
    check: PersonalHeaders | PersonalExif, fields: Sequence[tuple[ImageFile, tuple[str, ...]]], *, what: str, fix: str
) -> Finding | None:
    """Return the finding about files with filled fields; the slices of one file count once."""
    names = {file.path: private for file, private in fields if private}
    told = [file for file in _once([file for file, _ in fields]) if file.path in names]
    if not told:
        return None
    counts = Counter(name for file in told for name in names[file.path])
    table = ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    told.sort(key=lambda file: (-len(names[file.path]), file.path))
    return finding(
        check,
        severity="warning",
        count=len(told),
        message=f"{number_of(len(told), 'file')} with {what} ({table}){_limited(told)}.",
        fix=fix,
        consequence=_CONSEQUENCE,
        evidence=[Evidence((file.path,), f"filled: {', '.join(names[file.path])}") for file in told[:LISTED]],
    )


def _once(files: Sequence[ImageFile]) -> list[ImageFile]:
    """Return the first entry of every file: a volume stands in the list once per slice."""
    first: dict[str, ImageFile] = {}
    for file in files:
        stem, mark, number = file.path.rpartition("#")
        first.setdefault(stem if mark and number.isdigit() else file.path, file)
    return list(first.values())


def _limited(items: Sequence[object]) -> str:
    return f"; the first {LISTED} are listed" if len(items) > LISTED else ""


# ---------------------------------------------------------------------------------------------------- paths

_DATE, _NUMBER = "date", "long number"
_IDENTIFIER = re.compile(r"\d+(?:\.\d+){4,}")
_FINGERPRINT = re.compile(r"(?<![0-9A-Za-z])(?=[0-9A-Fa-f-]*[A-Fa-f])[0-9A-Fa-f-]{16,}(?![0-9A-Za-z])")
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d\d)(\d\d)(\d\d)(?:\d{6})?(?!\d)")
_YEAR_FIRST = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.])(\d\d?)\2(\d\d?)(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d\d?)([-_.])(\d\d?)\2((?:19|20)\d\d)(?!\d)")
_LONG = re.compile(r"(?<!\d)[1-9]\d{7,9}(?!\d)")


def personal_part(path: str) -> str:
    """Return what in a path may point to a person: ``date`` or ``long number``; empty when nothing does."""
    rest = _FINGERPRINT.sub(" ", _IDENTIFIER.sub(" ", path))
    dates = [(match[1], match[2], match[3]) for match in _COMPACT.finditer(rest)]
    dates += [(match[1], match[3], match[4]) for match in _YEAR_FIRST.finditer(rest)]
    dates += [(match[4], match[3], match[1]) for match in _YEAR_LAST.finditer(rest)]
    dates += [(match[4], match[1], match[3]) for match in _YEAR_LAST.finditer(rest)]
    if any(_is_date(*date) for date in dates):
        return _DATE
    return _NUMBER if _LONG.search(rest) else ""


def _is_date(year: str, month: str, day: str) -> bool:
    try:
        datetime.date(int(year), int(month), int(day))
    except ValueError:
        return False
    return int(year) < 2050


# ---------------------------------------------------------------------------------------------------- pixels


def _queue(proposals: Proposals) -> tuple[list[tuple[int, float | None]], list[int]]:
    """Return which images to open, each with the height of the line to look at (``None``: all of it), and those drawn at random.

    The two scores take turns, the most striking first: one finds text in the middle of anatomy, the other text at the edge.
    """
    size = len(proposals.alone)
    chance = np.sort(np.random.default_rng(0).choice(size, size=min(AT_RANDOM, size), replace=False)).tolist()
    queue: dict[int, float | None] = dict.fromkeys(chance)
    rankings = []
    for column, (score, least) in enumerate(((proposals.alone, _BY_LONE_LINE), (proposals.loud, _BY_LOUD_LINE))):
        order = np.argsort(-score, kind="stable")
        rankings.append([(int(place), float(proposals.row[place, column])) for place in order[score[order] >= least][:LOOKED_AT]])
    for turn in range(LOOKED_AT):
        for ranking in rankings:
            if turn < len(ranking) and len(queue) < LOOKED_AT:
                queue.setdefault(*ranking[turn])
    return list(queue.items()), chance


def _text_in(context: AuditContext, row: int, height: float | None) -> tuple[float, str] | None:
    """Look for text in an image, near the proposed height if there is one.

    Returns:
        The number of strokes of the clearest line, and where it is in words; ``None`` where there is no text.
    """
    try:
        pixels = read_image(context.manifest.root / context.manifest.files[row].path, at_least=1024).pixels
    except DataError:  # changed since the scan
        return None
    top, bottom = 0, len(pixels)
    if height is not None:
        reach = max(_AROUND_LINE * len(pixels), 48.0)
        top, bottom = max(0, int(height * len(pixels) - reach)), int(height * len(pixels) + reach) + 1
    lines = find_lines(pixels[top:bottom])
    if not lines:
        return None
    line = lines[0]
    down = (top + (line.top + line.bottom) / 2) / len(pixels)
    across = (line.left + line.right) / 2 / pixels.shape[1]
    place = f"{('top', 'middle', 'bottom')[min(2, int(3 * down))]} {('left', 'centre', 'right')[min(2, int(3 * across))]}"
    return line.strokes, f"about {max(3, round(line.strokes / 1.5))} letters, {place}"
