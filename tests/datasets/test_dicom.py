"""The DICOM reader against pydicom's own pipeline, on every file that comes with pydicom and on small ones made here."""

from __future__ import annotations

import hashlib
import io
import logging
import struct
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")

from dicom_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, dataset, deflated_file, nested, raw_file, reference, written  # noqa: E402

from vitrail.datasets.dicom import DicomReader, apart, opening  # noqa: E402
from vitrail.errors import DataError  # noqa: E402

DATA = Path(pydicom.__file__).parent / "data"
OTHER_KINDS = {".py", ".pyc", ".json", ".txt", ".icc", ".dump", ".gz", ".md"}
FILES = sorted(path for path in DATA.rglob("*") if path.is_file() and path.suffix not in OTHER_KINDS and path.name != "README")
READER = DicomReader()

# What cannot be read, and why. All that is not listed here must come out right.
REFUSED = {
    "JPEG-lossy.dcm": "there is no free decoder",  # 12-bit JPEG: only pylibjpeg-libjpeg reads it, which is GPL
    "JPGExtended.dcm": "there is no free decoder",
    "JPEG2000-embedded-sequence-delimiter.dcm": "too large: the compressed pixels announce",  # bytes overwritten on purpose
    "MR_truncated.dcm": "truncated",
    "meta_missing_tsyntax.dcm": "does not say Rows",
    "nested_priv_SQ.dcm": "does not say Rows",
    "no_meta.dcm": "not DICOM",  # begins with a stray byte
}


def named(path):
    return path.relative_to(DATA).as_posix()


