"""One frame of a DICOM file: checked, decompressed, and turned into 8 bits."""

from __future__ import annotations

import contextlib
import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitrail.datasets.dicom.apart import decode_apart
from vitrail.datasets.dicom.grey import eight_bit_colour
from vitrail.datasets.dicom.opening import OpenFile, name_of
from vitrail.datasets.dicom.runs import unfold
from vitrail.datasets.dicom.steps import paint, pipeline_for
from vitrail.datasets.raster import PIXEL_LIMIT
from vitrail.errors import DataError
from vitrail.records import ByteArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_UNDEFINED = 0xFFFFFFFF
_TRUNCATED = "truncated: the file ends before the image does."
_RUN_LENGTH_GAIN = 64  # two bytes of run-length code stand for 128 at most

# Which of pydicom's decoders reads what: the ones that read the same pictures outside DICOM.
_PLUGINS = {
    "JPEGBaseline8Bit": "pillow",
    "JPEGExtended12Bit": "pillow",
    "JPEG2000": "pylibjpeg",
    "JPEG2000Lossless": "pylibjpeg",
    "HTJ2K": "pylibjpeg",
    "HTJ2KLossless": "pylibjpeg",
    "HTJ2KLosslessRPCL": "pylibjpeg",
}
_APART = frozenset({"JPEGLossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEGLSNearLossless"})
_PHOTOMETRIC = re.compile(r"[A-Z][A-Z0-9_ ]{2,15}")

