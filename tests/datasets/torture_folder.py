"""A folder of everything that can go wrong with files, among good images: what a scan must survive.

Used by ``test_torture.py`` (small) and by ``benchmarks/torture.py`` (large). Everything is made on the spot, from its format's
specification where no library would write it.
"""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

CLASSES = ("cyst", "normal", "tumour")
GOOD_SHARE = 0.6
"""Share of good images among the files."""

Expectation = Literal["used", "listed", "either"]


@dataclass(frozen=True)
class Ordeal:
    """One kind of file in the folder.

    Attributes:
        kind: What it is, in a few words.
        expected: ``used``: a good image under an odd name; ``listed``: a finding must name the file; ``either``: it may be read,
            named or passed over, as long as everything goes on.
        paths: The files, relative to the folder, as a report names them (bytes that are not UTF-8 as ``\\\\xNN``).
    """

    kind: str
    expected: Expectation
    paths: tuple[str, ...]


@dataclass(frozen=True)
class _Strength:
    """How far the expensive kinds go: sides in pixels, decompressed bytes, levels, scans."""

    side: int
    unpacked: int
    levels: int
    scans: int
    each: int


_Make = Callable[[Path, int, _Strength], None]


def make_torture_folder(folder: Path, *, files: int = 10_000, mild: bool = False) -> list[Ordeal]:
    """Fill a new folder with about ``files`` files of three classes, most of them good images, the rest every kind of trouble.

    Args:
        folder: Where; must not exist.
        files: How many; at least 100.
        mild: Whether bombs stay small, for a test that shall be quick.

    Returns:
        Every kind that was made. (Without permission bits on this system, or as root, nothing is unreadable.)
    """
    strength = _Strength(3000, 2**25, 2500, 30, 1) if mild else _Strength(17_000, 2**30, 20_000, 400, 3)
    kinds = [kind for kind in _KINDS if kind[0] != "no permission" or os.geteuid() != 0]
    good = int(GOOD_SHARE * files)
    cheap = sum(not expensive for *_, expensive in kinds)
    each = max(1, (files - good - strength.each * (len(kinds) - cheap)) // cheap)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    made = [_plant("good images", "used", _good, "{:05d}{}", good, folder, strength)]
    for kind, expected, make, name, expensive in kinds:
        made.append(_plant(kind, expected, make, name, strength.each if expensive else each, folder, strength))
    return made


def _plant(kind: str, expected: Expectation, make: _Make, name: str, count: int, folder: Path, strength: _Strength) -> Ordeal:
    paths = []
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        path = folder / label / name.format(number, _SUFFIXES[number % len(_SUFFIXES)])
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, number, strength)
        paths.append(os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", errors="backslashreplace"))
    return Ordeal(kind, expected, tuple(paths))


# ---------------------------------------------------------------------------------------------------- good images

_SUFFIXES = (".jpg", ".png", ".tif", ".bmp")
_FORMATS = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}


def _picture(number: int, *, side: int = 72) -> Image.Image:
    """Return a smooth grey picture that resembles no other."""
    coarse = np.random.default_rng(number).integers(0, 256, size=(7, 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side + number % 9, side + number % 7), Image.Resampling.BICUBIC)