def has_pixels(path):
    data = pydicom.dcmread(path, force=True)
    return any(keyword in data for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


def decode(values, *, syntax=EXPLICIT, frame=None, **elements):
    return READER.open(written(dataset(values, **elements), syntax=syntax)).decode(frame=frame)


def ramp(dtype=np.uint16, shape=(16, 16), top=4000):
    return np.linspace(0, top, int(np.prod(shape))).reshape(shape).astype(dtype)


# ---------------------------------------------------------------------------------------------------- pydicom's own files


@pytest.mark.filterwarnings("ignore")  # the reference may warn
@pytest.mark.parametrize("path", FILES, ids=named)
def test_files_that_come_with_pydicom(path):
    content = path.read_bytes()
    if path.name in REFUSED:
        if REFUSED[path.name] == "not DICOM":
            assert READER.identify(content[:512]) == ""
            return
        with pytest.raises(DataError, match=REFUSED[path.name]):
            READER.open(content).decode()
        return
    assert READER.identify(content[:512]) == "DICOM"
    header = READER.open(content).header()
    if not has_pixels(path):
        with pytest.raises(DataError, match="no pixel data"):
            READER.open(content).decode()
        return
    for number in {0, header.frames // 2, header.frames - 1}:
        decoded = READER.open(content).decode(frame=number)
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.shape[:2] == (decoded.height, decoded.width)
        if path.name == "badVR.dcm":  # pydicom cannot read its number of frames
            continue
        expected = reference(path, number)
        assert decoded.pixels.shape == expected.shape
        assert np.abs(decoded.pixels - expected).max() <= 1


@pytest.mark.filterwarnings("ignore")
def test_enough_of_them_are_images():
    images = [path for path in FILES if path.name not in REFUSED and has_pixels(path)]
    assert len(images) >= 95


# ---------------------------------------------------------------------------------------------------- tones


def test_without_a_window_minimum_to_maximum_without_padding():
    values = ramp(np.int16)
    values[0, 0] = -2000
    plain = decode(values)
    assert (plain.mode, plain.format, plain.turned) == ("MONOCHROME2 16-bit", "DICOM", False)
    assert (plain.pixels[0, 0], plain.pixels[0, 1], plain.pixels[-1, -1]) == (0, round(2015 / 6000 * 255), 255)
    padded = decode(values, PixelPaddingValue=-2000)
    assert (padded.pixels[0, 0], padded.pixels[0, 1], padded.pixels[-1, -1]) == (0, 0, 255)
    assert not padded.pixels.flags.writeable


def test_padding_stays_black_when_the_image_is_inverted_and_may_be_a_range():
    values = ramp(np.uint16)
    values[:2] = 60000
    values[2] = 60005
    elements = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 60010}
    pixels = decode(values, **elements).pixels
    assert not pixels[:3].any()
    assert (pixels[3, 0], pixels[-1, -1]) == (255, 0)


def test_a_window_in_the_units_after_rescale():
    values = ramp(np.uint16)
    elements = {"RescaleSlope": 0.5, "RescaleIntercept": -1000, "WindowCenter": [0, 50], "WindowWidth": [401, 10]}
    pixels = decode(values, **elements).pixels
    # PS3.3 C.11.2.1.2.1: of the first window, -200.5 is the last black and 199.5 the first white
    expected = np.clip((values * 0.5 - 1000 + 0.5) / 400 + 0.5, 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.5 + 1e-6
    inverted = decode(values, PhotometricInterpretation="MONOCHROME1", **elements).pixels
    assert np.abs(inverted - (255 - expected)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("function", "centre", "width"), [("LINEAR_EXACT", 2000, 400), ("SIGMOID", 2000, 400), ("LINEAR", 2000, 1)]
)
def test_other_window_functions_equal_pydicom(function, centre, width):
    from pydicom.pixels import apply_windowing

    data = dataset(ramp(), WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = apply_windowing(ramp(), data) / 65535 * 255
    assert np.abs(READER.open(written(data)).decode().pixels - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("width", [0, -5, ""])
def test_a_window_that_makes_no_sense_is_ignored(width):
    pixels = decode(ramp(), WindowCenter=5, WindowWidth=width).pixels
    np.testing.assert_array_equal(pixels, decode(ramp()).pixels)


@pytest.mark.filterwarnings("ignore:Applying a VOI LUT")
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("wide", [False, True])
def test_lookup_tables_equal_pydicom(syntax, wide, tmp_path):
    from pydicom.dataset import Dataset

    values = ramp(np.uint16, top=270)
    entries = (np.linspace(0, 15.9, 256) ** 2 * (256 if wide else 1)).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor = [256, 20, 16 if wide else 8]
    item.LUTData = entries.astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes()
    item["LUTData"].VR = "OW"
    data = dataset(values.astype(">u2") if syntax == BIG_ENDIAN else values, VOILUTSequence=[item], WindowCenter=1, WindowWidth=1)
    path = tmp_path / "lut.dcm"
    path.write_bytes(written(data, syntax=syntax))
    assert np.abs(READER.open(path.read_bytes()).decode().pixels - reference(path, 0)).max() <= 0.5 + 1e-6
    data = dataset(values.astype(">u2") if syntax == BIG_ENDIAN else values, ModalityLUTSequence=[item], RescaleSlope=7)
    item.ModalityLUTType = "US"
    path.write_bytes(written(data, syntax=syntax))
    assert np.abs(READER.open(path.read_bytes()).decode().pixels - reference(path, 0)).max() <= 0.5 + 1e-6


def test_eight_bits_without_a_window_come_out_as_they_are():
    values = np.arange(100, 164, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(decode(values).pixels, values)
    np.testing.assert_array_equal(decode(values, PhotometricInterpretation="MONOCHROME1").pixels, 255 - values)


def test_a_constant_frame_is_black():
    assert not decode(np.full((4, 4), 900, dtype=np.uint16)).pixels.any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.int32, np.float32, np.float64])
def test_every_type_of_value(dtype):
    values = ramp(dtype, top=100) - dtype(20 if np.dtype(dtype).kind != "u" else 0)
    expected = (values.astype(float) - values.min()) / (float(values.max()) - float(values.min())) * 255
    assert np.abs(decode(values).pixels - expected).max() <= 0.5 + 1e-6
    if np.dtype(dtype).kind == "f":
        values[0, 5], values[1, 5], values[2, 5] = np.nan, np.inf, -np.inf
        pixels = decode(values).pixels
        assert (pixels[0, 5], pixels[1, 5], pixels[2, 5]) == (0, 255, 0)


def test_bits_above_those_stored_do_not_count():
    values = ramp(np.uint16)
    pixels = decode(values | 0xA000, BitsStored=12, HighBit=11).pixels
    np.testing.assert_array_equal(pixels, decode(values, BitsStored=12, HighBit=11).pixels)


def test_one_bit_per_pixel_becomes_black_and_white():
    mask = np.random.default_rng(0).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    packed = np.packbits(mask.ravel(), bitorder="little").tobytes()
    elements = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed + b"\0" * (len(packed) % 2)}
    for number in range(3):
        decoded = decode(mask, frame=number, **elements)
        assert decoded.mode == "MONOCHROME2 1-bit"
        np.testing.assert_array_equal(decoded.pixels, mask[number] * 255)


# ---------------------------------------------------------------------------------------------------- colour and frames


def test_colour_by_pixel_and_by_plane():
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(colours).pixels, colours)
    planes = np.ascontiguousarray(colours.transpose(2, 0, 1)).tobytes()
    np.testing.assert_array_equal(decode(colours, PlanarConfiguration=1, PixelData=planes).pixels, colours)
    deep = decode(colours.astype(np.uint16) * 257)
    np.testing.assert_array_equal(deep.pixels, colours)


def test_ybr_becomes_rgb():
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    ybr = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    decoded = decode(ybr, PhotometricInterpretation="YBR_FULL")
    assert decoded.mode == "YBR_FULL 8-bit"
    assert np.abs(decoded.pixels.astype(int) - colours).max() <= 2


@pytest.mark.parametrize("depth", [8, 16])
def test_palettes_become_rgb(depth):
    indices = ramp(np.uint8, top=255)
    palette = np.random.default_rng(0).integers(0, 256, (3, 256))
    tables = {
        f"{name}PaletteColorLookupTable{what}": value
        for name, colours in zip(("Red", "Green", "Blue"), palette, strict=True)
        for what, value in (
            ("Descriptor", [256, 0, depth]),
            ("Data", (colours * (257 if depth == 16 else 1)).astype(f"<u{depth // 8}").tobytes()),
        )
    }
    decoded = decode(indices, PhotometricInterpretation="PALETTE COLOR", **tables)
    np.testing.assert_array_equal(decoded.pixels, palette.T[indices])


def test_one_frame_of_many_by_its_own_range():
    values = np.stack([ramp(), ramp(top=100), ramp(top=9)])
    content = written(dataset(values))
    assert READER.open(content).header().frames == 3
    for number in range(3):
        expected = (values[number] / values[number].max() * 255).astype(float)
        assert np.abs(READER.open(content).decode(frame=number).pixels - expected).max() <= 0.5 + 1e-6
    np.testing.assert_array_equal(READER.open(content).decode().pixels, READER.open(content).decode(frame=1).pixels)
    for number in (3, -1):
        with pytest.raises(DataError, match=f"has no frame {number}: it holds 3"):
            READER.open(content).decode(frame=number)


def test_enhanced_images_have_their_window_and_rescale_per_frame():
    from pydicom.dataset import Dataset

    def item(**elements):
        result = Dataset()
        for keyword, value in elements.items():
            setattr(result, keyword, value)
        return result

    per_frame = [item(FrameVOILUTSequence=[item(WindowCenter=centre, WindowWidth=101)]) for centre in (500, 1500)]
    shared = item(PixelValueTransformationSequence=[item(RescaleSlope=0.5, RescaleIntercept=0)])
    values = np.stack([ramp(), ramp()])
    elements = {"PerFrameFunctionalGroupsSequence": per_frame, "SharedFunctionalGroupsSequence": [shared]}
    for number, centre in enumerate((500, 1500)):
        pixels = decode(values, frame=number, **elements).pixels
        expected = np.clip((values[number] * 0.5 - (centre - 0.5)) / 100 + 0.5, 0, 1) * 255
        assert np.abs(pixels - expected).max() <= 0.5 + 1e-6


def test_a_compressed_frame_in_several_fragments_with_no_offsets():
    from pydicom.encaps import encapsulate

    grey = ramp(np.uint8, (32, 32), top=255)
    frames = []
    for picture in (grey, grey.T):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=95)
        frames.append(stream.getvalue())
    elements = {"PixelData": encapsulate(frames, fragments_per_frame=3, has_bot=False), "NumberOfFrames": 2}
    content = written(dataset(np.stack([grey, grey]), **elements), syntax="1.2.840.10008.1.2.4.50")
    assert READER.open(content).header().encoding.startswith("JPEG Baseline")
    for number, picture in enumerate((grey, grey.T)):
        assert np.abs(READER.open(content).decode(frame=number).pixels.astype(int) - picture).mean() < 3
    with pytest.raises(DataError, match="truncated"):
        READER.open(content[:-60]).decode()


