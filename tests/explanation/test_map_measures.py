"""Agreement, sensitivity and localisation against numbers known by heart, by scipy, or by a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from explanation_models import whole_image
from grading_models import SIZE, boxed, images
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.stats import spearmanr

from vitrail.datasets.derived import DERIVED
from vitrail.errors import DataError, UsageError
from vitrail.explanation.grading.localisation import find_masks, localise, mask_at_input, read_mask
from vitrail.explanation.grading.sensitivity import largest_sensitivity
from vitrail.explanation.grading.similarity import agreements, rank_correlation
from vitrail.records import ImageFile, Manifest, Placement


@given(arrays(np.float64, (2, 20), elements=st.integers(-3, 3).map(float)))
def test_rank_correlation_is_spearman_s(pair):
    found = rank_correlation(*pair)
    if np.ptp(pair[0]) and np.ptp(pair[1]):
        assert found == pytest.approx(spearmanr(*pair).statistic)
    else:
        assert np.isnan(found)


def test_agreement_leaves_out_what_maps_of_any_two_images_share():
    generator = np.random.default_rng(0)
    common = np.add.outer(np.arange(28.0), np.arange(28.0))
    own = generator.standard_normal((30, 28, 28))
    own = own.repeat(2, axis=1)[:, :28].repeat(2, axis=2)[:, :, :28] * 30
    placements = (whole_image(28),) * 30
    maps = {
        "alike": (common + own).astype(np.float32),
        "same": (2 * (common + own) + 1).astype(np.float32),
        "common": (common + generator.permutation(own)).astype(np.float32),
    }
    found = {(pair.first, pair.second): pair for pair in agreements(maps, placements)}
    same, apart = found["alike", "same"], found["alike", "common"]
    assert same.spearman == pytest.approx(1) and same.corrected == pytest.approx(1) and same.n == 30
    assert same.chance == pytest.approx(apart.spearman, abs=0.1) and apart.chance > 0.01
    assert apart.corrected == pytest.approx(0, abs=0.12)


def test_agreement_with_a_constant_map_is_not_estimable():
    maps = {"flat": np.zeros((3, SIZE, SIZE), np.float32), "other": np.random.default_rng(0).random((3, SIZE, SIZE))}
    (pair,) = agreements(maps, (whole_image(SIZE),) * 3)
    assert pair.spearman is None and pair.corrected is None and pair.n == 0


def test_sensitivity_is_the_largest_relative_change_within_the_radius():
    pixels, placements = images(3)
    pixels = np.clip(pixels, 20, 200)
    targets = np.zeros(3, dtype=np.int64)
    asked = []

    def brightness(changed, at, of):
        asked.append(changed.astype(int) - pixels)
        return changed[..., 0].astype(np.float32)

    maps = pixels[..., 0].astype(np.float32)
    found = largest_sensitivity(brightness, pixels, placements, targets, maps, seed=0, radius=4, samples=3)
    changes = np.stack(asked)[..., 0]
    assert np.abs(changes).max() == 4 and len(asked) == 3
    norms = np.sqrt((changes**2).sum(axis=(2, 3))) / np.sqrt((maps.astype(float) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(found, norms.max(axis=0))
    constant = largest_sensitivity(lambda *_: np.ones_like(maps), pixels, placements, targets, np.ones_like(maps), seed=0)
    assert not constant.any()
    zero = largest_sensitivity(lambda *_: maps, pixels, placements, targets, np.zeros_like(maps), seed=0)
    assert np.isnan(zero).all()


def test_localisation_by_heart():
    mask = np.zeros((1, SIZE, SIZE), dtype=bool)
    mask[0, 2:4, 2:4] = True
    values = np.zeros((1, SIZE, SIZE), dtype=np.float32)
    values[0, 2, 2], values[0, 2, 3], values[0, 8, 8], values[0, 9, 9] = 4, 2, 2, -5
    found = localise(values, mask, (whole_image(SIZE),))
    assert found.pointing == 1 and found.energy == pytest.approx(6 / 8)
    assert found.chance == pytest.approx(4 / SIZE**2)
    # The strongest four: three of them are 4, 2, 2; the fourth is one of the zeros, of which two are in the mask.
    zeros = SIZE**2 - 4
    assert found.rank_accuracy == pytest.approx((2 + 2 / zeros) / 4)


@given(arrays(np.float32, (1, 6, 6), elements=st.integers(-2, 2).map(float)), arrays(np.bool_, (1, 6, 6)))
def test_localisation_stays_in_range_and_a_constant_map_is_chance(values, mask):
    found = localise(values, mask, (whole_image(6),))
    numbers = np.concatenate([found.pointing, found.energy, found.rank_accuracy, found.chance])
    kept = numbers[~np.isnan(numbers)]
    assert ((kept >= 0) & (kept <= 1 + 1e-12)).all()
    flat = localise(np.zeros_like(values), mask, (whole_image(6),))
    if mask.any():
        assert flat.pointing == pytest.approx(flat.chance) and flat.rank_accuracy == pytest.approx(flat.chance)
        assert np.isnan(flat.energy)
    else:
        assert np.isnan(numbers).all()


def test_masks_go_the_way_of_their_images(tmp_path):
    mask = np.zeros((20, 10), dtype=bool)
    mask[4:10, 2:5] = True
    placement = boxed(16, 0, 4, 16, 12)
    placement = type(placement)(20, 10, 2, 0, 18, 10, 0, 4, 16, 12)  # rows 2..18 of the original, 16 x 10 -> 16 x 8
    found = mask_at_input(mask, placement, size=16)
    assert found[2:8].any(axis=1).all() and not found[:2].any() and not found[8:].any()
    assert not found[:, :4].any() and not found[:, 12:].any()
    with pytest.raises(DataError, match="mask: must have its image's height and width"):
        mask_at_input(mask[:5], placement, size=16)
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


def data_set(root, *paths, derived=()):
    """Return a manifest of images that nobody looks at."""
    files = [ImageFile(path, "a", None, 1, "", "readable") for path in paths]
    files += [ImageFile(path, "a", None, 1, "", "excluded", f"{DERIVED}x") for path in derived]
    return Manifest(root, ("a",), tuple(files), root / "thumbnails", root / "facts")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_masks_are_found_by_path_and_by_name(tmp_path):
    touch(tmp_path, "scan1.png", "one/scan2.png", "two/scan2.png", "two/scan3.txt")
    images = data_set(tmp_path / "images", "train/glioma/scan1.jpg", "one/scan2.jpg", "scan3.jpg")
    assert find_masks(tmp_path, images) == {
        "train/glioma/scan1.jpg": (tmp_path / "scan1.png",),
        "one/scan2.jpg": (tmp_path / "one/scan2.png",),
    }
    with pytest.raises(UsageError, match=r"explanation.masks: three/scan2.jpg must have one mask"):
        find_masks(tmp_path, data_set(tmp_path / "images", "three/scan2.jpg"))
    with pytest.raises(UsageError, match=r"explanation.masks: must be a folder"):
        find_masks(tmp_path / "absent", images)


def test_masks_beside_images_are_found_and_no_image_is_its_own_mask(tmp_path):
    images = ("benign/benign (1).png", "benign/benign (2).png", "normal/normal (1).png", "cell.tif#0")
    masks = ("benign/benign (1)_mask.png", "benign/benign (2)_mask.png", "benign/benign (2)_mask_1.png")
    drawn = ("normal/normal (1)_overlay.png",)
    touch(tmp_path, "cell.tif", *images[:-1], *masks, *drawn)
    found = find_masks(tmp_path, data_set(tmp_path, *images, derived=(*masks, *drawn)))
    assert found == {
        images[0]: (tmp_path / masks[0],),
        images[1]: (tmp_path / masks[1], tmp_path / masks[2]),
    }
    touch(tmp_path, "benign/benign (1)_roi.png")
    with pytest.raises(UsageError, match=r"explanation.masks: benign/benign \(1\).png must have one mask. Found: .*_mask.*_roi"):
        find_masks(tmp_path, data_set(tmp_path, *images, derived=masks))


def test_a_mask_goes_to_no_image_of_the_same_name_elsewhere(tmp_path):
    touch(tmp_path, "tumour/1.png", "tumour/2_seg.png", "other/7.png")
    images = data_set(
        tmp_path / "images", "1.jpg", "healthy/1.jpg", "tumour/1.jpg", "healthy/2.jpg", "tumour/2.jpg", "healthy/7.jpg"
    )
    assert find_masks(tmp_path, images) == {
        "tumour/1.jpg": (tmp_path / "tumour/1.png",),
        "tumour/2.jpg": (tmp_path / "tumour/2_seg.png",),
        "healthy/7.jpg": (tmp_path / "other/7.png",),
    }


def test_findings_in_several_files_are_one_mask(tmp_path):
    parts = np.zeros((2, 6, 5), dtype=np.uint8)
    parts[0, 1, 1], parts[1, 4, 3] = 255, 1
    for number, part in enumerate(parts):
        Image.fromarray(part).save(tmp_path / f"{number}.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "0.png", tmp_path / "1.png"), parts.any(axis=0))
    Image.fromarray(parts[0, :3]).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"masks of one image must have one size. Found: \(6, 5\), \(3, 5\)"):
        read_mask(tmp_path / "0.png", tmp_path / "2.png")


@pytest.mark.parametrize("side", [64, 100, 1000])
def test_a_small_finding_does_not_vanish_at_the_input(side):
    for row, column in np.random.default_rng(0).integers(0, side, (20, 2)):
        mask = np.zeros((side, side), dtype=bool)
        mask[row, column] = True
        found = mask_at_input(mask, Placement(side, side, 0, 0, side, side, 0, 0, 16, 16), size=16)
        assert found.sum() == 1 and found[int((row + 0.5) * 16 / side), int((column + 0.5) * 16 / side)]
