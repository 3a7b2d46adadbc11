"""The phantom: is what it draws true, alike for all classes but for the lesion, and is its answer key right."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantom_data import FAULTY, SMALL, UNREADABLE, read, sha256
from PIL import Image
from scipy import ndimage, stats

from vitrail.datasets import AnswerKey, PhantomSettings, make_phantom, read_answer_key, scan_folder
from vitrail.datasets.phantom.bench import encode_jpeg
from vitrail.datasets.phantom.fields import smooth_field, spline_matrix
from vitrail.datasets.phantom.make import _draw_patients
from vitrail.datasets.phantom.patient import CLASSES, Patient, draw_patient
from vitrail.datasets.phantom.scanner import add_noise, scan
from vitrail.errors import OutputError, UsageError


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> tuple[Path, AnswerKey]:
    folder = tmp_path_factory.mktemp("phantom") / "faulty"
    return folder, make_phantom(folder, FAULTY)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> tuple[Path, AnswerKey]:
    folder = tmp_path_factory.mktemp("phantom") / "clean"
    return folder, make_phantom(folder, SMALL)


def patients(label: str, count: int, *, size: int = 128) -> list[Patient]:
    return [draw_patient(label, seed=(7, CLASSES.index(label), place), size=size, low=place % 2 == 1) for place in range(count)]


def head_units(patient: Patient) -> tuple[np.ndarray, np.ndarray]:
    """Where every pixel lies in the head: an independent inverse of the drawing's geometry, point by point."""
    unit = 0.5 * min(patient.rows, patient.columns) * patient.length
    rows, columns = np.mgrid[: patient.rows, : patient.columns].astype(float)
    point = np.stack([(columns - (patient.columns - 1) / 2) / unit, (rows - (patient.rows - 1) / 2) / unit])
    point -= np.array([patient.shift_across, patient.shift_along])[:, None, None]
    turn = np.array([[np.cos(patient.turn), np.sin(patient.turn)], [-np.sin(patient.turn), np.cos(patient.turn)]])
    across, along = np.einsum("ij,jrc->irc", turn, point)
    return across, along


# ---------------------------------------------------------------------------------------------------- the set


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(faulty, tmp_path):
    folder, _ = faulty
    make_phantom(tmp_path / "again", FAULTY)
    make_phantom(tmp_path / "other", replace(FAULTY, seed=1))
    contents = [
        {path.relative_to(base).as_posix(): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}
        for base in (folder, tmp_path / "again", tmp_path / "other")
    ]
    assert contents[0] == contents[1]
    shared = [path for path in contents[0] if path in contents[2] and contents[0][path]]
    assert all(contents[0][path] != contents[2][path] for path in shared if path.endswith(".jpg") and len(contents[0][path]) > 99)


def test_clean_phantom_has_equal_classes_separate_patients_and_no_duplicates(clean):
    folder, key = clean
    counts = Counter((image.part, image.label) for image in key.images)
    assert counts == {("train", label): 8 for label in CLASSES} | {("test", label): 4 for label in CLASSES}
    parts, labels = defaultdict(set), defaultdict(set)
    for image in key.images:
        parts[image.patient].add(image.part)
        labels[image.patient].add(image.label)
    assert len(parts) == 4 * 6
    assert all(len(found) == 1 for found in (*parts.values(), *labels.values()))
    assert len({sha256(folder, image.path) for image in key.images}) == len(key.images)
    assert key.faults == ()
    assert all(image.label == image.true_label for image in key.images)


def test_no_two_images_of_different_patients_look_alike(clean):
    folder, key = clean
    small = np.stack([np.asarray(Image.open(folder / "images" / image.path).resize((32, 32))).ravel() for image in key.images])
    patient = np.array([image.patient for image in key.images])
    alike = np.corrcoef(small)
    assert alike[patient[:, None] != patient].max() < 0.985
    # Neighbouring slices of one patient resemble each other more than slices of two patients do.
    same = (patient[:, None] == patient) & ~np.eye(len(patient), dtype=bool)
    assert alike[same].mean() > alike[patient[:, None] != patient].mean() + 0.03


