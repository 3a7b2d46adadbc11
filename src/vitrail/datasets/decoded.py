"""What readers of image formats give: upright 8-bit pixels, and what the file says of itself besides them.

To add a format: write one file with a :class:`Reader` and name it in ``READERS`` in :mod:`vitrail.datasets.images`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from vitrail.records import ByteArray

START_LENGTH = 512
"""So many first bytes of a file tell its format."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image in 8 bits, upright.

    Attributes:
        pixels: uint8, read-only, shape (rows, columns) when grey or (rows, columns, 3) when RGB. May be smaller than the
            original, to the same scale both ways (to within one pixel), when the caller allowed it.
        height: Height of the upright original in pixels.
        width: Width of the upright original in pixels.
        format: What the bytes are, for example ``JPEG``.
        mode: How the pixels are stored: Pillow's mode, or the photometric interpretation of DICOM.
        turned: Whether the stored pixels were turned or mirrored to stand upright, as the header asks.
    """

    pixels: ByteArray
    height: int
    width: int
    format: str
    mode: str
    turned: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself besides its pixels. Empty where it does not say.

    Attributes:
        frames: Number of frames or slices that the file holds; 1 for a plain image.
        patient: Pseudonym of the patient: the same person, the same word, and nobody can read the name from it.
        volume: The series or clip that the file belongs to, where several files make one volume.
        encoding: How the pixels were compressed, for example ``quality 75, 4:2:0, progressive``.
        source: What made it: scanner, station, protocol, software; parts separated by `` | ``.
        private: Names, never values, of fields that point to a person, for example ``PatientName`` or ``GPSInfo``.
        quality: JPEG quality from 1 to 100 as its quantisation tables tell it; not-a-number where there are none.
    """

    frames: int = 1
    patient: str = ""
    volume: str = ""
    encoding: str = ""
    source: str = ""
    private: tuple[str, ...] = ()
    quality: float = float("nan")


class OpenedFile(Protocol):
    """A file of which the beginning was read. Both may be asked more than once."""

    def header(self) -> Header:
        """Read what the file says of itself, without decoding pixels.

        Raises:
            DataError: The header is damaged; the message is the reason alone, without the file's name.
        """
        ...

    def decode(self, *, frame: int | None = None, at_least: int | None = None) -> Decoded:
        """Decode one image.

        Args:
            frame: Number of the frame or slice, from 0; ``None``: the middle one.
            at_least: Allows a smaller result as long as both sides keep so many pixels, where that is faster, and a grey one of
                an image without colour.

        Raises:
            DataError: Truncated, damaged, too large, of a kind that is not read; the message is the reason alone.
        """
        ...


class Reader(Protocol):
    """One family of image formats.

    Attributes:
        formats: The names that :meth:`identify` gives, for example ``("DICOM",)``.
        suffixes: The extensions that stand for each format, lower case, with the dot.
    """

    formats: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[dict[str, str]]

    def identify(self, start: bytes) -> str:
        """Return the format that the first ``START_LENGTH`` bytes of a file announce; empty when it is none of ours."""
        ...

    def open(self, content: bytes) -> OpenedFile:
        """Read as much of a file, given as all of its bytes, as both its header and its pixels need.

        Raises:
            DataError: It is damaged from the beginning; the message is the reason alone, without the file's name.
        """
        ...


def spread_frames(frames: int, wanted: int) -> Sequence[int]:
    """Return the numbers of ``wanted`` frames, or of all where there are fewer, evenly spread over the middle four fifths of
    ``frames``; one: the middle one.

    The ends of a volume show the least of the organ; they are taken only where so many frames are wanted.
    """
    wanted = min(wanted, frames)
    margin = min((frames + 8) // 10, (frames - wanted) // 2)  # a tenth, rounded up
    return [margin + (2 * number + 1) * (frames - 2 * margin) // (2 * wanted) for number in range(wanted)]


def split_frame(path: Path) -> tuple[Path, int | None]:
    """Split ``scan.nii.gz#45`` into the file and the number of the frame; ``None`` where the path names a whole file."""
    stem, mark, number = path.name.rpartition("#")
    if mark and stem and number.isascii() and number.isdigit() and not path.exists():
        return path.with_name(stem), int(number)
    return path, None
