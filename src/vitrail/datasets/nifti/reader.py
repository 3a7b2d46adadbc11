"""The reader of NIfTI: the door to this folder."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from vitrail.datasets.decoded import Decoded, Header, spread_frames
from vitrail.datasets.nifti.head import (
    GZIP,
    HEAD_LENGTH,
    beginning,
    body_axes,
    byte_order,
    has_dicom_extension,
    looks_like_a_name,
    parse,
    slice_axis,
    text,
    turned_shape,
    volume_shape,
)
from vitrail.datasets.nifti.voxels import KeptVolumes, eight_bit
from vitrail.errors import DataError


class NiftiReader:
    """NIfTI-1 and NIfTI-2 files that hold header and voxels together (``.nii``), compressed with gzip or not.

    One slice of the first volume becomes an image, in the radiological convention: the front of the patient is up and the
    patient's right on the left of the picture. Slices are axial: along the axis that is nearest to the body's long axis. A file
    with a single slice gives that one, whatever its plane (top of the patient up, front on the left when sagittal). After slope
    and intercept, the 0.5 and 99.5 percentiles of the whole volume become 0 and 255, so that its slices compare with each
    other; where these are the same (masks), its minimum and maximum; a constant volume and not-a-number become 0. RGB
    volumes come out as they are.

    The last two volumes stay in memory (up to 600 MB together), so that taking several slices of one reads it once.

    Needs the extra ``dicom``. Safe to call from several threads; raises nothing but :class:`DataError`.
    """

    formats: ClassVar[tuple[str, ...]] = ("NIfTI",)
    suffixes: ClassVar[dict[str, str]] = {".nii": "NIfTI", ".nii.gz": "NIfTI"}

    def __init__(self) -> None:
        self._kept = KeptVolumes()

    def identify(self, start: bytes) -> str:
        """Return ``NIfTI`` when the first bytes of a file, or what they unfold to, are the header of one; else empty."""
        return "NIfTI" if byte_order(beginning(start, 512)) else ""

    def open(self, content: bytes) -> OpenedNifti:
        """Take a file; nothing is read before it is asked for."""
        return OpenedNifti(content, self._kept)


@dataclass(frozen=True, slots=True)
class OpenedNifti:
    """A NIfTI file. See :class:`~vitrail.datasets.decoded.OpenedFile`."""

    _content: bytes
    _kept: KeptVolumes

    def header(self) -> Header:
        """Read the number of slices, the software, and which fields look as if they held a person's name.

        Raises:
            DataError: The header is damaged, or the extra is not installed.
        """
        with _failures_as_data_errors():
            head = beginning(self._content, HEAD_LENGTH)
            parsed = parse(head)
            shape, turns = volume_shape(parsed), body_axes(parsed)
            axis = slice_axis(turned_shape(shape, turns))
            description = text(parsed["descrip"])
            private = [name for name in ("db_name", "aux_file") if looks_like_a_name(text(parsed[name]))]
            if looks_like_a_name(description):
                private.append("descrip")
            if has_dicom_extension(head, parsed):
                private.append("DICOM extension")
            return Header(
                frames=turned_shape(shape, turns)[axis],
                encoding="gzip" if self._content.startswith(GZIP) else "",
                source="" if "descrip" in private else description,
                private=tuple(sorted(private)),
            )

    def decode(self, *, frame: int | None = None, at_least: int | None = None) -> Decoded:  # noqa: ARG002
        """Decode one slice; see the reader. ``mode`` is the type of the stored voxels, for example ``int16``.

        Args:
            frame: Number of the slice, from 0 at the patient's feet; ``None``: the middle one.
            at_least: Not used: the result always has the full size.

        Raises:
            DataError: There is no such slice, the file is truncated, damaged, too large or of a kind that is not read, or the
                extra is not installed.
        """
        with _failures_as_data_errors():
            volume = self._kept.get(self._content)
            slices = volume.voxels.shape[volume.axis]
            number = spread_frames(slices, 1)[0] if frame is None else frame
            if not 0 <= number < slices:
                raise DataError(f"has no slice {number}: it holds {slices}, counted from 0.")
            along: list[slice | int] = [slice(None)] * 3
            along[volume.axis] = number
            plane = volume.voxels[tuple(along)][::-1, ::-1].swapaxes(0, 1)  # a view: numpy's take would copy the volume
            pixels = eight_bit(plane, volume)
        pixels.flags.writeable = False
        mode = "RGB" if pixels.ndim == 3 else volume.voxels.dtype.name
        return Decoded(pixels=pixels, height=pixels.shape[0], width=pixels.shape[1], format="NIfTI", mode=mode)


@contextmanager
def _failures_as_data_errors() -> Iterator[None]:
    """Turn whatever is raised on bad bytes into a short reason."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("too large: there is not enough memory to decode it.") from error
    except zlib.error as error:
        raise DataError("damaged: the compressed bytes cannot be unfolded.") from error
    except Exception as error:
        raise DataError(f"damaged or not supported: the header cannot be read ({type(error).__name__}).") from error