def test_names_tell_neither_class_nor_part(clean):
    _, key = clean
    numbers = {label: {image.patient for image in key.images if image.label == label} for label in CLASSES}
    for image in key.images:
        assert Path(image.path).name == f"patient{image.patient:03d}_slice{image.slice:02d}.jpg"
    ranges = [(min(found), max(found)) for found in numbers.values()]
    assert max(low for low, _ in ranges) < min(high for _, high in ranges)


def test_folder_is_read_as_training_and_test_of_four_classes(faulty, tmp_path):
    folder, key = faulty
    manifest = scan_folder(folder / "images", cache=tmp_path)
    assert manifest.classes == CLASSES
    assert [file.path for file in manifest.files] == [image.path for image in key.images]
    assert [file.part for file in manifest.files] == [image.part for image in key.images]
    broken = {fault.paths[0] for kind in UNREADABLE for fault in key.of_kind(kind)}
    masks = {path for fault in key.of_kind("derived_mask") for path in fault.paths}
    assert {file.path for file in manifest.files if file.status == "excluded"} == masks
    assert {file.path for file in manifest.files if not file.readable} == broken | masks


def test_masks_stand_outside_the_class_tree_and_fit_their_images(faulty):
    folder, key = faulty
    planted_masks = {path for fault in key.of_kind("derived_mask") for path in fault.paths}
    assert {image.path for image in key.images if image.path.endswith("_mask.png")} == planted_masks
    assert {path.relative_to(folder / "images").as_posix() for path in (folder / "images").rglob("*.*")} == {
        image.path for image in key.images
    }
    of_kind = {path: fault.kind for fault in key.faults for path in fault.paths}
    for image in key.images:
        kind = of_kind.get(image.path, "")
        assert (image.mask is None) == (image.true_label == "no_tumor" or kind in ("derived_mask", "blank_image", "off_topic"))
        if image.mask is not None and kind not in UNREADABLE:
            mask = np.asarray(Image.open(folder / image.mask))
            assert set(np.unique(mask)) == {0, 255}
            assert mask.shape == read(folder, image.path).shape
    used = {image.mask for image in key.images if image.mask is not None}
    assert {f"masks/{path.name}" for path in (folder / "masks").iterdir()} == used


def test_images_that_no_fault_concerns_are_those_of_the_clean_phantom(faulty, tmp_path):
    folder, key = faulty
    make_phantom(tmp_path / "clean", replace(FAULTY, faults={}))
    concerned = {path for fault in key.faults for path in fault.paths}
    untouched = [image for image in key.images if image.path not in concerned]
    assert len(untouched) > 10
    assert all(sha256(folder, image.path) == sha256(tmp_path / "clean", image.path) for image in untouched)


def test_images_of_a_clean_phantom_are_stored_in_one_way(clean):
    folder, key = clean
    ways = set()
    for image in key.images:
        picture = Image.open(folder / "images" / image.path)
        tables = tuple(tuple(table) for table in picture.quantization.values())
        ways.add((picture.format, picture.mode, tables, tuple(sorted(picture.info)), tuple(picture.getexif().items())))
    assert len(ways) == 1
    assert {path.suffix for path in (folder / "images").rglob("*") if path.is_file()} == {".jpg"}


def test_answer_key_survives_the_disk(faulty):
    folder, key = faulty
    assert read_answer_key(folder) == key
    assert key.image(key.images[3].path) == key.images[3]
    with pytest.raises(KeyError):
        key.image("Training/glioma/nobody.jpg")


def test_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("four years")
    with pytest.raises(OutputError, match="new or empty folder"):
        make_phantom(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_nothing_is_left_when_there_are_more_faults_than_images(tmp_path):
    with pytest.raises(UsageError, match="exact_copy needs 500 train images"):
        make_phantom(tmp_path / "phantom", replace(SMALL, faults={"exact_copy": 500}))
    assert list(tmp_path.iterdir()) == []


def test_missing_answer_key_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"answer_key\.json"):
        read_answer_key(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [{"patients_per_class": 1}, {"size": 8}, {"quality": 100}, {"seed": -1}, {"faults": {"typo": 1}}, {"test_share": 2.0}],
)
def test_wrong_settings_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)) if "faults" not in wrong else "unknown kind of fault 'typo'"):
        PhantomSettings(**wrong)