# ---------------------------------------------------------------------------------------------------- what it is


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
def test_without_preamble(syntax):
    values = ramp(">u2" if syntax == BIG_ENDIAN else "<u2")
    content = written(dataset(values), syntax=syntax, preamble=False)
    assert READER.identify(content[:512]) == "DICOM"
    np.testing.assert_array_equal(READER.open(content).decode().pixels, decode(ramp()).pixels)


def test_other_files_are_not_taken_for_dicom(tmp_path):
    chance = np.random.default_rng(0)
    others = [b"", b"\x08", b"\x08\0\x05\0", bytes(512), bytes([8, 0] * 256), b"\x02\0\0\0" * 128, b"text " * 100]
    others += [struct.pack("<i", 348) + bytes(508), b"%PDF-1.7" + bytes(500), b"PK\x03\x04" + bytes(500), b"\x7fELF" + bytes(500)]
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "ICO", "TGA"):
        stream = io.BytesIO()
        Image.fromarray(ramp(np.uint8, (20, 20), top=255)).save(stream, kind)
        others.append(stream.getvalue()[:512])
    others += [b"\x08\0" + chance.bytes(510) for _ in range(2000)] + [b"\x08\0\x05\0" + chance.bytes(508) for _ in range(2000)]
    assert [other[:20] for other in others if READER.identify(other)] == []


