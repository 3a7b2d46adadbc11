"""The reader of DICOM: the door to this folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitrail.datasets.decoded import Decoded, Header, spread_frames
from vitrail.datasets.dicom.describing import describe
from vitrail.datasets.dicom.opening import OpenFile, guess_encoding, open_file, quiet_and_safe
from vitrail.datasets.dicom.pixels import count_frames, decode_frame
from vitrail.errors import DataError


class DicomReader:
    """DICOM files (PS3.10), and data sets without its preamble and file meta information, as old software wrote them.

    Grey images go through the standard's pipeline (PS3.4 N.2): modality lookup table or rescale slope and intercept, then the
    VOI lookup table or the first window, whose lower end becomes 0 and whose upper end 255; MONOCHROME1 is inverted, so that
    dense tissue is bright in every result. Without a window, the minimum..maximum of the frame, without its padding, becomes
    0..255 (a constant frame becomes 0), except that unsigned images of up to 8 bits keep their full range: they are pictures
    as a PNG is, and come out as they are. Padding pixels and not-a-number become 0.
    Enhanced multi-frame images have these values per frame; they are found there.

    Colour becomes RGB (palettes too), 16 bits per channel their high byte. Overlays, presentation states and ICC profiles are
    left aside, and pixels are taken to stand upright, as the standard has no word on it for most kinds of image.

    Needs the extra ``dicom``. Safe to call from several threads; raises nothing but :class:`DataError`, prints nothing.
    """

    formats: ClassVar[tuple[str, ...]] = ("DICOM",)
    suffixes: ClassVar[dict[str, str]] = {".dcm": "DICOM", ".dicom": "DICOM", ".ima": "DICOM"}

    def identify(self, start: bytes) -> str:
        """Return ``DICOM`` when the first bytes of a file are those of a DICOM file, with its preamble or without; else empty.

        The preamble is free: files exist that are a TIFF by their first bytes and DICOM as well. Ask this reader first.
        """
        return "DICOM" if start[128:132] == b"DICM" or guess_encoding(start) else ""

    def open(self, content: bytes) -> OpenedDicom:
        """Read a file up to its pixels.

        Raises:
            DataError: The header is damaged, or the extra is not installed.
        """
        with quiet_and_safe():
            return OpenedDicom(open_file(content))


@dataclass(frozen=True, slots=True)
class OpenedDicom:
    """A DICOM file, read up to its pixels. See :class:`~vitrail.datasets.decoded.OpenedFile`."""

    _file: OpenFile

    def header(self) -> Header:
        """Read number of frames, pseudonyms of patient and series, compression, scanner, and filled identifiers.

        Raises:
            DataError: The header is damaged.
        """
        with quiet_and_safe():
            return describe(self._file)

    def decode(self, *, frame: int | None = None, at_least: int | None = None) -> Decoded:  # noqa: ARG002
        """Decode one frame; see the reader. ``mode`` is the photometric interpretation with the bits stored.

        Args:
            frame: Number of the frame, from 0; ``None``: the middle one.
            at_least: Not used: the result always has the full size.

        Raises:
            DataError: There is no pixel data, no such frame, the file is truncated, damaged, too large or compressed in a way
                that is not read.
        """
        with quiet_and_safe():
            frames = count_frames(self._file)
            number = spread_frames(frames, 1)[0] if frame is None else frame
            if not 0 <= number < frames:
                raise DataError(f"has no frame {number}: it holds {frames}, counted from 0.")
            pixels, mode = decode_frame(self._file, number, frames)
        pixels.flags.writeable = False
        return Decoded(pixels=pixels, height=pixels.shape[0], width=pixels.shape[1], format="DICOM", mode=mode)
