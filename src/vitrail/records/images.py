"""Images in: the data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.records.types import FileStatus, IntArray
from vitrail.row_file import RowFile
from vitrail.storage import fingerprint


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of the data set, as the one pass over its bytes found it: a file, or one slice or frame of a file.

    Attributes:
        path: Relative to the manifest's root, with forward slashes; a slice or frame of a file ends with ``#`` and its number,
            counted from 0.
        label: Class name: the name of the folder it stands in, or what the data set's table says.
        part: The data set's own part (``train``, ``validation`` or ``test``); ``None`` where the folder has no such parts.
        size_bytes: Length of the file.
        sha256: Hash of the file's bytes, hexadecimal.
        status: ``readable``, or why it is not; ``excluded``: a list of fixes says that it shall not be used.
        problem: The reason in words when not readable, else empty.
        format: What the bytes are (``JPEG``, ``PNG``, ``DICOM``...), whatever the name says; empty when unknown.
        mode: How the pixels are stored: Pillow's mode (``L``, ``RGB``, ``I;16``, ``CMYK``...) or, for DICOM, the photometric
            interpretation (``MONOCHROME1``...); empty when unknown.
        width: Width in pixels, upright (EXIF orientation applied); 0 when unknown.
        height: Height in pixels, upright; 0 when unknown.
        turned: Whether the stored image lies on its side or is mirrored, and its EXIF orientation says how to turn it.
        patient: Whom it shows, as the data set itself says it: the table's column, or a pseudonym of the DICOM patient
            identifier; empty when it does not say.
        volume: The volume, series or clip that it is a slice or frame of; empty when it stands alone.
        encoding: How it was compressed, for example ``quality 75, 4:2:0``; empty when unknown.
        source: What made it, as its header says: scanner, station, protocol, software; empty when unknown.
        private: Names (never values) of the header's fields that point to a person, for example ``PatientName``.
    """

    path: str
    label: str
    part: Literal["train", "validation", "test"] | None
    size_bytes: int
    sha256: str
    status: FileStatus
    problem: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    patient: str = ""
    volume: str = ""
    encoding: str = ""
    source: str = ""
    private: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the whole image could be decoded."""
        return self.status == "readable"


@dataclass(frozen=True)
class Manifest:
    """A data set as found on disk: every file in it, readable or not, in the order of their paths.

    Attributes:
        root: The folder.
        classes: Class names, sorted.
        files: One entry per file.
        thumbnails_path: ``.npy`` file, uint8 of shape (files, 128, 128): grey, stretched to a square; zeros
            where unreadable.
        facts_path: ``.npy`` array of shape (files,) with one named float32 field per measurement of
            :mod:`vitrail.datasets.facts`; not-a-number where unknown.
        notes: What was passed over and why, one line each.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    thumbnails_path: Path
    facts_path: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def has_shipped_test(self) -> bool:
        """Whether the data set brings its own test part."""
        return any(file.part == "test" for file in self.files)

    @cached_property
    def labels(self) -> IntArray:
        """Class index of every file, shape (files,)."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[file.label] for file in self.files], dtype=np.int64)

    @cached_property
    def thumbnails(self) -> RowFile:
        """The thumbnails; ``thumbnails[rows]`` reads some of them, uint8 of shape (rows, 128, 128)."""
        return RowFile(self.thumbnails_path)

    @cached_property
    def facts(self) -> npt.NDArray[np.void]:
        """Measurements by name: ``facts["sharpness"]`` is float32 of shape (files,)."""
        return np.load(self.facts_path)  # type: ignore[no-any-return]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any path, label, part or byte of the data set, and with what is left out."""
        return fingerprint([(file.path, file.label, file.part, file.sha256, file.status == "excluded") for file in self.files])
