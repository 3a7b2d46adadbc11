"""MedMNIST files become folders of PNG files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from vitrail.datasets import medmnist as room
from vitrail.datasets.archive import unpacking_notes
from vitrail.datasets.folder import find_layout
from vitrail.datasets.medmnist import CLASS_NAMES, unpack_medmnist
from vitrail.errors import DataError

SIZES = {"train": 30, "val": 7, "test": 11}


def arrays(item=(28, 28), *, classes=2, column=True, seed=0):
    generator = np.random.default_rng(seed)
    result = {}
    for part, size in SIZES.items():
        result[f"{part}_images"] = generator.integers(0, 256, (size, *item), dtype=np.uint8)
        labels = (np.arange(size) % classes).astype(np.uint8)
        result[f"{part}_labels"] = labels[:, None] if column else labels
    return result


def save(path: Path, content, *, compressed=True) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **content)
    return path


def refusal(npz: Path) -> str:
    with pytest.raises(DataError) as caught:
        unpack_medmnist(npz, npz.parent / "cache")
    assert str(caught.value).startswith(f"{npz}: ")
    assert not list((npz.parent / "cache").rglob("*.png"))
    return str(caught.value)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("item", [(28, 28), (28, 28, 3), (64, 64)])
def test_every_pixel_comes_to_its_class_and_part(tmp_path, monkeypatch, item, column, compressed):
    monkeypatch.setattr(room, "_BLOCK_BYTES", 4 * int(np.prod(item)) + 5)  # several blocks
    content = arrays(item, column=column)
    npz = save(tmp_path / "scans.npz", content, compressed=compressed)
    folder = unpack_medmnist(npz, tmp_path / "cache")
    for part, size in SIZES.items():
        assert len(list((folder / part).rglob("*.png"))) == size
        for number in range(size):
            image = np.asarray(Image.open(folder / part / str(number % 2) / f"{number:06d}.png"))
            np.testing.assert_array_equal(image, content[f"{part}_images"][number])
    assert unpacking_notes(folder) == ()


def test_the_layout_of_a_file(tmp_path):
    npz = save(tmp_path / "PneumoniaMNIST_64 (1).npz", arrays())
    layout = find_layout(npz, cache=tmp_path / "cache")
    assert {(file.label, file.part) for file in layout.files} == {
        (label, part) for label in ("normal", "pneumonia") for part in ("train", "validation", "test")
    }
    assert len(layout.files) == 48
    before = npz.read_bytes()
    assert find_layout(npz, cache=tmp_path / "cache") == layout
    assert npz.read_bytes() == before


def test_the_second_call_unpacks_nothing(tmp_path, monkeypatch):
    npz = save(tmp_path / "scans.npz", arrays())
    folder = unpack_medmnist(npz, tmp_path / "cache")
    monkeypatch.setattr(room, "_check_members", None)
    assert unpack_medmnist(npz, tmp_path / "cache") == folder


def test_of_volumes_the_middle_slice_is_taken_and_told(tmp_path):
    content = arrays((28, 28, 28))
    npz = save(tmp_path / "nodulemnist3d.npz", content)
    folder = unpack_medmnist(npz, tmp_path / "cache")
    image = np.asarray(Image.open(folder / "val" / "malignant" / "000005.png"))
    np.testing.assert_array_equal(image, content["val_images"][5, 14])
    note = "nodulemnist3d.npz: of every volume of 28 slices the middle one, number 14, is used."
    assert unpacking_notes(folder) == (note,)
    assert note in find_layout(npz, cache=tmp_path / "cache").notes


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("bloodmnist.npz", 8, "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)"),
        ("organsmnist_224.npz", 11, "femur-left"),
        ("bloodmnist.npz", 9, "8"),  # more classes than the set has: another set by that name
        ("my_bloodmnist.npz", 8, "7"),
        ("pathmnistlike.npz", 9, "8"),
    ],
)
def test_names_of_classes(tmp_path, name, classes, expected):
    folder = unpack_medmnist(save(tmp_path / name, arrays(classes=classes)), tmp_path / "cache")
    names = [path.name for path in (folder / "train").iterdir()]
    assert len(names) == classes
    assert expected in names


def test_numbers_of_classes_agree_with_the_publication():
    """Table 2 of Yang et al. 2023."""
    published = {"pathmnist": 9, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5, "breastmnist": 2}
    published |= {"bloodmnist": 8, "tissuemnist": 8, "organamnist": 11, "organcmnist": 11, "organsmnist": 11, "organmnist3d": 11}
    published |= {"nodulemnist3d": 2, "adrenalmnist3d": 2, "fracturemnist3d": 3, "vesselmnist3d": 2, "synapsemnist3d": 2}
    assert {name: len(set(names)) for name, names in CLASS_NAMES.items()} == published
    assert all("/" not in name and len(name) < 100 for names in CLASS_NAMES.values() for name in names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_labels": np.zeros((30, 14), np.uint8)}, "Found: 14 labels per image in train_labels"),
        ({"train_labels": np.zeros((30, 1), np.float32)}, "train_labels must be whole numbers"),
        ({"train_labels": np.zeros((29, 1), np.uint8)}, "Found: 30 images and 29 labels in train"),
        ({"val_images": np.zeros((7, 28, 28), np.float32)}, "val_images must be uint8"),
        ({"val_images": np.zeros((7, 784), np.uint8)}, "Found: uint8 of shape (7, 784)"),
        ({"val_images": np.asfortranarray(np.zeros((7, 28, 28), np.uint8))}, "in Fortran order"),
        ({"val_images": np.zeros((7, 0, 28), np.uint8)}, "sides of 1 to 1024 pixels"),
        ({"test_labels": np.array([{}] * 11)}, "test_labels must be whole numbers"),
        (
            {
                f"{part}_{what}": np.zeros((0, 4, 4) if what == "images" else 0, np.uint8)
                for part in SIZES
                for what in ("images", "labels")
            },
            "Found: 0.",
        ),
    ],
)
def test_other_arrays_are_refused(tmp_path, change, words):
    assert words in refusal(save(tmp_path / "scans.npz", arrays() | change))


def test_other_files_are_refused_by_what_they_hold(tmp_path):
    message = refusal(save(tmp_path / "scans.npz", {"x_train": np.zeros(3), "y_train": np.zeros(3)}))
    assert "{train,val,test}_images (uint8) and {train,val,test}_labels (whole numbers). Found: x_train, y_train." in message
    (tmp_path / "text.npz").write_text("no zip")
    assert "the file is damaged" in refusal(tmp_path / "text.npz")


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    refusal(save(tmp_path / "scans.npz", arrays() | {"train_labels": np.array([Trap()] * 30, dtype=object)}))
    assert not (tmp_path / "executed").exists()


def test_an_array_that_is_cut_off_leaves_nothing(tmp_path):
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (11, 28, 28)})
    with zipfile.ZipFile(tmp_path / "scans.npz", "w") as container:
        for name, array in arrays().items():
            stream = io.BytesIO()
            np.save(stream, array)
            cut = header.getvalue() + bytes(1000)
            container.writestr(f"{name}.npy", cut if name == "test_images" else stream.getvalue())
    assert "test_images is cut off" in refusal(tmp_path / "scans.npz")


def test_a_damaged_file_leaves_nothing(tmp_path):
    npz = save(tmp_path / "scans.npz", arrays())
    content = bytearray(npz.read_bytes())
    content[5000] ^= 255
    npz.write_bytes(content)
    assert "damaged" in refusal(npz)