def test_a_file_that_is_a_tiff_and_dicom_is_dicom():
    assert READER.identify(b"II*\0" + bytes(124) + b"DICM" + bytes(380)) == "DICOM"


# ---------------------------------------------------------------------------------------------------- header

CLEAN = {"PatientID": "", "PatientName": ""}


def header(**elements):
    return READER.open(written(dataset(ramp(), **elements))).header()


def test_patients_get_the_same_pseudonym_and_no_name():
    first, same, other, elsewhere = (
        header(PatientID=number, PatientName="Doe^Jane", IssuerOfPatientID=issuer).patient
        for number, issuer in (("4711", ""), (" 4711 ", ""), ("4712", ""), ("4711", "North"))
    )
    assert first == same == hashlib.sha256(b"4711\0").hexdigest()[:12]
    assert len({first, other, elsewhere}) == 3


@pytest.mark.parametrize(
    "value", ["", " ", "0", "000000", "Anonymous", "ANONYMIZED", "anon", "XXXX", "Not Available", "^^", "N/A", "removed"]
)
def test_placeholders_are_no_patients_and_no_identifiers(value):
    found = header(PatientID=value, PatientName=value, InstitutionName=value)
    assert (found.patient, found.private) == ("", ())


def test_filled_identifiers_are_named_and_not_shown():
    found = header(
        PatientID="4711",
        PatientName="Doe^Jane",
        PatientBirthDate="19570312",
        AccessionNumber="A-99",
        OperatorsName=["Roe^Richard", "Poe^Paula"],
        InstitutionName="General Hospital",
        BurnedInAnnotation="YES",
    )
    names = "AccessionNumber BurnedInAnnotation InstitutionName OperatorsName PatientBirthDate PatientID PatientName"
    assert found.private == tuple(names.split())
    assert not any(value in repr(found) for value in ("4711", "Doe", "1957", "A-99", "Roe", "General"))


def test_identifiers_within_sequences_are_found_as_deep_as_the_limit():
    from pydicom.dataset import Dataset

    def buried(depth):
        item = Dataset()
        item.RequestingPhysician = "Roe^Richard"
        for _ in range(depth - 1):
            outer = Dataset()
            outer.RequestAttributesSequence = [item]
            item = outer
        return {"RequestAttributesSequence": [item]}

    for syntax in (EXPLICIT, IMPLICIT):
        found = READER.open(written(dataset(ramp(), **buried(3)), syntax=syntax)).header()
        assert found.private == ("RequestingPhysician",)
    assert header(**buried(9)).private == ()


def test_files_that_were_de_identified_well_do_not_cry():
    elements = {"PatientIdentityRemoved": "YES", "PatientBirthDate": "19600101", "AccessionNumber": "8241"}
    for number, name in (("LIDC-IDRI-0001", "LIDC-IDRI-0001"), ("4711", "Anonymous"), ("7", "Subject 7")):
        found = header(PatientID=number, PatientName=name, **elements)
        assert found.private == ()
        assert found.patient
    assert header(PatientID="1", PatientName="Doe^Jane", **elements).private == ("PatientName",)
    unflagged = "0004cfab-14fd-4e49-80ba-63a80b6bddd6"
    assert header(PatientID=unflagged, PatientName=unflagged).private == ()


def test_slices_of_a_series_share_a_volume_and_single_images_have_none():
    series = {"SeriesInstanceUID": "1.2.3.5", "ImagePositionPatient": [0, 0, 1]}
    first = header(Modality="CT", **series).volume
    assert first == header(Modality="CT", **{**series, "ImagePositionPatient": [0, 0, 2]}).volume != ""
    assert header(Modality="CT", **{**series, "SeriesInstanceUID": "1.2.3.6"}).volume not in ("", first)
    assert header(Modality="DX", SeriesInstanceUID="1.2.3.5").volume == ""
    assert header(Modality="CT", SeriesInstanceUID="1.2.3.5").volume == ""


