"""The NIfTI reader: slices upright and in the radiological convention, whatever way the voxels are stored."""

from __future__ import annotations

import gzip
import io
import itertools
import struct
import threading
import time
import tracemalloc

import numpy as np
import pytest

nib = pytest.importorskip("nibabel", reason="the extra dicom is not installed")

from vitrail.datasets.nifti import NiftiReader, voxels  # noqa: E402
from vitrail.errors import DataError  # noqa: E402

SHAPE = (7, 9, 5)
ORIENTATIONS = ["".join(sides) for order in itertools.permutations(("LR", "PA", "IS")) for sides in itertools.product(*order)]


def volume_file(values, *, affine=None, kind=nib.Nifti1Image, packed=False, slope=None, **fields):
    image = kind(values, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    if slope is not None:
        image.header.set_slope_inter(*slope)
    content = image.to_bytes()
    return gzip.compress(content, 6) if packed else content


def turned_file(values, code):
    """Store a volume whose axes run right, front, top in another orientation, with the affine that says so."""
    image = nib.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    target = nib.orientations.axcodes2ornt(tuple(code))
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), target))
    assert "".join(nib.aff2axcodes(turned.affine)) == code
    return turned.to_bytes()


def ramp(shape=SHAPE, dtype=np.int16):
    return np.random.default_rng(3).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)


def expected_slice(content, number):
    """What a slice must look like, by nibabel's own reading and turning, with numpy's percentiles."""
    image = nib.as_closest_canonical(nib.Nifti1Image.from_bytes(content))
    values = image.get_fdata()
    values = values.reshape((*values.shape[:3], -1))[..., 0]
    low, high = np.percentile(values[np.isfinite(values)], (0.5, 99.5))
    picture = np.rot90(values[:, :, number])  # front up, left of the patient on the left: as a neurologist sees it
    return np.clip((picture[:, ::-1] - low) / (high - low), 0, 1) * 255


# ---------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("code", ORIENTATIONS)
def test_every_orientation_shows_the_front_up_and_the_right_of_the_patient_on_the_left(code):
    values = np.zeros(SHAPE, dtype=np.int16)
    values[1, 8, 2] = 100  # far left of the patient, at the very front
    decoded = NiftiReader().open(turned_file(values, code)).decode(frame=2)
    assert (decoded.height, decoded.width, decoded.format, decoded.mode) == (9, 7, "NIfTI", "int16")
    assert np.argwhere(decoded.pixels).tolist() == [[0, 5]]  # first row; the patient's left is on the right
    assert decoded.pixels.max() == 255
    assert not NiftiReader().open(turned_file(values, code)).decode(frame=1).pixels.any()


@pytest.mark.parametrize("code", ["RAS", "LPS", "SRP", "AIL"])
def test_slices_equal_nibabel_turned_to_canonical(code):
    content = turned_file(ramp(), code)
    assert NiftiReader().open(content).header().frames == 5
    for number in range(5):
        decoded = NiftiReader().open(content).decode(frame=number)
        assert np.abs(decoded.pixels - expected_slice(content, number)).max() <= 0.5 + 1e-6


def test_oblique_volumes_take_the_nearest_axes():
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    content = volume_file(ramp(), affine=affine)
    np.testing.assert_allclose(NiftiReader().open(content).decode(frame=3).pixels, expected_slice(content, 3), atol=0.51)


def test_a_broken_affine_does_not_stop_the_reading():
    content = bytearray(volume_file(ramp()))
    struct.pack_into("<12f", content, 280, *[np.nan] * 12)  # srow_x, srow_y and srow_z
    content = bytes(content)
    assert NiftiReader().open(content).header().frames == 5
    assert NiftiReader().open(content).decode(frame=0).pixels.shape == (9, 7)


def test_the_middle_slice_is_taken_unless_one_is_named():
    content = volume_file(ramp())
    np.testing.assert_array_equal(NiftiReader().open(content).decode().pixels, NiftiReader().open(content).decode(frame=2).pixels)
    with pytest.raises(DataError, match="has no slice 5: it holds 5"):
        NiftiReader().open(content).decode(frame=5)


