"""What a DICOM header says besides the pixels: whose image it is (as a pseudonym), of which volume, made how, and which
identifiers are still filled."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from vitrail.datasets.decoded import Header
from vitrail.datasets.dicom.opening import OpenFile, name_of
from vitrail.datasets.dicom.pixels import count_frames

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IDENTIFIERS = (
    "AccessionNumber",
    "AdmissionID",
    "BranchOfService",
    "ConsultingPhysicianName",
    "ContentCreatorName",
    "CurrentPatientLocation",
    "DistributionAddress",
    "DistributionName",
    "FillerOrderNumberImagingServiceRequest",
    "HumanPerformerName",
    "HumanPerformerOrganization",
    "InstitutionAddress",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "InterpretationAuthor",
    "InterpretationRecorder",
    "InterpretationTranscriber",
    "MedicalRecordLocator",
    "MilitaryRank",
    "NameOfPhysiciansReadingStudy",
    "NamesOfIntendedRecipientsOfResults",
    "OperatorsName",
    "OrderCallbackPhoneNumber",
    "OrderEnteredBy",
    "OrderEntererLocation",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientAddress",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientID",
    "PatientInstitutionResidence",
    "PatientMotherBirthName",
    "PatientName",
    "PatientTelecomInformation",
    "PatientTelephoneNumbers",
    "PerformingPhysicianName",
    "PersonAddress",
    "PersonName",
    "PersonTelephoneNumbers",
    "PhysicianApprovingInterpretation",
    "PhysiciansOfRecord",
    "PlacerOrderNumberImagingServiceRequest",
    "ReferringPhysicianAddress",
    "ReferringPhysicianName",
    "ReferringPhysicianTelephoneNumbers",
    "RequestingPhysician",
    "ResponsibleOrganization",
    "ResponsiblePerson",
    "ReviewerName",
    "ScheduledPerformingPhysicianName",
    "TelephoneNumberTrial",
    "VerifyingObserverName",
    "VerifyingOrganization",
)
"""The elements of the basic application level confidentiality profile (PS3.15 table E.1-1) that name or number a person, say
where to find one, or name the institution. Not among them: dates other than birth, machines, unique identifiers, free text."""

_DEEPEST = 4  # sequences within sequences that are searched for identifiers
_MOST_ITEMS = 200  # items of sequences that are searched in one file
_MOST_PER_SEQUENCE = 8  # the items of one sequence are much alike

# Modalities whose files are slices of a volume when they say where in the patient they lie.
_VOLUMES = frozenset({"CT", "MR", "PT", "NM", "OPT", "IVOCT", "IVUS", "RTDOSE", "SEG"})

# What people write where a name or number was taken out, as the words of a value in lower case.
_WORDS = """anon anonym anonymous anonymized anonymised anonymize anonymise anonyme anonymisiert blank confidential default deid
    deidentified identified de deleted dummy empty hidden id masked na nil no noid noname none not available name null patient
    patientid patientname pseudonym pseudonymized pseudonymised redacted removed test phantom demo unknown unnamed unspecified
    x xx xxx"""
_EMPTY_WORDS = frozenset(_WORDS.split())
# Values made by a machine or for a study: they point to nobody by themselves.
_CODE = re.compile(
    r"[0-9a-f]{16,}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|\d+(\.\d+){3,}"
    r"|(anon\w*?|patient|pat|subject|subj|sub|case|volunteer|phantom|test|study|series|id)[ _^-]*\d*",
    re.IGNORECASE,
)


def describe(file: OpenFile) -> Header:
    """Return what the header says. Elements that cannot be read are taken as empty.

    Raises:
        DataError: It announces more frames than the file can hold.
    """
    dataset = file.dataset
    number = _text(dataset, "PatientID")
    issuer = _text(dataset, "IssuerOfPatientID")
    return Header(
        frames=count_frames(file),
        patient="" if _says_nothing(number) else _pseudonym(number, issuer),
        volume=_volume(dataset),
        encoding=_encoding(file),
        source=_source(dataset),
        private=_private(dataset),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a value in words, several of them separated by commas; empty when missing or unreadable."""
    with contextlib.suppress(Exception):
        value = dataset.get(keyword)
        if value is None:
            return ""
        if not isinstance(value, (str, bytes)) and hasattr(value, "__iter__") and not hasattr(value, "components"):
            value = ", ".join(str(part) for part in value)
        return " ".join(str(value).replace("\0", " ").split())
    return ""