def test_the_source_is_told_without_the_station_by_name():
    found = header(
        Manufacturer="ACME",
        ManufacturerModelName="Eye 3",
        StationName="DR_MILLER",
        ProtocolName="Chest PA",
        SoftwareVersions=["1.0", "b"],
    )
    parts = found.source.split(" | ")
    assert parts[:2] + parts[3:] == ["ACME", "Eye 3", "Chest PA", "1.0, b"]
    assert parts[2].startswith("station ")
    assert "MILLER" not in found.source
    assert header().source == ""


# ---------------------------------------------------------------------------------------------------- damage and limits


def test_reports_are_named_as_such():
    data = dataset(Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
    content = written(data)
    assert READER.open(content).header().frames == 1
    with pytest.raises(DataError, match="no pixel data: a report or structured document"):
        READER.open(content).decode()


def test_a_header_cut_off_before_its_pixels():
    content = written(dataset(ramp()))
    with pytest.raises(DataError, match="no pixel data: the header describes an image"):
        READER.open(content[: content.index(b"\xe0\x7f\x10\x00")]).decode()


@pytest.mark.parametrize("missing", [1, 100, 500])
def test_truncated_pixels(missing):
    content = written(dataset(np.stack([ramp(), ramp()])))
    with pytest.raises(DataError, match="truncated"):
        READER.open(content[:-missing]).decode(frame=1)


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg.dcm"]
)
def test_truncated_compressed_pixels(name):
    content = (DATA / "test_files" / name).read_bytes()
    with pytest.raises(DataError, match="truncated"):
        READER.open(content[: len(content) - 200]).decode()


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_nested_2000_deep(undefined):
    image = written(dataset(ramp()))
    begin = image.index(b"\x28\x00\x02\x00US")
    content = image[:begin] + nested(2000, undefined=undefined) + image[begin:]
    started = time.perf_counter()
    for reading in ("header", "decode"):
        try:
            getattr(READER.open(content), reading)()
        except DataError as error:
            assert "nested deeper" in str(error)
    assert time.perf_counter() - started < 5
    if undefined:
        with pytest.raises(DataError, match="nested deeper"):
            READER.open(content).decode()


def test_a_deflated_file_is_read_and_a_bomb_refused(monkeypatch):
    body = written(dataset(ramp()), syntax=EXPLICIT, preamble=False)
    content = deflated_file(body)
    np.testing.assert_array_equal(READER.open(content).decode().pixels, decode(ramp()).pixels)
    with pytest.raises(DataError, match="truncated"):
        READER.open(content[:-10]).decode()
    monkeypatch.setattr(opening, "INFLATED_LIMIT", 5_000_000)
    bomb = deflated_file(body + bytes(40_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="deflated, it unfolds to more than 5,000,000 bytes"):
        READER.open(bomb).header()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15_000_000


@pytest.mark.parametrize("syntax", [EXPLICIT, "1.2.840.10008.1.2.5"])
def test_announced_sizes_are_refused_before_memory_is_taken(syntax):
    tracemalloc.start()
    for rows, columns, reason in ((65535, 65535, "too large: 65535 x 65535"), (17000, 17000, "truncated")):
        values = {
            "Rows": rows,
            "Columns": columns,
            "PixelData": b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0\x04\0\0\0" + bytes(4),
        }
        with pytest.raises(DataError, match=reason):
            READER.open(written(dataset(ramp(np.uint8), **values), syntax=syntax)).decode()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_compressed_bytes_that_announce_more_than_the_header(kind):
    from pydicom.encaps import encapsulate

    stream = io.BytesIO()
    Image.fromarray(ramp(np.uint8)).save(stream, kind, **({"no_jp2": True} if kind == "JPEG2000" else {}))
    picture = bytearray(stream.getvalue())
    if kind == "JPEG":
        place = picture.index(b"\xff\xc0")
        struct.pack_into(">HH", picture, place + 5, 60000, 60000)
    else:
        struct.pack_into(">II", picture, picture.index(b"\xff\x51") + 6, 60000, 60000)
    syntax = {"JPEG": "1.2.840.10008.1.2.4.50", "JPEG2000": "1.2.840.10008.1.2.4.91"}[kind]
    content = written(dataset(ramp(np.uint8), PixelData=encapsulate([bytes(picture)])), syntax=syntax)
    with pytest.raises(DataError, match="announce 3,600,000,000 values"):
        READER.open(content).decode()


def test_more_frames_than_bytes():
    with pytest.raises(DataError, match="announces 1000000000 frames"):
        header(NumberOfFrames=1_000_000_000)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 0}, "announces 16 x 0 pixels"),
        ({"Rows": None}, "does not say Rows"),
        ({"BitsAllocated": 12}, "12 bits per value"),
        ({"SamplesPerPixel": 4}, "4 samples per pixel"),
        ({"PixelData": b""}, "its place in the file is empty"),
    ],
)
def test_impossible_headers_are_refused_with_the_reason(elements, reason):
    with pytest.raises(DataError, match=reason):
        decode(ramp(), **elements)


