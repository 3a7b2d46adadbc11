"""The one door to an image: whatever its format, wherever it lies, one slice or frame of it if need be."""

from __future__ import annotations

from pathlib import Path

from vitrail.datasets.decoded import START_LENGTH, Decoded, Reader, split_frame
from vitrail.datasets.dicom import DicomReader
from vitrail.datasets.nifti import NiftiReader
from vitrail.datasets.raster import RasterReader
from vitrail.errors import DataError

READERS: tuple[Reader, ...] = (DicomReader(), NiftiReader(), RasterReader())
"""Every reader, in the order in which they are asked: DICOM first, because some of its files begin like a TIFF. A new format adds
a line here."""

FORMATS: tuple[str, ...] = tuple(name for reader in READERS for name in reader.formats)
"""What is read."""

SUFFIXES: dict[str, str] = {suffix: name for reader in READERS for suffix, name in reader.suffixes.items()}
"""Extension in lower case, with its dot -> the format that it stands for."""


def suffix_of(path: str) -> str:
    """Return the extension of a path in lower case, with its dot (``.nii.gz`` whole, without a frame); empty when none."""
    name = path.rpartition("/")[2].lower()
    stem, mark, number = name.rpartition("#")
    if mark and stem and number.isdigit():
        name = stem
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    stem, dot, ending = name.rpartition(".")
    return f".{ending}" if dot and stem else ""


def reader_of(start: bytes) -> tuple[Reader, str] | None:
    """Return the reader for a file by its first ``START_LENGTH`` bytes, and the format; ``None`` when there is none."""
    return next(((reader, name) for reader in READERS if (name := reader.identify(start))), None)


def read_image(source: Path | bytes, *, at_least: int | None = None) -> Decoded:
    """Decode an image to upright 8-bit pixels, grey (height, width) or RGB (height, width, 3).

    Args:
        source: A file, a frame or slice of one (``scan.nii.gz#45``), or the bytes of a file. Of a volume or clip without a
            number, the middle slice is read.
        at_least: Allows a smaller result, where that is faster, as long as both sides keep so many pixels, and a grey one of an
            image without colour. The original's size is in the result all the same.

    Raises:
        DataError: It cannot be read, is empty, not an image, truncated, too large or damaged.
    """
    if isinstance(source, bytes):
        return _decode(source, frame=None, at_least=at_least)
    path, frame = split_frame(source)
    try:
        return _decode(path.read_bytes(), frame=frame, at_least=at_least)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}).") from error
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def _decode(content: bytes, *, frame: int | None, at_least: int | None) -> Decoded:
    if not content:
        raise DataError("empty: the file has zero bytes.")
    found = reader_of(content[:START_LENGTH])
    if found is None:
        raise DataError(f"not an image: the bytes are none of {', '.join(FORMATS)}.")
    return found[0].open(content).decode(frame=frame, at_least=at_least)