def _encoded(kind: str, picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _good(path: Path, number: int, _: _Strength) -> None:
    path.write_bytes(_encoded(_FORMATS[path.suffix], _picture(number)))


def _good_png(path: Path, number: int, _: _Strength) -> None:
    path.write_bytes(_encoded("PNG", _picture(50_000 + number + sum(path.name.encode(errors="surrogateescape")))))


# ---------------------------------------------------------------------------------------------------- bytes that are wrong


def _bytes(make: Callable[[int, _Strength], bytes]) -> _Make:
    def write(path: Path, number: int, strength: _Strength) -> None:
        path.write_bytes(make(number, strength))

    return write


def _truncated(kind: str) -> _Make:
    def make(number: int, _: _Strength) -> bytes:
        noise = np.random.default_rng(number).integers(0, 256, size=(64, 64), dtype=np.uint8)
        content = _encoded(kind, Image.fromarray(noise))
        # At least the last tenth is missing: a TIFF that lost a few bytes of its directory alone may still be read.
        return content[: max(9, int(len(content) * (0.05 + 0.85 * (number % 97) / 97)))]

    return _bytes(make)


def _damaged_jpeg(number: int, _: _Strength) -> bytes:
    return _encoded("JPEG", _picture(number))[:300] + np.random.default_rng(number).bytes(900)


def _png(width: int, height: int, data: bytes, *, colour: int = 0, extra: bytes = b"") -> bytes:
    """Return a PNG file by hand: its header, chunks in between, one chunk of data."""
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _zeros(length: int, *, raw: bool = False, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return ``before``, so many zero bytes and ``after``, deflated a mebibyte at a time."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15 if raw else 15)
    block, pieces = bytes(2**20), [packer.compress(before)]
    pieces += [packer.compress(block) for _ in range(length // 2**20)]
    return b"".join([*pieces, packer.compress(bytes(length % 2**20) + after), packer.flush()])


def _huge_png(number: int, _: _Strength) -> bytes:
    return _png(100_000 + number, 100_000, zlib.compress(bytes(1000)))


def _huge_bmp(number: int, _: _Strength) -> bytes:
    size = 100_000 + number
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, size, size, 1, 24, 0, 0, 0, 0, 0, 0)


def _huge_tiff(number: int, _: _Strength) -> bytes:
    return _tiff(100_000 + number, 100_000, following=0)


def _tiff(width: int, height: int, *, following: int) -> bytes:
    """Return a TIFF file with one strip of 64 bytes; ``following`` is where its next directory would stand."""
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 64)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\x00" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(entries)) + table + struct.pack("<I", following)


def _png_bomb(colour: int) -> _Make:
    def make(number: int, strength: _Strength) -> bytes:
        side, channels = strength.side - number, 3 if colour == 2 else 1
        return _png(side, side, _zeros(side * (1 + channels * side)), colour=colour)

    return _bytes(make)


def _png_text_bomb(_: int, strength: _Strength) -> bytes:
    text = _chunk(b"zTXt", b"Comment\x00\x00" + _zeros(strength.unpacked))
    return _png(8, 8, zlib.compress(bytes(72)), extra=text)


def _png_too_much_data(_: int, strength: _Strength) -> bytes:
    return _png(8, 8, _zeros(strength.unpacked))


def _jpeg_scan_bomb(_: int, strength: _Strength) -> bytes:
    """Return a progressive JPEG whose last scan is repeated: each costs a pass over all coefficients and few bytes."""
    side = min(strength.side, 4000)
    content = _encoded("JPEG", Image.new("L", (side, side), 90), progressive=True)
    start, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:start] + strength.scans * content[start:end] + content[end:]


# ---------------------------------------------------------------------------------------------------- DICOM and NIfTI by hand

_EXPLICIT, _DEFLATED = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99"


def _element(group: int, element: int, kind: bytes, value: bytes) -> bytes:
    """Return a data element, explicit VR, little endian (DICOM PS3.5, 7.1.2)."""
    value += b" " * (len(value) % 2) if kind in (b"CS", b"LO", b"DA") else b"\x00" * (len(value) % 2)
    if kind in (b"OB", b"OW", b"SQ", b"UN"):
        return struct.pack("<HH2sHI", group, element, kind, 0, len(value)) + value
    return struct.pack("<HH2sH", group, element, kind, len(value)) + value


def _dicom(data: bytes, *, syntax: bytes = _EXPLICIT) -> bytes:
    """Return a file with preamble and file meta information."""
    meta = _element(2, 1, b"OB", b"\x00\x01") + _element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.7")
    meta += _element(2, 3, b"UI", b"1.2.3.4") + _element(2, 16, b"UI", syntax)
    return bytes(128) + b"DICM" + _element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + data


def _pixels(rows: int, columns: int, *, frames: int = 1, data: bytes | None = None) -> bytes:
    """Return the elements of a grey 8-bit image."""
    numbers = ((0x10, rows), (0x11, columns), (0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0))
    content = _element(0x28, 2, b"US", b"\x01\x00") + _element(0x28, 4, b"CS", b"MONOCHROME2")
    content += _element(0x28, 8, b"IS", str(frames).encode().ljust(4)) if frames > 1 else b""
    content += b"".join(_element(0x28, element, b"US", struct.pack("<H", value)) for element, value in numbers)
    return content + _element(0x7FE0, 0x10, b"OW", bytes(range(64)) if data is None else data)


def _huge_dicom(number: int, _: _Strength) -> bytes:
    return _dicom(_pixels(65_535, 65_535 - number, frames=999))


def _truncated_dicom(number: int, _: _Strength) -> bytes:
    content = _dicom(_pixels(64, 64, data=bytes(4096)))
    return content[: len(content) - 100 - 37 * (number % 90)]


def _deep_dicom(_: int, strength: _Strength) -> bytes:
    """Return sequences in sequences, all of undefined length, before a small image."""
    sequence = struct.pack("<HH2sHI", 8, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return _dicom(strength.levels * (sequence + item) + strength.levels * ends + _pixels(8, 8))


def _deflated_dicom_bomb(_: int, strength: _Strength) -> bytes:
    head = struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, strength.unpacked)  # a private element of zeros
    owner = _element(9, 0x10, b"LO", b"BOMB")
    packed = _zeros(strength.unpacked, raw=True, before=owner + head, after=_pixels(8, 8))
    return _dicom(packed, syntax=_DEFLATED)


def _nifti_header(columns: int, rows: int, slices: int) -> bytes:
    """Return the header of a NIfTI-1 file of unsigned bytes."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 2, 8)
    struct.pack_into("<8f", head, 76, *([1.0] * 8))
    struct.pack_into("<3f", head, 108, 352.0, 1.0, 0.0)
    head[344:348] = b"n+1\x00"
    return bytes(head)


def _gzip(deflated: bytes, length: int, check: int) -> bytes:
    return b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff" + deflated + struct.pack("<II", check, length % 2**32)


def _nifti_bomb(number: int, strength: _Strength) -> bytes:
    """Return a volume of zeros; every second one says that it is small and goes on for as long."""
    header = _nifti_header(512, 512, strength.unpacked // 2**18) if number % 2 == 0 else _nifti_header(16, 16, 4)
    check = zlib.crc32(header)
    for _ in range(strength.unpacked // 2**20):
        check = zlib.crc32(bytes(2**20), check)
    return _gzip(_zeros(strength.unpacked, raw=True, before=header), len(header) + strength.unpacked, check)


def _huge_nifti(number: int, _: _Strength) -> bytes:
    return gzip.compress(_nifti_header(32_767, 32_767, 32_767 - number) + bytes(4096), mtime=0)


# ---------------------------------------------------------------------------------------------------- odd things in folders


def _link_to_itself(path: Path, _: int, __: _Strength) -> None:
    path.symlink_to(path.name)


def _links_in_a_circle(path: Path, _: int, __: _Strength) -> None:
    other = path.with_name(f"{path.stem}-back{path.suffix}")
    path.symlink_to(other.name)
    other.symlink_to(path.name)


def _link_to_nowhere(path: Path, _: int, __: _Strength) -> None:
    path.symlink_to("nowhere.png")


def _link_to_parent(path: Path, _: int, __: _Strength) -> None:
    path.symlink_to("..", target_is_directory=True)


def _pipe(path: Path, _: int, __: _Strength) -> None:
    os.mkfifo(path)


def _folder_named_as_image(path: Path, _: int, __: _Strength) -> None:
    path.mkdir()


def _no_permission(path: Path, number: int, strength: _Strength) -> None:
    _good_png(path, number, strength)
    path.chmod(0)


_DEEP = "/".join(f"level{level:02d}-{'x' * 40}" for level in range(50))
_HTML = b"<!DOCTYPE html><html><body><h1>403 Forbidden</h1></body></html>"

_KINDS: tuple[tuple[str, Expectation, _Make, str, bool], ...] = (
    ("truncated JPEG", "listed", _truncated("JPEG"), "cut{:05d}.jpg", False),
    ("truncated PNG", "listed", _truncated("PNG"), "cut{:05d}.png", False),
    ("truncated TIFF", "listed", _truncated("TIFF"), "cut{:05d}.tif", False),
    ("truncated BMP", "listed", _truncated("BMP"), "cut{:05d}.bmp", False),
    ("truncated DICOM", "listed", _bytes(_truncated_dicom), "cut{:05d}.dcm", False),
    ("damaged JPEG", "either", _bytes(_damaged_jpeg), "damaged{:05d}.jpg", False),
    ("zero bytes", "listed", _bytes(lambda number, _: b""), "empty{:05d}{}", False),
    ("text named as PNG", "listed", _bytes(lambda number, _: b"patient;age\n12;55\n"), "text{:05d}.png", False),
    ("HTML named as JPEG", "listed", _bytes(lambda number, _: _HTML), "page{:05d}.jpg", False),
    (
        "noise named as TIFF",
        "listed",
        _bytes(lambda number, _: np.random.default_rng(number).bytes(500)),
        "noise{:05d}.tif",
        False,
    ),
    ("huge PNG announced", "listed", _bytes(_huge_png), "huge{:05d}.png", False),
    ("huge BMP announced", "listed", _bytes(_huge_bmp), "huge{:05d}.bmp", False),
    ("huge TIFF announced", "listed", _bytes(_huge_tiff), "huge{:05d}.tif", False),
    ("huge DICOM announced", "listed", _bytes(_huge_dicom), "huge{:05d}.dcm", False),
    ("huge NIfTI announced", "listed", _bytes(_huge_nifti), "huge{:05d}.nii.gz", False),
    ("PNG without width", "listed", _bytes(lambda number, _: _png(0, 8, zlib.compress(bytes(8)))), "flat{:05d}.png", False),
    ("TIFF directory in a circle", "either", _bytes(lambda number, _: _tiff(8, 8, following=72)), "circle{:05d}.tif", False),
    ("link to itself", "listed", _link_to_itself, "itself{:05d}.png", False),
    ("links in a circle", "listed", _links_in_a_circle, "round{:05d}.png", False),
    ("link to nowhere", "listed", _link_to_nowhere, "nowhere{:05d}.png", False),
    ("link to the folder above", "either", _link_to_parent, "loop{:05d}", False),
    ("no permission", "listed", _no_permission, "secret{:05d}.png", False),
    ("pipe", "either", _pipe, "pipe{:05d}.png", False),
    ("folder named as image", "either", _folder_named_as_image, "folder{:05d}.png", False),
    ("name that is not UTF-8", "listed", _good_png, os.fsdecode(b"\xff\xfe latin {:05d}.png"), False),
    ("very long name", "used", _good_png, "x" * 246 + "{:05d}.png", False),
    ("deep folders", "used", _good_png, _DEEP + "/{:05d}.png", False),
    ("line break and colour codes in the name", "used", _good_png, "a\n\x1b[31mred\x07{:05d}.png", False),
    ("markup in the name", "used", _good_png, "<img src=x onerror=alert(1)>[red]{:05d}.png", False),
    ("name like an option", "used", _good_png, "--help {:05d}.png", False),
    ("number sign in the name", "used", _good_png, "scan#{:05d}.png", False),
    ("number sign at the end of the name", "used", _good_png, "scan.png#{:05d}", False),
    ("PNG bomb, grey", "either", _png_bomb(0), "bomb{:05d}.png", True),
    ("PNG bomb, colour", "either", _png_bomb(2), "colours{:05d}.png", True),
    ("PNG bomb in a comment", "either", _bytes(_png_text_bomb), "comment{:05d}.png", True),
    ("PNG with too much data", "either", _bytes(_png_too_much_data), "more{:05d}.png", True),
    ("JPEG with hundreds of scans", "either", _bytes(_jpeg_scan_bomb), "scans{:05d}.jpg", True),
    ("DICOM with sequences in sequences", "either", _bytes(_deep_dicom), "deep{:05d}.dcm", True),
    ("deflated DICOM bomb", "either", _bytes(_deflated_dicom_bomb), "bomb{:05d}.dcm", True),
    ("NIfTI bomb", "either", _bytes(_nifti_bomb), "bomb{:05d}.nii.gz", True),
)
"""Kind, what is expected, how it is made, pattern of the name, and whether it is so expensive that few are made."""