def test_video_is_refused_by_name():
    from pydicom.encaps import encapsulate

    content = written(dataset(ramp(np.uint8), PixelData=encapsulate([b"video"])), syntax="1.2.840.10008.1.2.4.102")
    with pytest.raises(DataError, match="a video as MPEG-4"):
        READER.open(content).decode()


def test_damaged_bytes_raise_nothing_but_data_errors_and_print_nothing(capfd):
    chance = np.random.default_rng(1)
    outcomes = set()
    for name in ("CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"):
        original = (DATA / "test_files" / name).read_bytes()
        for _ in range(40):
            content = bytearray(original)
            for place in chance.integers(132, len(content), 8):
                content[place] = chance.integers(0, 256)
            for reading in ("header", "decode"):
                try:
                    outcomes.add(type(getattr(READER.open(bytes(content)), reading)()).__name__)
                except DataError:
                    outcomes.add("DataError")
    assert outcomes == {"Header", "Decoded", "DataError"}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("place", "how"), [(17, "aborts: a colour transform that does not exist"), (22, "crashes: 62 bits")])
def test_a_file_at_which_the_decoder_ends_its_process_costs_one_image(place, how):
    original = (DATA / "test_files" / "SC_rgb_jpeg_gdcm.dcm").read_bytes()
    good = READER.open(original).decode().pixels
    content = bytearray(original)
    content[content.index(b"\xff\xd8\xff") + place] = 62
    with pytest.raises(DataError, match="cannot be decoded"):
        READER.open(bytes(content)).decode()
    np.testing.assert_array_equal(READER.open(original).decode().pixels, good)


def test_a_decoder_that_does_not_answer_is_given_up(monkeypatch):
    content = (DATA / "test_files" / "MR_small_jpeg_ls_lossless.dcm").read_bytes()
    good = READER.open(content).decode().pixels
    monkeypatch.setattr(apart, "TIME_LIMIT", 0.0)
    monkeypatch.setattr(apart, "_IDLE", [])
    with pytest.raises(DataError, match="cannot be decoded"):
        READER.open(content).decode()
    monkeypatch.undo()
    np.testing.assert_array_equal(READER.open(content).decode().pixels, good)


def test_two_threads_at_once_are_silent_and_leave_no_trace(recwarn):
    names = (
        "badVR.dcm",
        "MR_small_padded.dcm",
        "JPGExtended.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "examples_palette.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
    )
    contents = [(DATA / "test_files" / name).read_bytes() for name in names]
    filters, level = list(warnings.filters), logging.getLogger("pydicom").level
    heard, results = [], []
    handler = logging.Handler()
    handler.emit = heard.append
    logging.getLogger().addHandler(handler)

    def work():
        for content in contents * 3:
            try:
                results.append(READER.open(content).decode().pixels.sum())
            except DataError as error:
                results.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logging.getLogger().removeHandler(handler)
    assert len(results) == 36
    assert len(set(results)) == 6
    assert not heard
    assert not list(recwarn)
    assert warnings.filters == filters
    assert logging.getLogger("pydicom").level == level


def test_without_the_extra_the_reason_says_what_to_install(monkeypatch):
    content = written(dataset(ramp()))
    monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    with pytest.raises(DataError, match=r"pip install 'vitrail\[dicom\]'"):
        READER.open(content)


def test_errors_do_not_repeat_what_the_header_says():
    content = raw_file(
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x28\0\x10\0DS\x08\0Doe^Jane\x28\0\x11\0US\x02\0\x10\0\xe0\x7f\x10\0OW\0\0\x02\0\0\0\0\0"
    )
    with pytest.raises(DataError) as caught:
        READER.open(content).decode()
    assert "Doe" not in str(caught.value)