@pytest.mark.parametrize(("shape", "picture"), [((7, 9), (9, 7)), ((7, 9, 1), (9, 7)), ((1, 9, 5), (5, 9)), ((7, 1, 5), (5, 7))])
def test_a_single_slice_is_shown_whatever_its_plane(shape, picture):
    content = volume_file(ramp(shape))
    assert NiftiReader().open(content).header().frames == 1
    decoded = NiftiReader().open(content).decode()
    assert decoded.pixels.shape == picture
    assert decoded.pixels.std() > 50


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "i4", "u4", "<f4", ">f4", "f8", "i8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_number_type_in_both_byte_orders(dtype, kind):
    values = ramp(dtype="i2") % 100
    image = kind(values.astype(dtype), np.eye(4), dtype=np.dtype(dtype))
    content = kind(image.dataobj, np.eye(4), image.header.as_byteswapped(">")).to_bytes() if dtype[0] == ">" else image.to_bytes()
    reader = NiftiReader()
    assert reader.identify(content[:512]) == "NIfTI"
    expected = np.rot90(values[:, :, 2])[:, ::-1]
    low, high = np.percentile(values, (0.5, 99.5))
    np.testing.assert_allclose(
        reader.open(content).decode(frame=2).pixels, np.clip((expected - low) / (high - low), 0, 1) * 255, atol=0.51
    )


@pytest.mark.parametrize("slope", [(2.5, -1000.0), (-1.0, 0.0)])
def test_slope_and_intercept_are_applied(slope):
    content = volume_file(ramp(), slope=slope)
    decoded = NiftiReader().open(content).decode(frame=2)
    assert np.abs(decoded.pixels - expected_slice(content, 2)).max() <= 0.5 + 1e-6


def test_one_window_for_the_whole_volume():
    values = np.zeros((8, 8, 4), dtype=np.float32)
    values[..., 3] = 100
    values[0, 0, :] = np.nan
    values[1, 0, 3] = np.inf
    bright, dark = (NiftiReader().open(volume_file(values)).decode(frame=number).pixels for number in (3, 0))
    assert not dark.any()
    assert bright[-1, -1] == 0  # not a number
    assert np.count_nonzero(bright == 255) == 63


def test_a_small_mask_is_not_lost_and_a_constant_volume_is_black():
    mask = np.zeros((40, 40, 3), dtype=np.uint8)
    mask[20, 20, 1] = 1
    assert NiftiReader().open(volume_file(mask)).decode(frame=1).pixels.max() == 255
    assert not NiftiReader().open(volume_file(np.full(SHAPE, 7, dtype=np.int16))).decode().pixels.any()


def test_of_four_dimensions_the_first_volume_is_read():
    values = np.stack([ramp(), np.zeros(SHAPE, dtype=np.int16), ramp()[::-1]], axis=3)
    for packed in (False, True):
        content = volume_file(values, packed=packed)
        assert NiftiReader().open(content).header().frames == 5
        alone = NiftiReader().open(volume_file(values[..., 0])).decode(frame=1).pixels
        np.testing.assert_array_equal(NiftiReader().open(content).decode(frame=1).pixels, alone)


def test_colour_volumes_come_out_as_they_are():
    colours = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    stored = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(SHAPE)
    decoded = NiftiReader().open(volume_file(stored)).decode(frame=1)
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(decoded.pixels, np.rot90(colours[:, :, 1])[:, ::-1])


def test_complex_numbers_are_refused_by_name():
    with pytest.raises(DataError, match="complex64 voxels are not read"):
        NiftiReader().open(volume_file(np.ones(SHAPE, dtype=np.complex64))).decode()


# ---------------------------------------------------------------------------------------------------- header


def test_gzip_is_seen_through_from_the_first_512_bytes():
    content = volume_file(ramp((64, 64, 30)), packed=True, descrip=b"FSL5.0")
    reader = NiftiReader()
    assert reader.identify(content[:512]) == "NIfTI"
    header = reader.open(content).header()
    assert (header.frames, header.encoding, header.source, header.private) == (30, "gzip", "FSL5.0", ())
    decoded = reader.open(content).decode(frame=10)
    np.testing.assert_array_equal(decoded.pixels, reader.open(gzip.decompress(content)).decode(frame=10).pixels)
    assert not decoded.pixels.flags.writeable


@pytest.mark.parametrize(
    "start",
    [b"", b"\x5c\x01\0\0" + bytes(508), gzip.compress(b"text" * 200, mtime=0), b"\x1f\x8b\x08broken" * 50, b"\xff\xd8\xff"],
)
def test_other_bytes_are_not_taken_for_nifti(start):
    assert NiftiReader().identify(start[:512]) == ""


def test_names_in_the_header_are_reported_and_not_repeated():
    content = volume_file(ramp(), db_name=b"Doe^Jane", aux_file=b"none", descrip=b"Doe^Jane 1950")
    header = NiftiReader().open(content).header()
    assert header.private == ("db_name",)
    assert NiftiReader().open(volume_file(ramp(), descrip=b"Doe, Jane")).header().source == ""
    harmless = volume_file(ramp(), db_name=b"Philips Medical", aux_file=b"Hot Metal", descrip=b"TE=2.9;Time=101010.000")
    assert NiftiReader().open(harmless).header().private == ()