# ---------------------------------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("label", ["glioma", "meningioma", "pituitary"])
def test_lesion_is_where_the_mask_says(label):
    for patient in patients(label, 6):
        quiet = replace(patient, noise=1e-4)
        with_it, without = scan(quiet, number=0, slices=1), scan(quiet, number=0, slices=1, with_lesion=False)
        one, two = with_it.pixels.astype(float), without.pixels.astype(float)
        reach = 1.5 * np.sqrt(with_it.lesion.sum())
        far = (ndimage.distance_transform_edt(~with_it.lesion) > reach) & (np.maximum(one, two) < 250)
        one *= np.median(two[far & (two > 30)]) / np.median(one[far & (two > 30)])  # the window differs; the anatomy does not
        change = np.abs(one - two)
        assert with_it.lesion.sum() >= 25
        assert not without.lesion.any()
        assert change[with_it.lesion].mean() > 8 * change[far].mean()
        assert np.quantile(change[far], 0.95) < 3  # beyond the push, which fades with the distance


def test_healthy_patients_have_no_lesion_and_an_empty_mask():
    for patient in patients("no_tumor", 3):
        assert patient.lesion is None
        result = scan(patient, number=1, slices=4)
        assert not result.lesion.any()
        assert np.array_equal(result.pixels, scan(patient, number=1, slices=4, with_lesion=False).pixels)


def test_meningioma_has_a_broad_base_on_the_wall():
    for patient in patients("meningioma", 12):
        lesion = scan(patient, number=0, slices=1).lesion
        across, along = head_units(patient)
        taper = 0.07 if patient.level == "ventricles" else 0.12
        radius = np.hypot(across / (patient.aspect * (1 + taper * along)), along)
        assert radius[lesion].max() > 0.82
        wall = lesion & (radius > 0.79)
        unit = 0.5 * min(patient.rows, patient.columns) * patient.length
        spread = np.hypot(np.ptp(across[wall]), np.ptp(along[wall]))
        assert spread > 0.8 * np.sqrt(lesion.sum() / np.pi) / unit


def test_pituitary_mass_lies_on_the_midline_before_the_brain_stem_at_the_base():
    for patient in patients("pituitary", 12):
        assert patient.level == "base"
        lesion = scan(patient, number=0, slices=1).lesion
        across, along = head_units(patient)
        assert abs(across[lesion].mean()) < 0.05
        assert -0.25 < along[lesion].mean() < -0.05


def test_glioma_lies_inside_one_hemisphere():
    for patient in patients("glioma", 12):
        lesion = scan(patient, number=0, slices=1).lesion
        across, along = head_units(patient)
        assert abs(across[lesion].mean()) > 0.15
        assert np.hypot(across[lesion].mean() / patient.aspect, along[lesion].mean()) < 0.75


def test_glioma_is_dark_inside_a_bright_rim_and_the_others_are_even():
    spread = {}
    for label in ("glioma", "meningioma", "pituitary"):
        ratios = []
        for patient in patients(label, 12):
            result = scan(replace(patient, noise=1e-4), number=0, slices=1)
            values = result.pixels[ndimage.binary_erosion(result.lesion)].astype(float)
            ratios.append(values.std() / values.mean())
        spread[label] = float(np.median(ratios))
    assert spread["glioma"] > 2.5 * max(spread["meningioma"], spread["pituitary"])


def test_half_of_the_other_patients_lie_at_the_base_of_the_skull():
    cases = _draw_patients(replace(SMALL, patients_per_class=16)).values()
    found = Counter((case.label, case.part) for case in cases if case.patient.level == "base")
    for label in CLASSES:
        assert (found[label, "train"], found[label, "test"]) == ((12, 4) if label == "pituitary" else (6, 2))


