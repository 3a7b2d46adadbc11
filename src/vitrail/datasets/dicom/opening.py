"""From the bytes of a file to its data set without the pixels; limits on what it may unfold to; silence and one kind of error."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrail.errors import DataError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

INFLATED_LIMIT = 600_000_000
"""A data set that is deflated as a whole may grow to so many bytes."""

# PS3.5 table 6.2-1; those in the second set have a length of four bytes, after two that are reserved.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_UNDEFINED = 0xFFFFFFFF
_LAST_GROUP = 0x7FE0
_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_QUIET = ("pydicom", "pylibjpeg", "openjpeg")


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A DICOM file, read up to its pixel data.

    Attributes:
        dataset: The elements before the pixel data, each converted only when it is asked for.
        source: The bytes behind the data set (inflated where they were deflated), positioned at the element of the pixel data,
            or at the end when there is none.
        pixels_at: That position: reading one frame moves on from it.
        size: Number of bytes in ``source``.
        syntax: Transfer syntax: how the data set is written and the pixels are compressed.
        implicit: Whether the elements are written without their types.
        little: Whether the least significant byte comes first.
        kind: UID of the kind of object (SOP class) that the file says it holds; empty when it does not say.
    """

    dataset: Dataset
    source: io.BytesIO
    pixels_at: int
    size: int
    syntax: UID
    implicit: bool
    little: bool
    kind: str


def guess_encoding(start: bytes) -> tuple[bool, bool] | None:
    """Tell how a data set is written by its first bytes: (without types, least significant byte first); ``None``: it is none.

    It must begin with group 0002 or 0008, its tags must ascend, its types exist and its lengths be even. Several elements in a
    row (or one that is longer than ``start``) make an accident unlikely.
    """
    for implicit, little, enough in ((False, True, 2), (False, False, 2), (True, True, 3)):
        if _count_elements(start, implicit=implicit, little=little) >= enough:
            return implicit, little
    return None


def _count_elements(start: bytes, *, implicit: bool, little: bool) -> int:
    """Return how many elements in a row look right from the first byte on; 0 as soon as one does not."""
    order = "<" if little else ">"
    position, count, last = 0, 0, -1
    while position + 12 <= len(start):
        group, element = struct.unpack_from(f"{order}HH", start, position)
        tag = group << 16 | element
        if tag <= last or group > _LAST_GROUP or (count == 0 and not (group in (2, 8) and element <= 0x0100)):
            return 0
        kind = start[position + 4 : position + 6]
        if implicit:
            length, begin = struct.unpack_from(f"{order}I", start, position + 4)[0], 8
        elif kind in _SHORT_VRS:
            length, begin = struct.unpack_from(f"{order}H", start, position + 6)[0], 8
        elif kind in _LONG_VRS and start[position + 6 : position + 8] == b"\0\0":
            length, begin = struct.unpack_from(f"{order}I", start, position + 8)[0], 12
        else:
            return 0
        count, last = count + 1, tag
        if length == _UNDEFINED:
            break
        # A long first element would make anything pass; what stands at the head of a data set is short.
        if length % 2 or (implicit and length > 1 << 16 and count < 3):
            return 0
        position += begin + length
    return count


