"""Small DICOM files made on the spot, and an independent reading of any of them by pydicom's own functions."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def dataset(values=None, **elements):
    """A secondary capture with these stored values, (rows, columns), (frames, rows, columns) or (rows, columns, 3)."""
    from pydicom.dataset import Dataset
    from pydicom.uid import SecondaryCaptureImageStorage

    result = Dataset()
    result.SOPClassUID = SecondaryCaptureImageStorage
    result.SOPInstanceUID = "1.2.3.4"
    result.Modality = "OT"
    if values is not None:
        colour = values.ndim == 3 and values.shape[-1] == 3
        result.SamplesPerPixel = 3 if colour else 1
        result.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            result.PlanarConfiguration = 0
        elif values.ndim == 3:
            result.NumberOfFrames = len(values)
        result.Rows, result.Columns = values.shape[:2] if colour else values.shape[-2:]
        result.BitsAllocated = 8 * values.dtype.itemsize
        if values.dtype.kind == "f":
            keyword = {4: "FloatPixelData", 8: "DoubleFloatPixelData"}[values.dtype.itemsize]
            setattr(result, keyword, values.tobytes())
        else:
            result.BitsStored = 8 * values.dtype.itemsize
            result.HighBit = result.BitsStored - 1
            result.PixelRepresentation = int(values.dtype.kind == "i")
            content = values.tobytes()
            result.PixelData = content + b"\0" * (len(content) % 2)
            result["PixelData"].VR = "OW" if values.dtype.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        if value is None:
            delattr(result, keyword)
        else:
            setattr(result, keyword, value)
    return result


def written(data, *, syntax=EXPLICIT, preamble=True):
    """The bytes of a file; without preamble, without the file meta information too."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset
    from pydicom.uid import UID

    if not preamble:
        stream = DicomBytesIO()
        stream.is_little_endian = syntax != BIG_ENDIAN
        stream.is_implicit_VR = syntax == IMPLICIT
        write_dataset(stream, data)
        return stream.getvalue()
    stream = io.BytesIO()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.get("SOPClassUID", "1.2.3")
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def raw_file(body, *, syntax=EXPLICIT):
    """A file with hand-made bytes behind a correct beginning."""
    name = syntax.encode() + b"\0" * (len(syntax) % 2)
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(name)) + name
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element + body


def deflated_file(body):
    packing = zlib.compressobj(9, wbits=-15)
    return raw_file(packing.compress(body) + packing.flush(), syntax=DEFLATED)


def nested(depth, *, undefined):
    """The bytes of sequences within sequences."""
    if undefined:
        head = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        tail = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return head * depth + tail * depth
    body = b""
    for _ in range(depth):
        body = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
        body = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, len(body)) + body
    return body


def reference(path, number):
    """One frame by pydicom's own pipeline and its first choice of decoder, scaled to 0..255 as the reader documents; not rounded.

    Raises whatever pydicom raises on a file that it cannot decode.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

    data = pydicom.dcmread(path, force=True)
    stored = pixel_array(data, index=number)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        painted = apply_color_lut(stored, data)[..., :3]
        return painted / np.iinfo(painted.dtype).max * 255
    if data.SamplesPerPixel == 3:  # pixel_array has made RGB of YBR
        return stored / (2.0**data.BitsStored - 1) * 255
    measured = apply_modality_lut(stored, data).astype(float)
    padded = np.zeros(stored.shape, dtype=bool)
    if "PixelPaddingValue" in data:
        padded = stored == data.PixelPaddingValue
    if data.get("VOILUTSequence"):
        shown = apply_voi_lut(measured, data) / (2.0 ** data.VOILUTSequence[0].LUTDescriptor[2] - 1)
    elif "WindowWidth" in data:
        shown = apply_voi_lut(measured, data)
        ends = np.array([0, 2.0**data.BitsStored - 1]) - (2.0 ** (data.BitsStored - 1) if data.PixelRepresentation else 0)
        ends = ends * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
        shown = (shown - ends[0]) / (ends[1] - ends[0])
    elif data.BitsStored <= 8 and not data.PixelRepresentation:
        shown = stored / (2.0**data.BitsStored - 1)
    else:
        low, high = measured[~padded].min(), measured[~padded].max()
        shown = (measured - low) / (high - low) if high > low else np.zeros(measured.shape)
    if data.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(padded, 0, np.clip(shown, 0, 1)) * 255