def nuisances(content: bytes) -> list[float]:
    """What may not tell the class: length of the file, geometry, mean, border, corners, noise in air, extent of the head."""
    pixels = np.asarray(Image.open(io.BytesIO(content))).astype(float)
    rows, columns = pixels.shape
    strip = max(2, round(0.03 * rows))
    border = np.concatenate(
        [pixels[:strip].ravel(), pixels[-strip:].ravel(), pixels[:, :strip].ravel(), pixels[:, -strip:].ravel()]
    )
    corner = pixels[: rows // 10, : columns // 10]
    bright = pixels > 0.2 * pixels.max()
    extent = np.ptp(np.flatnonzero(bright.any(axis=1))) / rows, np.ptp(np.flatnonzero(bright.any(axis=0))) / columns
    air = float(np.diff(corner, axis=1).std())
    return [len(content), rows, columns, rows / columns, pixels.mean(), border.mean(), border.std(), corner.mean(), air, *extent]


def test_nuisances_do_not_tell_the_class():
    ensemble = pytest.importorskip("sklearn.ensemble")
    selection = pytest.importorskip("sklearn.model_selection")
    table, truth = [], []
    for place in range(240):  # one slice per patient, so that folds cannot share one
        label = CLASSES[place % 4]
        patient = draw_patient(label, seed=(11, place), size=96, low=place // 4 % 2 == 1)
        table.append(nuisances(encode_jpeg(scan(patient, number=1, slices=3).pixels, quality=90)))
        truth.append(label)
    features = np.array(table)
    folds = selection.StratifiedKFold(5, shuffle=True, random_state=0)
    model = ensemble.RandomForestClassifier(40, min_samples_leaf=4, random_state=0)
    right = (selection.cross_val_predict(model, features, truth, cv=folds) == np.array(truth)).mean()
    # Chance is 0.25; a binomial of 240 patients exceeds 0.335 once in a thousand.
    assert right < 0.335
    # The instrument sees a shortcut where there is one.
    features[:, 4] += 20.0 * (np.array(truth) == "glioma")
    assert (selection.cross_val_predict(model, features, truth, cv=folds) == np.array(truth)).mean() > 0.4


def test_patients_vary_in_size_and_slices_of_one_patient_share_it():
    found = [draw_patient("glioma", seed=(3, place), size=208, low=False) for place in range(60)]
    sides = np.array([(patient.rows, patient.columns) for patient in found])
    assert sides.min() >= 0.95 * 208 - 2
    assert sides.max() <= 1.22 * 208 + 2
    assert np.ptp(sides) > 30
    shapes = {scan(found[0], number=number, slices=3).pixels.shape for number in range(3)}
    assert shapes == {(found[0].rows, found[0].columns)}


# ---------------------------------------------------------------------------------------------------- the physics


@pytest.mark.parametrize("signal", [0.0, 0.05, 0.64])
def test_noise_is_rician(signal):
    drawn = add_noise(np.full((150, 150), signal, dtype=np.float32), np.random.default_rng(5), deviation=0.03)
    assert stats.kstest(drawn.ravel().astype(float), stats.rice(b=signal / 0.03, scale=0.03).cdf).pvalue > 0.001


def test_spline_weights_sum_to_one_and_reproduce_a_straight_line():
    weights = spline_matrix(50, 7).toarray()
    assert weights.shape == (50, 10)
    assert np.allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    line = weights @ (np.arange(10) - 1.0)
    assert np.allclose(line, (np.arange(50) + 0.5) * 7 / 50, atol=1e-5)


def test_fields_are_smooth_and_drift_along_the_stack():
    one, near, far = (smooth_field(np.random.default_rng(2), 90, 110, waves=8, progress=p) for p in (0.0, 0.1, np.pi / 2))
    assert one.shape == (90, 110)
    assert one.dtype == np.float32
    assert 0.5 < one.std() < 1.5
    assert np.abs(np.diff(one, axis=0)).max() < 0.5 * one.std()
    assert np.corrcoef(one.ravel(), near.ravel())[0, 1] > 0.97
    assert abs(np.corrcoef(one.ravel(), far.ravel())[0, 1]) < 0.5
