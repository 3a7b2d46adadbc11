from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import grey_opening, maximum_filter, minimum_filter
from shortcut_data import burn_letter, plain_facts, plain_files, plain_pictures, save

from vitrail.audit.nuisance import global_properties, nuisance_families, source_of
from vitrail.audit.strokes import CORNER, PLACES, strokes

LABELS = ["cyst", "healthy"] * 10


def families(tmp_path, *, files=None, pictures=None, facts=None):
    files = files or plain_files(LABELS)
    count = len(files)
    pictures = plain_pictures(count) if pictures is None else pictures
    manifest = save(tmp_path, files, pictures, plain_facts(count) if facts is None else facts)
    return {family.name: family for family in nuisance_families(manifest, range(count))}, manifest


def values(family, name):
    return next(item.values for item in family.properties if item.name == name)


def names(family):
    return [item.name for item in family.properties]


# ------------------------------------------------------------------------------------------------ files


def test_what_all_images_share_is_left_out(tmp_path):
    found, _ = families(tmp_path)
    assert set(found) == {"file", "geometry", "border", "intensity", "noise"}
    assert names(found["file"]) == ["file size", "bytes per pixel"]
    assert names(found["geometry"]) == ["width", "height", "width over height", "area", "shape"]


def test_numbers_are_those_of_the_files(tmp_path):
    found, manifest = families(tmp_path)
    file = manifest.files[3]
    assert values(found["file"], "file size")[3] == file.size_bytes
    assert values(found["file"], "bytes per pixel")[3] == pytest.approx(file.size_bytes / (file.width * file.height))
    assert values(found["noise"], "sharpness")[3] == pytest.approx(manifest.facts["sharpness"][3])


def test_only_the_rows_asked_for_are_described(tmp_path):
    _, manifest = families(tmp_path)
    rows = [1, 4, 5, 11]
    all_families = {family.name: family for family in nuisance_families(manifest, range(20))}
    for family in nuisance_families(manifest, rows):
        for item in family.properties:
            if not item.levels:
                assert np.array_equal(item.values, values(all_families[family.name], item.name)[rows], equal_nan=True)


def test_names_of_files_are_no_property(tmp_path):
    files = [replace(file, path=file.path.replace("/", "/" + file.label)) for file in plain_files(LABELS)]
    found, _ = families(tmp_path, files=files)
    assert set(found) == {"file", "geometry", "border", "intensity", "noise"}


def test_the_length_of_a_volume_says_nothing_of_its_slices(tmp_path):
    files = [
        replace(file, path=f"{file.label}/scan{number // 4}.nii#{number}") for number, file in enumerate(plain_files(LABELS))
    ]
    found, _ = families(tmp_path, files=files)
    assert "file" not in found


def test_file_size_is_suspect_only_where_files_are_stored_differently(tmp_path):
    alike = [replace(file, width=224, height=224) for file in plain_files(LABELS)]
    found, _ = families(tmp_path / "alike", files=alike)
    assert not found["file"].suspect
    found, _ = families(tmp_path / "sizes", files=plain_files(LABELS))
    assert found["file"].suspect
    coded = [replace(file, encoding=f"quality {90 - number % 3}") for number, file in enumerate(alike)]
    found, _ = families(tmp_path / "coded", files=coded)
    assert found["file"].suspect
    assert found["compression"].suspect


def test_anatomy_is_never_suspect(tmp_path):
    found, _ = families(tmp_path)
    assert [found[name].suspect for name in ("border", "intensity", "noise")] == [False] * 3


# ------------------------------------------------------------------------------------------------ sources


def test_headers_name_the_source(tmp_path):
    files = [
        replace(file, source=("Acme | One", "Acme | Two")[number % 3 == 0]) for number, file in enumerate(plain_files(LABELS))
    ]
    found, manifest = families(tmp_path, files=files)
    assert names(found["source"]) == ["source"]
    assert source_of(manifest.files).levels == ("Acme | One", "Acme | Two")


def test_folders_inside_classes_are_sources_only_where_classes_share_them(tmp_path):
    def in_folders(folder_of):
        files = plain_files(LABELS)
        return [replace(file, path=f"{file.label}/{folder_of(number, file)}/{number}.jpg") for number, file in enumerate(files)]

    shared = in_folders(lambda number, file: f"site{number % 4 // 2}")
    found, manifest = families(tmp_path / "shared", files=shared)
    assert names(found["source"]) == ["folder"]
    assert source_of(manifest.files).levels == ("site0", "site1")
    kinds = in_folders(lambda number, file: f"{file.label} of kind {number % 3}")
    found, manifest = families(tmp_path / "kinds", files=kinds)
    assert "source" not in found
    assert source_of(manifest.files) is None


# ------------------------------------------------------------------------------------------------ pictures