def _pseudonym(*parts: str, digits: int = 12) -> str:
    """Return hexadecimal digits that are the same for the same words."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def _says_nothing(value: str) -> bool:
    """Tell whether a value is blank or stands for one that was taken out."""
    words = re.findall(r"[^\W_]+", value.casefold())
    if not words or set("".join(words)) in ({"0"}, {"x"}, {"z"}):
        return True
    return all(word in _EMPTY_WORDS for word in words) or "".join(words) in _EMPTY_WORDS


def _volume(dataset: Dataset) -> str:
    """Return the pseudonym of the series when the file is a slice of a volume; empty when it stands alone."""
    if _text(dataset, "Modality").upper() not in _VOLUMES or not _text(dataset, "ImagePositionPatient"):
        return ""
    series = _text(dataset, "SeriesInstanceUID") or _text(dataset, "StudyInstanceUID")
    return _pseudonym(series) if series else ""


def _encoding(file: OpenFile) -> str:
    """Return the name of the transfer syntax, and whether the pixels went through a lossy compression at any time."""
    lossy = _text(file.dataset, "LossyImageCompression") == "01"
    return f"{name_of(file.syntax)}{', lossy' if lossy else ''}"


def _source(dataset: Dataset) -> str:
    """Return what made the image. Stations are often called by a place or a person: they get a pseudonym."""
    station = _text(dataset, "StationName")
    protocol = _text(dataset, "ProtocolName")
    parts = [
        _text(dataset, "Manufacturer"),
        _text(dataset, "ManufacturerModelName"),
        "" if _says_nothing(station) else f"station {_pseudonym(station, digits=6)}",
        "" if "^" in protocol else protocol,  # free text; with carets, a person's name
        _text(dataset, "SoftwareVersions"),
    ]
    printable = ("".join(letter for letter in part if letter.isprintable())[:64].replace("|", "/").strip() for part in parts)
    return " | ".join(part for part in printable if part and not _says_nothing(part))


# ---------------------------------------------------------------------------------------------------- identifiers


def _private(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of filled identifiers, sorted; those within sequences too."""
    removed = _text(dataset, "PatientIdentityRemoved").upper() == "YES" or bool(_text(dataset, "DeidentificationMethod"))
    number = _text(dataset, "PatientID")
    found = set()
    for part in _parts(dataset):
        for keyword in IDENTIFIERS:
            value = _text(part, keyword) if _tag(keyword) in part else ""
            if value and keyword not in found and not _is_harmless(keyword, value, number=number, removed=removed):
                found.add(keyword)
    if _text(dataset, "BurnedInAnnotation").upper() == "YES":
        found.add("BurnedInAnnotation")
    return tuple(sorted(found))


def _is_harmless(keyword: str, value: str, *, number: str, removed: bool) -> bool:
    """Tell whether an identifier's value points to nobody: a placeholder, a code, or what de-identification puts there."""
    if _says_nothing(value) or _CODE.fullmatch(value):
        return True
    if keyword == "PatientName" and value == number and any(letter.isdigit() for letter in value):
        return True  # a code in both: the number is judged by itself
    if keyword == "PatientBirthDate":
        year, day = value[:4], value[4:]
        return year in ("1111", "9999") or (day == "0101" and (removed or year in ("1800", "1900", "1901")))
    # The profile puts numbers of its own in these places (PS3.15 table E.1-1, actions Z and D), and says so by the flag.
    return removed and (keyword in ("PatientID", "AccessionNumber") or value in (number, "Removed"))


@lru_cache(maxsize=1)
def _tags() -> dict[str, int]:
    from pydicom.datadict import tag_for_keyword

    return {keyword: tag for keyword in IDENTIFIERS if (tag := tag_for_keyword(keyword)) is not None}


def _tag(keyword: str) -> int:
    return _tags().get(keyword, 0)


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the data set and the items of its sequences, breadth first, as deep and as many as the limits allow."""
    from pydicom.datadict import dictionary_VR

    level, left = [dataset], _MOST_ITEMS
    for _ in range(_DEEPEST + 1):
        below: list[Dataset] = []
        for part in level:
            yield part
            for tag in list(part.keys()):
                with contextlib.suppress(Exception):  # unknown tags, damaged items: nothing to read there
                    kind = part.get_item(tag).VR or dictionary_VR(tag)
                    if kind == "SQ":
                        below.extend(part[tag].value[: min(_MOST_PER_SEQUENCE, left - len(below))])
        left -= len(below)
        level = below