def test_a_dicom_header_hung_behind_is_reported():
    image = nib.Nifti1Image(ramp(), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"a comment"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(2, b"\x10\x00\x10\x00PN\x08\x00Doe^Jane"))
    for content in (image.to_bytes(), gzip.compress(image.to_bytes())):
        assert NiftiReader().open(content).header().private == ("DICOM extension",)
        assert NiftiReader().open(content).decode().pixels.shape == (9, 7)


def test_a_header_without_its_voxels_is_refused_with_a_way_out():
    content = bytearray(volume_file(ramp()))
    content[344:348] = b"ni1\0"
    with pytest.raises(DataError, match="save it as one"):
        NiftiReader().open(bytes(content)).header()


# ---------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_files_are_refused(packed):
    content = volume_file(ramp((20, 20, 20)), packed=packed)
    for length in (len(content) - 1, len(content) // 2, 400 if not packed else 200):
        with pytest.raises(DataError, match="truncated"):
            NiftiReader().open(content[:length]).decode()


def test_a_wrong_checksum_is_noticed():
    content = bytearray(volume_file(ramp((20, 20, 20)), packed=True))
    content[-5] ^= 255
    with pytest.raises(DataError, match="damaged"):
        NiftiReader().open(bytes(content)).decode()


def test_several_gzip_members_are_one_file():
    content = volume_file(ramp((20, 20, 20)))
    packed = gzip.compress(content[:5000]) + gzip.compress(content[5000:])
    np.testing.assert_array_equal(NiftiReader().open(packed).decode().pixels, NiftiReader().open(content).decode().pixels)


def test_a_bomb_is_refused_before_it_unfolds():
    small = volume_file(ramp())
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
        stream.write(small)
        for _ in range(100):
            stream.write(bytes(1_000_000))
    content = packed.getvalue()
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(DataError, match="far more than its header announces"):
        NiftiReader().open(content).decode()
    elapsed, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert elapsed < 2


def test_an_announced_size_that_cannot_be_there_is_refused_without_taking_memory():
    content = bytearray(volume_file(ramp()))
    struct.pack_into("<8h", content, 40, 3, 800, 800, 800, 1, 1, 1, 1)
    for announced in (bytes(content), gzip.compress(bytes(content))):
        with pytest.raises(DataError, match="truncated"):
            NiftiReader().open(announced).decode()
    struct.pack_into("<8h", content, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    for reading in ("decode", "header"):
        with pytest.raises(DataError, match="too large: 27,000,000,000,000 voxels"):
            getattr(NiftiReader().open(bytes(content)), reading)()


def test_damaged_bytes_raise_nothing_but_data_errors():
    chance = np.random.default_rng(5)
    plain = volume_file(ramp(), descrip=b"test")
    outcomes = set()
    for packed in (False, True):
        for _ in range(60):
            content = bytearray(plain)
            for place in chance.integers(0, 352, 3):
                content[place] = chance.integers(0, 256)
            content = gzip.compress(bytes(content)) if packed else bytes(content)
            for reading in ("header", "decode"):
                try:
                    outcomes.add(type(getattr(NiftiReader().open(content), reading)()).__name__)
                except DataError:
                    outcomes.add("DataError")
    assert outcomes == {"Header", "Decoded", "DataError"}


# ---------------------------------------------------------------------------------------------------- what is kept


def test_slices_of_one_volume_unfold_it_once(monkeypatch):
    loads = []
    load = voxels._load
    monkeypatch.setattr(voxels, "_load", lambda content: loads.append(1) or load(content))
    reader = NiftiReader()
    contents = [volume_file(ramp() + number, packed=True) for number in range(3)]
    slices = [lambda number=number: reader.open(contents[0]).decode(frame=number) for number in range(5)]
    threads = [threading.Thread(target=take) for take in slices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    reader.open(bytes(bytearray(contents[0]))).decode(frame=3)  # the same bytes, read anew
    assert len(loads) == 1
    for content in (*contents, contents[0]):  # three volumes: the first is forgotten
        reader.open(content).decode()
    assert len(loads) == 4
    monkeypatch.setattr(voxels, "_KEPT_BYTES", 10)
    reader.open(contents[1]).decode()
    reader.open(contents[1]).decode()
    assert len(loads) == 6