def test_frames_and_margins_are_measured_on_their_side(tmp_path):
    pictures = np.full((20, 128, 128), 100, dtype=np.uint8)
    pictures[3, :16] = 0  # an eighth of the height
    pictures[4, :, -32:] = 5
    found, manifest = families(tmp_path, pictures=pictures)
    row, other = [[file.path for file in manifest.files].index(plain_files(LABELS)[place].path) for place in (3, 4)]
    assert values(found["border"], "dark frame at the top")[row] == 12.5
    assert values(found["border"], "margin at the top")[row] == 12.5
    assert values(found["border"], "dark frame at the right")[other] == 25.0
    assert values(found["border"], "brightness of the right edge")[other] == 5.0
    assert "dark frame at the left" not in names(found["border"])


def test_grey_values_are_percentiles_of_the_picture(tmp_path):
    pictures = plain_pictures(20)
    found, manifest = families(tmp_path, pictures=pictures)
    for percent in (5, 50, 95):
        expected = np.percentile(manifest.thumbnails[7], percent)
        assert values(found["intensity"], f"grey value at {percent} %")[7] == pytest.approx(expected, abs=1)


def test_coloured_pixels_are_marks_in_grey_images_and_nothing_in_photographs(tmp_path):
    facts = plain_facts(20)
    facts["colour"][:5] = 0.02
    found, _ = families(tmp_path / "grey", facts=facts)
    assert names(found["overlay"]) == ["share of coloured pixels"]
    facts["colour"] = np.linspace(0.2, 0.9, 20)
    found, _ = families(tmp_path / "photographs", facts=facts)
    assert "overlay" not in found


def test_strokes_are_what_morphology_of_another_library_finds():
    rng = np.random.default_rng(0)
    pictures = (maximum_filter(rng.normal(size=(6, 128, 128)), (1, 3, 3)) * 60).clip(0, 255).astype(np.uint8)
    burn_letter(pictures[2], top=110, left=112)
    ground = grey_opening(pictures, (1, 5, 5), mode="nearest").astype(int)
    relief = maximum_filter(ground, (1, 13, 13), mode="nearest") - minimum_filter(ground, (1, 13, 13), mode="nearest")
    clear = np.maximum(pictures.astype(int) - ground - relief, 0)
    clear[clear <= 40] = 0
    near, far, found = slice(None, CORNER), slice(-CORNER, None), strokes(pictures)
    for place, (down, across) in enumerate(((near, near), (near, far), (far, near), (far, far))):
        assert np.array_equal(found["height"][place], clear[:, down, across].max(axis=(1, 2)))
        assert np.array_equal(found["area"][place], np.count_nonzero(clear[:, down, across], axis=(1, 2)))
    assert found["area"][:4].any()


def test_a_letter_is_a_stroke_in_its_corner_and_a_skull_is_none():
    pictures = plain_pictures(3)
    burn_letter(pictures[0], top=5, left=115)
    rows, columns = np.mgrid[:128, :128]
    radius = np.hypot(rows - 40, columns - 40)
    pictures[1][radius < 38] = 110  # a head that reaches into the corner, with a bright rim
    pictures[1][(radius > 36) & (radius < 39)] = 200
    found = strokes(pictures)
    assert found["height"][PLACES.index("top right")].tolist()[0] > 150
    assert np.count_nonzero(found["height"]) == 1


def test_strokes_all_over_the_picture_are_not_suspect(tmp_path):
    pictures = plain_pictures(20)
    for picture in pictures[::2]:
        burn_letter(picture)
    found, _ = families(tmp_path / "corner", pictures=pictures)
    assert found["overlay"].suspect
    for picture in pictures[::2]:
        for top, left in ((4, 116), (116, 4), (116, 116), (60, 60)):
            burn_letter(picture, top=top, left=left)
    found, _ = families(tmp_path / "everywhere", pictures=pictures)
    assert not found["overlay"].suspect


# ------------------------------------------------------------------------------------------------ the image as a whole


def test_properties_of_the_whole_are_the_same_for_any_rows_and_know_no_label_and_no_picture(tmp_path):
    _, manifest = families(tmp_path)
    every, few = global_properties(manifest, range(20)), global_properties(manifest, [7, 2])
    assert [item.name for item in every] == [item.name for item in few]
    for whole, part in zip(every, few, strict=True):
        if not whole.levels:
            assert np.array_equal(part.values, whole.values[[7, 2]], equal_nan=True)
    (tmp_path / "other").mkdir()
    turned = [replace(file, label="cyst", path=f"a/b/{number:03d}.png") for number, file in enumerate(manifest.files)]
    other = save(tmp_path / "other", turned, 255 - plain_pictures(20), manifest.facts)
    for item, changed in zip(every, global_properties(other, range(20)), strict=True):
        assert np.array_equal(item.values, changed.values, equal_nan=True) and item.levels == changed.levels