def open_file(content: bytes) -> OpenFile:
    """Read a file up to its pixel data. To be called within :func:`quiet_and_safe`.

    Raises:
        DataError: It unfolds to too much, or the extra is not installed.
    """
    try:
        from pydicom.filereader import read_dataset, read_preamble
        from pydicom.uid import (
            UID,
            DeflatedExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            ExplicitVRLittleEndian,
            ImplicitVRLittleEndian,
        )
    except ImportError as error:
        raise DataError("DICOM needs the extra: pip install 'vitrail[dicom]'.") from error
    source = io.BytesIO(content)
    read_preamble(source, force=True)
    meta = read_dataset(source, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = UID(str(meta.get("TransferSyntaxUID") or ""))
    begin = source.tell()
    if syntax == DeflatedExplicitVRLittleEndian:
        content, begin = _inflated(content[begin:]), 0
        source = io.BytesIO(content)
    if not syntax:
        implicit, little = guess_encoding(content[begin : begin + 512]) or (True, True)
        written = {(False, True): ExplicitVRLittleEndian, (False, False): ExplicitVRBigEndian}
        syntax = written.get((implicit, little), ImplicitVRLittleEndian)
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset = read_dataset(source, is_implicit_VR=implicit, is_little_endian=little, stop_when=_is_pixel_data)
    found_implicit, found_little = dataset.original_encoding  # what is announced is not always so
    return OpenFile(
        dataset=dataset,
        source=source,
        pixels_at=source.tell(),
        size=len(content),
        syntax=syntax,
        implicit=implicit if found_implicit is None else found_implicit,
        little=little if found_little is None else found_little,
        kind=str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""),
    )


def name_of(syntax: UID) -> str:
    """Return the name of a transfer syntax in words that can be printed."""
    return "an unknown transfer syntax" if syntax.name == str(syntax) else syntax.name


def _is_pixel_data(tag: int, _kind: str | None, _length: int) -> bool:
    """Tell whether an element is FloatPixelData, DoubleFloatPixelData or PixelData."""
    return tag in _PIXEL_DATA  # by hash: pydicom's tags compare slowly


def _inflated(deflated: bytes) -> bytes:
    """Inflate a data set, as far as the limit."""
    unfolding = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    result = unfolding.decompress(deflated, INFLATED_LIMIT + 1)
    if len(result) > INFLATED_LIMIT:
        raise DataError(f"too large: deflated, it unfolds to more than {INFLATED_LIMIT:,} bytes.")
    if not unfolding.eof:
        raise DataError("truncated: the file ends before the image does.")
    return result


@contextlib.contextmanager
def quiet_and_safe() -> Iterator[None]:
    """Silence pydicom and its decoders, and turn whatever they raise on bad bytes into a short reason.

    The words of the original errors are not repeated: they may quote a patient's data.
    """
    with _quiet():
        try:
            yield
        except DataError:
            raise
        except MemoryError as error:
            raise DataError("too large: there is not enough memory to decode it.") from error
        except RecursionError as error:
            raise DataError("damaged: sequences are nested deeper than can be read.") from error
        except (OSError, EOFError) as error:
            raise DataError("truncated or damaged: the header ends too early.") from error
        except Exception as error:
            raise DataError(f"damaged or not supported: the header cannot be read ({type(error).__name__}).") from error


_LOCK = threading.Lock()
_SILENCED: dict[str, int] = {}  # name of logger -> its level before
_INSIDE = 0
_OURS = r"(pydicom|pylibjpeg|openjpeg|PIL|vitrail\.datasets\.dicom)(\.|$)"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mute the warnings and the loggers of the libraries until the last thread has left.

    ``warnings.catch_warnings`` would swap the filters of the whole process under the other threads' feet: here, one entry for
    the libraries' own modules is added and taken away.
    """
    global _INSIDE
    with _LOCK:
        _INSIDE += 1
        if _INSIDE == 1:
            _SILENCED.update({name: logging.getLogger(name).level for name in _QUIET})
            for name in _QUIET:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            warnings.filterwarnings("ignore", module=_OURS)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE -= 1
            if _INSIDE == 0:
                for name, level in _SILENCED.items():
                    logging.getLogger(name).setLevel(level)
                _SILENCED.clear()
                _unmute(_OURS)


def _unmute(module: str) -> None:
    """Take our entry out of the filters of warnings, wherever it stands by now."""
    for entry in list(warnings.filters):
        pattern = entry[3]
        if entry[0] == "ignore" and getattr(pattern, "pattern", pattern) == module:
            with contextlib.suppress(ValueError):  # another thread has swapped the filters meanwhile
                warnings.filters.remove(entry)  # type: ignore[attr-defined]
