"""The raster reader and the many ways in which a file can be broken: a short reason, and nothing but a data error."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, read_thumbnail, texture
from PIL import Image

from vitrail.datasets import FORMATS, read_image
from vitrail.datasets.raster import SCAN_LIMIT, RasterReader
from vitrail.errors import DataError

OPTIONS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("GIF", {}),
    ("WEBP", {}),
    ("JPEG2000", {}),
    ("PNM", {}),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_files_are_refused(kind, options, kept):
    noise = np.random.default_rng(3).integers(0, 256, size=(300, 400, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind, **options)
    cut = content[: int(len(content) * kept)]
    assert RasterReader().identify(cut) == kind
    for read in (read_image, read_thumbnail, lambda content: read_image(content, at_least=32)):
        read(content)
        with pytest.raises(DataError, match=r"truncated|damaged"):
            read(cut)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on the tags that are cut
@pytest.mark.parametrize("kind", RasterReader.formats)
def test_every_shortest_piece_of_a_file_is_refused_and_nothing_else_is_raised(kind):
    content = encoded(Image.fromarray(texture(8, 8)), kind)
    for length in range(60):
        with pytest.raises(DataError):
            read_image(content[:length])


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(RasterReader.formats), seed=st.integers(0, 2**32 - 1))
def test_damaged_bytes_raise_nothing_but_data_errors(kind, seed):
    generator = np.random.default_rng(seed)
    content = bytearray(encoded(Image.fromarray(texture(16, 16)), kind))
    for position in generator.integers(0, len(content), size=5):
        content[position] = generator.integers(256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for read in (read_image, read_thumbnail):
            try:
                decoded = read(bytes(content))
            except DataError as error:
                assert 10 < len(str(error)) < 300
            else:
                assert decoded.pixels.dtype == np.uint8


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_pixel_kind_that_is_not_supported_is_named():
    content = encoded(Image.new("F", (4, 4)), "TIFF")
    tag = struct.pack("<HHI", 258, 3, 1)  # bits per sample
    assert content.count(tag + b"\x20") == 1
    with pytest.raises(DataError, match="damaged or not supported: unknown pixel mode"):
        read_image(content.replace(tag + b"\x20", tag + b"\x40"))


def test_zero_bytes_are_refused():
    with pytest.raises(DataError, match="empty: the file has zero bytes"):
        read_image(b"")


@pytest.mark.parametrize("content", [b"patient;label\n1;no\n", b"RIFF\x10\x00\x00\x00AVI LIST", b"\x00" * 200, b"P9 4 4"])
def test_other_bytes_are_no_image(content):
    for read, formats in ((read_image, FORMATS), (RasterReader().open, RasterReader.formats)):
        with pytest.raises(DataError, match=f"not an image: the bytes are none of {', '.join(formats)}"):
            read(content)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 9)
        + b"IDAT"
    )


def bmp_header(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("header", [png_header, bmp_header])
def test_huge_images_are_refused_on_their_header(header):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"too large: 20000 x 20000 pixels; at most 300,000,000 pixels are read"):
            read_image(header(20_000, 20_000))


@pytest.mark.parametrize("kind", RasterReader.formats)
def test_pillows_own_pixel_limit_neither_warns_nor_refuses(kind, monkeypatch):
    content = encoded(Image.fromarray(texture(100, 100)), kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(content).pixels.shape == (100, 100, 3)
        assert read_thumbnail(content).height == 100
    assert Image.MAX_IMAGE_PIXELS == 1000


def jpeg_with_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan stands in it again and again."""
    content = encoded(Image.fromarray(texture(16, 16)[..., 0]), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


def test_a_jpeg_of_very_many_scans_is_refused_before_it_costs_hours():
    read_image(jpeg_with_scans(SCAN_LIMIT))
    for read in (read_image, read_thumbnail):
        with pytest.raises(DataError, match=r"too large: the image is stored in 5,000 scans; at most 200 are read"):
            read(jpeg_with_scans(5000))


def test_what_looks_like_a_scan_in_metadata_or_behind_the_image_does_not_count():
    scans = b"\xff\xda\x00\x02" * 500
    content = encoded(Image.fromarray(texture()), "JPEG", comment=scans) + scans
    assert content.count(b"\xff\xda") > 1000
    assert read_image(content).pixels.shape == (40, 56, 3)


def test_files_are_named_in_their_errors(tmp_path: Path):
    broken = tmp_path / "scan 1.png"
    broken.write_bytes(b"text")
    with pytest.raises(DataError, match=r"scan 1\.png: not an image"):
        read_image(broken)
    with pytest.raises(DataError, match=r"absent\.png: cannot be read \(No such file"):
        read_image(tmp_path / "absent.png")