# What files without pixels are, by their modality (PS3.3 C.7.3.1.1.1).
_NOT_IMAGES = {
    "SR": "a report or structured document (SR)",
    "KO": "a selection of other images (KO)",
    "PR": "a presentation state (PR), which says how another image is shown",
    "DOC": "a document (DOC)",
    "RTPLAN": "a radiotherapy plan (RTPLAN)",
    "RTSTRUCT": "contours for radiotherapy (RTSTRUCT)",
    "RTRECORD": "a radiotherapy record (RTRECORD)",
    "ECG": "a recording of waveforms (ECG)",
    "REG": "a registration of other images (REG)",
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a frame is stored. Lengths in pixels, depths in bits."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    planar: int
    photometric: str
    keyword: str
    kind: str  # type of the element, OB or OW; OW where it is not said
    length: int  # of the element in bytes, or _UNDEFINED


def count_frames(file: OpenFile) -> int:
    """Return the number of frames that a file announces; 1 when that cannot be read.

    Raises:
        DataError: It announces more than its bytes can hold.
    """
    try:
        frames = max(1, _number(file.dataset, "NumberOfFrames", 1))
    except (DataError, ValueError):
        return 1
    if frames > 8 * file.size:
        raise DataError(f"damaged: it announces {frames} frames, more than its bytes can hold.")
    return frames


def decode_frame(file: OpenFile, number: int, frames: int) -> tuple[ByteArray, str]:
    """Decode one frame to uint8, (rows, columns) when grey, (rows, columns, 3) when colour, and name how it was stored.

    Raises:
        DataError: There are no pixels, or they are truncated, damaged, too many, or compressed in a way that is not read.
    """
    file.source.seek(file.pixels_at)
    layout = _layout(file)
    pixels = layout.rows * layout.columns * layout.samples
    if pixels > PIXEL_LIMIT:
        size = f"{layout.columns} x {layout.rows} pixels" + (f" of {layout.samples} samples" if layout.samples > 1 else "")
        raise DataError(f"too large: {size}; at most {PIXEL_LIMIT:,} values are read.")
    stored, photometric = _decompressed(file, layout, number, frames)
    mode = f"{layout.photometric} {layout.stored}-bit"
    if layout.samples == 3:
        if not photometric.startswith("RGB"):
            raise DataError(f"not supported: colour stored as {layout.photometric} is not read.")
        return eight_bit_colour(stored, (1 << layout.stored) - 1), mode
    if layout.photometric == "PALETTE COLOR":
        return paint(stored, file), mode
    steps = pipeline_for(file, number, keyword=layout.keyword, bits=layout.stored, signed=layout.signed)
    return replace(steps, inverted=layout.photometric == "MONOCHROME1")(stored), mode


# ---------------------------------------------------------------------------------------------------- layout


def _number(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Return a whole number from the header; the first where there are several."""
    value = dataset.get(keyword)
    if isinstance(value, (list, tuple)) or (hasattr(value, "__getitem__") and not isinstance(value, (str, bytes))):
        value = value[0] if len(value) else None
    if value is None or value == "":
        if default is None:
            raise DataError(f"damaged: the header does not say {keyword}.")
        return default
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"damaged: {keyword} is not a number.") from error


def _layout(file: OpenFile) -> _Layout:
    """Read how frames are stored, and the head of the element that holds them; the source then stands at its first byte."""
    dataset = file.dataset
    tag, kind, length = _element_head(file)
    if tag not in _KEYWORDS:
        raise DataError(_why_no_pixels(file))
    samples = _number(dataset, "SamplesPerPixel", 1)
    if samples not in (1, 3):
        raise DataError(f"not supported: images of {samples} samples per pixel are not read, only of 1 and 3.")
    rows, columns = _number(dataset, "Rows"), _number(dataset, "Columns")
    if rows < 1 or columns < 1:
        raise DataError(f"damaged: the header announces {columns} x {rows} pixels.")
    keyword = _KEYWORDS[tag]
    allocated = _number(dataset, "BitsAllocated", {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword))
    if allocated not in (1, 8, 16, 32, 64):
        raise DataError(f"not supported: {allocated} bits per value are not read, only 1, 8, 16, 32 and 64.")
    stored = _number(dataset, "BitsStored", allocated)
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    if photometric and not _PHOTOMETRIC.fullmatch(photometric):
        raise DataError("damaged: the header does not say whether the pixels are grey or colour.")
    return _Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=stored if 1 <= stored <= allocated else allocated,
        signed=_number(dataset, "PixelRepresentation", 0) == 1,
        planar=1 if _number(dataset, "PlanarConfiguration", 0) == 1 else 0,
        photometric=photometric or ("MONOCHROME2" if samples == 1 else "RGB"),
        keyword=keyword,
        kind=kind or "OW",
        length=length,
    )


def _element_head(file: OpenFile) -> tuple[int, str, int]:
    """Read tag, type and length of the element that the source stands at; zeros at the end of the file."""
    order = "<" if file.little else ">"
    head = file.source.read(8)
    if len(head) < 8:
        return 0, "", 0
    group, element = struct.unpack(f"{order}HH", head[:4])
    kind = head[4:6]
    if file.implicit or not (kind.isalpha() and kind.isupper()):
        return group << 16 | element, "", struct.unpack(f"{order}I", head[4:])[0]
    rest = file.source.read(4)
    return group << 16 | element, kind.decode("ascii"), struct.unpack(f"{order}I", rest)[0] if len(rest) == 4 else 0


def _why_no_pixels(file: OpenFile) -> str:
    """Say why there is nothing to see in a file without pixel data."""
    from pydicom.uid import UID

    kind = UID(file.kind).name if file.kind else ""
    if "Rows" in file.dataset or kind.endswith("Image Storage"):
        return "no pixel data: the header describes an image, but the file ends or was cut before its pixels."
    modality = str(file.dataset.get("Modality") or "").strip().upper()
    what = _NOT_IMAGES.get(modality) or ("" if kind == file.kind else kind.removesuffix(" Storage"))
    return f"no pixel data: {what}, not an image." if what else "no pixel data: not an image."


# ---------------------------------------------------------------------------------------------------- pixels as stored


def _decompressed(file: OpenFile, layout: _Layout, number: int, frames: int) -> tuple[npt.NDArray[Any], str]:
    """Return one frame as stored, but YBR as RGB and colour by pixel; and the photometric interpretation that it has now."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian, JPEGExtended12Bit, RLELossless

    try:
        decoder = get_decoder(file.syntax)
    except NotImplementedError as error:
        what = "a video" if "MPEG" in file.syntax.name or "HEVC" in file.syntax.name else "compressed"
        raise DataError(f"not supported: {what} as {name_of(file.syntax)}, which is not read.") from error
    if file.syntax == JPEGExtended12Bit and layout.stored > 8:
        what = f"compressed as {name_of(file.syntax)} with {layout.stored} bits"
        raise DataError(f"not supported: {what}, for which there is no free decoder; decompress it first.")
    source: Any = file.source
    planar, photometric = layout.planar, layout.photometric
    if file.syntax == RLELossless:
        source = unfold(
            _compressed(file, layout, number, frames),
            pixels=layout.rows * layout.columns,
            samples=layout.samples,
            size=max(1, layout.allocated // 8),
        )
        number, frames, planar = 0, 1, 0
        photometric = "YBR_FULL" if photometric == "YBR_FULL_422" else photometric
        decoder = get_decoder(ExplicitVRLittleEndian)
    elif file.syntax.is_encapsulated:
        source, number, frames = encapsulate([_compressed(file, layout, number, frames)]), 0, 1
    else:
        _check_length(file, layout, number)
        if layout.allocated == 1:
            return _unpacked(file, layout, number), photometric
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": planar,
        "photometric_interpretation": photometric,
        "number_of_frames": frames,
        "pixel_keyword": layout.keyword,
        "pixel_vr": layout.kind,
    }
    try:
        if file.syntax.keyword in _APART:
            stored, photometric = decode_apart(source, syntax=str(file.syntax), options=options)
        else:
            plugin = _PLUGINS.get(file.syntax.keyword, "")
            stored, properties = decoder.as_array(source, index=number, decoding_plugin=plugin, **options)
            photometric = str(properties["photometric_interpretation"])
    except MemoryError:
        raise
    except Exception as error:
        if "missing" in str(error):
            reason = f"not supported: compressed as {name_of(file.syntax)}; pip install 'vitrail[dicom]' brings the decoder."
            raise DataError(reason) from error
        raise DataError(f"damaged or not supported: the pixels ({name_of(file.syntax)}) cannot be decoded.") from error
    return stored.astype(stored.dtype.newbyteorder("="), copy=False), photometric


def _unpacked(file: OpenFile, layout: _Layout, number: int) -> npt.NDArray[Any]:
    """Return a frame of one bit per pixel; frames follow one another without filling, so they may begin within a byte."""
    length = layout.rows * layout.columns * layout.samples
    first, skipped = divmod(number * length, 8)
    file.source.seek(first, 1)
    packed = np.frombuffer(file.source.read((skipped + length + 7) // 8), dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[skipped : skipped + length]
    shape = (layout.rows, layout.columns)
    return bits.reshape(shape if layout.samples == 1 else (*shape, layout.samples))


def _check_length(file: OpenFile, layout: _Layout, number: int) -> None:
    """Refuse a frame that the bytes cannot hold."""
    if layout.length == _UNDEFINED:
        raise DataError(f"damaged: the pixels are compressed, but the header says that they are not ({name_of(file.syntax)}).")
    bits = layout.rows * layout.columns * layout.samples * layout.allocated
    if layout.photometric == "YBR_FULL_422":
        bits = bits // 3 * 2
    if not layout.length:
        raise DataError("no pixel data: its place in the file is empty.")
    if (bits * (number + 1) + 7) // 8 > min(layout.length, file.size - file.source.tell()):
        raise DataError(_TRUNCATED)


def _compressed(file: OpenFile, layout: _Layout, number: int, frames: int) -> bytes:
    """Return the compressed bytes of one frame, after a look at what they announce to unfold to."""
    from pydicom.encaps import get_frame, parse_basic_offsets, parse_fragments
    from pydicom.uid import RLELossless

    source, begin = file.source, file.source.tell()
    try:
        parse_basic_offsets(source)
        _, places = parse_fragments(source)
        source.seek(begin)
        tables = [file.dataset.get(word) for word in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
        offsets = (tables[0], tables[1]) if tables[0] and tables[1] else None
        frame: bytes = get_frame(source, number, number_of_frames=frames, extended_offsets=offsets)
    except Exception as error:
        raise DataError("truncated or damaged: the compressed pixels are not where the header says.") from error
    if places:
        source.seek(places[-1] + 4)
        if places[-1] + 8 + struct.unpack("<I", source.read(4))[0] > file.size:
            raise DataError(_TRUNCATED)
    if not frame:
        raise DataError("no pixel data: its place in the file is empty.")
    if file.syntax == RLELossless:
        if layout.rows * layout.columns * layout.samples * layout.allocated // 8 > _RUN_LENGTH_GAIN * len(frame):
            raise DataError(_TRUNCATED)
    elif (announced := _announced_values(frame)) > PIXEL_LIMIT:
        raise DataError(f"too large: the compressed pixels announce {announced:,} values; at most {PIXEL_LIMIT:,} are read.")
    return frame


def _announced_values(frame: bytes) -> int:
    """Return rows x columns x components as the compressed bytes themselves announce them; 0 when they do not say.

    JPEG and JPEG-LS: the frame header (ITU-T T.81 B.2.2); JPEG 2000: the SIZ segment (ITU-T T.800 A.5.1).
    """
    with contextlib.suppress(struct.error):
        siz = frame.find(b"\xff\x4f\xff\x51")
        if siz >= 0 and frame[:2] != b"\xff\xd8":
            right, bottom, left, top = struct.unpack_from(">4I", frame, siz + 8)
            components = struct.unpack_from(">H", frame, siz + 40)[0]
            return int(max(0, right - left) * max(0, bottom - top) * components)
        position = 2
        while frame[:2] == b"\xff\xd8":
            marker, length = struct.unpack_from(">HH", frame, position)
            if marker == 0xFFFF:  # filling before a marker
                position += 1
                continue
            if (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)) or marker == 0xFFF7:
                height, width, components = struct.unpack_from(">HHB", frame, position + 5)
                return int(height) * int(width) * int(components)
            position += 2 + length
    return 0
