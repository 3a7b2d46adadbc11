"""The one door to an image, and what the header of a picture says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dicom_files import dataset, written
from pictures import encoded, texture
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from vitrail.datasets import FORMATS, SUFFIXES, read_image, suffix_of
from vitrail.datasets.decoded import START_LENGTH, Header, spread_frames
from vitrail.datasets.images import READERS, reader_of
from vitrail.datasets.nifti import NiftiReader
from vitrail.errors import DataError


@pytest.fixture
def volume(tmp_path):
    """A NIfTI file with five different slices."""
    nib = pytest.importorskip("nibabel", reason="the extra dicom is not installed")
    values = np.random.default_rng(0).integers(0, 1000, size=(12, 10, 5)).astype(np.int16)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


# ---------------------------------------------------------------------------------------------------- names and formats


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("a/b.png", ".png"),
        ("a/B.JPG", ".jpg"),
        ("a/scan.nii.gz", ".nii.gz"),
        ("a/Scan.NII.GZ", ".nii.gz"),
        ("a/scan.nii.gz#45", ".nii.gz"),
        ("a/clip.dcm#0", ".dcm"),
        ("a/a#1.png", ".png"),
        ("a/x.tar.gz", ".gz"),
        ("a.b/name", ""),
        ("a.b/.hidden", ""),
        ("IM0001", ""),
        ("IM0001#3", ""),
        ("#3.png", ".png"),
        ("a/b.png#x", ".png#x"),
    ],
)
def test_the_suffix_of_a_path(path, suffix):
    assert suffix_of(path) == suffix


def test_every_suffix_stands_for_a_format_that_is_read():
    assert {SUFFIXES[suffix] for suffix in (".jpg", ".png", ".dcm", ".nii.gz", ".tiff", ".webp")} == {
        "JPEG",
        "PNG",
        "DICOM",
        "NIfTI",
        "TIFF",
        "WEBP",
    }
    assert set(SUFFIXES.values()) == set(FORMATS)
    assert all(suffix_of(f"a/file{suffix}") == suffix for suffix in SUFFIXES)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000", "PNM"])
def test_the_first_bytes_name_the_reader(kind):
    content = encoded(Image.fromarray(texture()), kind)
    reader, name = reader_of(content[:START_LENGTH])
    assert name == kind
    assert name in reader.formats
    assert reader in READERS
    assert reader.open(content).decode().format == kind


@pytest.mark.parametrize("content", [b"", b"x", b"P", b"RIFF", b"%PDF-1.7", bytes(512), b"PK\x03\x04" + bytes(100)])
def test_other_bytes_have_no_reader(content):
    assert reader_of(content) is None


def test_dicom_with_the_preamble_of_a_tiff_is_dicom():
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    content = written(dataset(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    both = b"II*\x00" + content[4:]
    assert reader_of(both[:START_LENGTH])[1] == "DICOM"
    np.testing.assert_array_equal(read_image(both).pixels, np.arange(64).reshape(8, 8))


# ---------------------------------------------------------------------------------------------------- the door


def test_a_slice_of_a_volume_by_its_number(volume):
    content = volume.read_bytes()
    slices = [read_image(volume.with_name(f"scan.nii.gz#{number}")) for number in range(5)]
    assert len({decoded.pixels.tobytes() for decoded in slices}) == 5
    for number, decoded in enumerate(slices):
        assert (decoded.height, decoded.width, decoded.format) == (10, 12, "NIfTI")
        np.testing.assert_array_equal(decoded.pixels, NiftiReader().open(content).decode(frame=number).pixels)
    np.testing.assert_array_equal(read_image(volume).pixels, slices[2].pixels)  # the middle one
    np.testing.assert_array_equal(read_image(content).pixels, slices[2].pixels)
    with pytest.raises(DataError, match=r"scan\.nii\.gz#5: has no (slice|frame) 5"):
        read_image(volume.with_name("scan.nii.gz#5"))


@pytest.mark.parametrize("name", ["a#1.png", "a.png#1", "#1", "a#x"])
def test_a_file_that_is_really_called_so_is_read_whole(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(Image.fromarray(texture()), "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, texture())


def test_a_picture_has_one_frame(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(texture()), "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png#0").pixels, texture())
    with pytest.raises(DataError, match=r"a\.png#1: has no frame 1"):
        read_image(tmp_path / "a.png#1")


@pytest.mark.parametrize("name", ["absent.png", "absent.nii.gz#3"])
def test_absent_files_are_named_as_they_were_asked_for(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: cannot be read \(No such file"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("frames", "wanted", "numbers"), [(1, 1, [0]), (5, 1, [2]), (4, 9, [0, 1, 2, 3]), (101, 4, [20, 40, 60, 80])]
)
def test_frames_are_spread_over_the_middle(frames, wanted, numbers):
    assert list(spread_frames(frames, wanted)) == numbers


def test_as_many_frames_as_wanted_are_taken():
    for frames in range(1, 60):
        for wanted in range(1, 70):
            numbers = list(spread_frames(frames, wanted))
            assert len(numbers) == min(frames, wanted)
            assert numbers == sorted(set(numbers))
            assert numbers[0] >= 0
            assert numbers[-1] < frames
            if wanted <= 0.7 * frames - 1:
                assert numbers[0] >= 0.1 * (frames - 1)
                assert numbers[-1] <= 0.9 * (frames - 1)
                assert np.ptp(np.diff(numbers)) <= 1 if wanted > 1 else abs(numbers[0] - (frames - 1) / 2) <= 0.5


# ---------------------------------------------------------------------------------------------------- headers


def header_of(content: bytes) -> Header:
    return reader_of(content[:START_LENGTH])[0].open(content).header()


@pytest.mark.parametrize(
    ("options", "encoding"),
    [
        ({"quality": 75}, "quality 75, 4:2:0"),
        ({"quality": 75, "progressive": True}, "quality 75, 4:2:0, progressive"),
        ({"quality": 92, "subsampling": 0}, "quality 92, 4:4:4"),
        ({"quality": 30, "subsampling": 1, "progressive": True}, "quality 30, 4:2:2, progressive"),
    ],
)
def test_how_a_jpeg_was_compressed(options, encoding):
    header = header_of(encoded(Image.fromarray(texture()), "JPEG", **options))
    assert (header.encoding, header.quality) == (encoding, options["quality"])
    assert (header.frames, header.patient, header.volume, header.source, header.private) == (1, "", "", "", ())


def test_grey_jpegs_have_no_subsampling():
    assert header_of(encoded(Image.fromarray(texture()[..., 0]), "JPEG", quality=60)).encoding == "quality 60"


def test_how_others_were_compressed():
    image = Image.fromarray(texture())
    assert header_of(encoded(image, "TIFF", compression="tiff_lzw")).encoding == "tiff_lzw"
    header = header_of(encoded(image, "PNG"))
    assert header.encoding == ""
    assert math.isnan(header.quality)


def tags(**values) -> Image.Exif:
    exif = Image.Exif()
    camera, place = exif.get_ifd(ExifTag.ExifOffset), exif.get_ifd(ExifTag.GPSInfo)
    for name, value in values.items():
        table = camera if name in ("CameraOwnerName", "BodySerialNumber", "LensSerialNumber") else exif
        if name == "GPS":
            place[1] = value
        else:
            table[ExifTag[name]] = value
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_fields_that_point_to_a_person_are_named_and_never_quoted(kind):
    exif = tags(Artist="Jane Doe", CameraOwnerName="Dr Roe", BodySerialNumber="SN-4711", HostComputer="ward-7", GPS="N")
    header = header_of(encoded(Image.fromarray(texture()), kind, exif=exif))
    of_camera = () if kind == "TIFF" else ("BodySerialNumber", "CameraOwnerName", "GPSInfo")  # Pillow writes none into a TIFF
    assert header.private == tuple(sorted(("Artist", "HostComputer", *of_camera)))
    assert not any(secret in repr(header) for secret in ("Jane", "Roe", "4711", "ward"))


def test_the_camera_of_a_tiff_points_to_a_person_too():
    info = ImageFileDirectory_v2()
    info[ExifTag.ExifOffset] = {int(ExifTag.CameraOwnerName): "Dr Roe", int(ExifTag.BodySerialNumber): "SN-4711"}
    content = encoded(Image.fromarray(texture()), "TIFF", tiffinfo=info)
    assert b"Roe" in content
    assert header_of(content).private == ("BodySerialNumber", "CameraOwnerName")


def test_empty_fields_point_to_nobody():
    exif = tags(Artist=" ", CameraOwnerName="", Make="Acme")
    header = header_of(encoded(Image.fromarray(texture()), "JPEG", exif=exif))
    assert (header.private, header.source) == ((), "Acme")


def test_what_made_a_picture_in_one_line_of_printable_text():
    exif = tags(Make="Acme\nCorp\x00", Model="  Scope\t 3 ", Software="x" * 500)
    header = header_of(encoded(Image.fromarray(texture()), "JPEG", exif=exif))
    assert header.source == f"Acme Corp | Scope 3 | {'x' * 60}"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("damaged", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff"])
def test_damaged_metadata_says_nothing(damaged):
    header = header_of(encoded(Image.fromarray(texture()), "JPEG", quality=80, exif=damaged))
    assert (header.encoding, header.source, header.private) == ("quality 80, 4:2:0", "", ())
