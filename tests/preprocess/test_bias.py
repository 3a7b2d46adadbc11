import dataclasses
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.datasets import Decoded
from vitrail.errors import PackageError, StudyError
from vitrail.models import check_model, load_package
from vitrail.models.loading import extras_needed
from vitrail.pipeline import run
from vitrail.preprocess import make_recipe, prepare, restore_map
from vitrail.preprocess.bias import corrected
from vitrail.records import Recipe
from vitrail.study import PreprocessSettings, Study

PLAIN = Recipe(96, "grey", False, True, "unit")
N4 = dataclasses.replace(PLAIN, bias_correction="n4")
TISSUES = (90, 140, 190)


def phantom(side, *, bias=1.0, noise=2.0, seed=0):
    """A head of three tissues under a smooth multiplicative field; and which tissue each pixel is (0: background)."""
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tissue = np.zeros((side, side))
    tissue[np.hypot(rows, columns) < 0.9] = 90
    tissue[np.hypot(rows, columns) < 0.7] = 140
    tissue[np.hypot(rows + 0.3, columns - 0.2) < 0.2] = 190
    field = np.exp(bias * (0.35 * np.cos(1.5 * columns + 0.4) * np.sin(1.2 * rows + 0.6) + 0.25 * columns - 0.2))
    grey = tissue * field + np.random.default_rng(seed).normal(0, noise, tissue.shape) * (tissue > 0)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), tissue


def spread(grey, tissue, value):
    """Coefficient of variation within a tissue."""
    within = grey[tissue == value].astype(float)
    return within.std() / within.mean()


def decoded(pixels):
    return Decoded(pixels=pixels, height=pixels.shape[0], width=pixels.shape[1], format="PNG", mode="L")


# ---------------------------------------------------------------------------------------------------- the correction


@pytest.mark.parametrize("side", [64, 512])
def test_a_smooth_field_is_taken_out(side):
    grey, tissue = phantom(side)
    after = corrected(grey)
    assert spread(grey, tissue, 90) > 0.15 and spread(grey, tissue, 140) > 0.1
    for value in (90, 140):
        assert spread(after, tissue, value) < spread(grey, tissue, value) / 3
    means = [after[tissue == value].mean() for value in TISSUES]
    assert means == sorted(means)  # tissues keep their order
    contrast, true = means[1] / means[0], 140 / 90
    assert abs(contrast / true - 1) < 0.1
    assert (after[tissue == 0] == 0).all()


def test_an_even_image_stays_nearly_as_it_is():
    grey, _ = phantom(128, bias=0.0, noise=3.0)
    changed = np.abs(corrected(grey).astype(int) - grey)
    assert changed.mean() < 4 and np.percentile(changed, 99) < 16


def test_what_is_bright_stays_as_bright_and_hardly_anything_is_cut_off():
    grey, tissue = phantom(128)
    after = corrected(grey)
    assert abs(np.percentile(after[tissue > 0], 99) - np.percentile(grey[tissue > 0], 99)) < 6
    assert (after[tissue > 0] == 255).mean() <= 0.01


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((64, 64), np.uint8),
        np.full((64, 64), 200, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        phantom(64)[0][:15],
        phantom(64)[0][:, :3],
        phantom(64)[0][:1, :1],
        np.pad(np.full((2, 2), 200, np.uint8), 40),  # too few pixels stand out
        np.pad(np.full((40, 40), 200, np.uint8), 40),  # nothing changes among those that do
    ],
)
def test_images_that_tell_nothing_stay_as_they_are(pixels):
    np.testing.assert_array_equal(corrected(pixels), pixels)


def test_colours_keep_their_hue_and_grey_stays_grey():
    grey, tissue = phantom(96)
    three = np.repeat(grey[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(corrected(three), np.repeat(corrected(grey)[:, :, None], 3, axis=2))
    coloured = np.stack([grey, grey // 2, grey // 3], axis=2)
    after = corrected(coloured)
    inside = tissue > 0
    assert (after != coloured).any()
    assert np.abs(after[inside, 1] / after[inside, 0] - 0.5).max() < 0.05
    assert np.abs(after[inside, 2] / after[inside, 0] - 1 / 3).max() < 0.05


def test_pixels_are_the_same_bits_again_whatever_the_number_of_threads():
    here = corrected(phantom(48)[0])
    np.testing.assert_array_equal(corrected(phantom(48)[0]), here)
    asked = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import SimpleITK; SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(5)\n"
        "from test_bias import corrected, phantom\n"
        "print(corrected(phantom(48)[0]).tobytes().hex())\n"
        "assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == 5"  # whoever uses it besides keeps his threads
    )
    there = subprocess.run([sys.executable, "-c", asked, Path(__file__).parent], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.tobytes().hex()


def test_a_slice_of_512_pixels_takes_well_below_a_second():
    grey, _ = phantom(512)
    corrected(grey)  # SimpleITK is loaded
    started = time.process_time()
    corrected(grey)
    assert time.process_time() - started < 0.8


# ---------------------------------------------------------------------------------------------------- as a step


def test_the_placement_is_that_of_the_resize_and_padding_stays_black():
    grey, _ = phantom(120)
    wide = np.pad(grey, ((0, 0), (60, 20)))
    for crop in (False, True):
        recipe = dataclasses.replace(N4, crop_margins=crop, size=48)
        plain = dataclasses.replace(recipe, bias_correction="none")
        pixels, placement = prepare(decoded(wide), recipe)
        uncorrected, before = prepare(decoded(wide), plain)
        assert placement == before
        assert (pixels != uncorrected).any()
        inner = slice(placement.inner_top, placement.inner_bottom), slice(placement.inner_left, placement.inner_right)
        np.testing.assert_array_equal(pixels[inner][..., 0], corrected(uncorrected[inner][..., 0]))
        outside = np.ones(pixels.shape[:2], bool)
        outside[inner] = False
        assert (pixels[outside] == 0).all()
        assert restore_map(pixels[..., 0].astype(np.float32), placement).shape == wide.shape


def test_it_comes_before_the_window():
    grey, _ = phantom(96)
    both = dataclasses.replace(N4, window=(5.0, 60.0))
    expected = prepare(decoded(corrected(grey)), dataclasses.replace(PLAIN, window=(5.0, 60.0)))[0]
    np.testing.assert_array_equal(prepare(decoded(grey), both)[0], expected)


def test_fingerprints_tell_it_apart():
    assert N4.pixels_fingerprint != PLAIN.pixels_fingerprint
    assert N4.fingerprint != PLAIN.fingerprint
    assert make_recipe(PreprocessSettings(bias_correction="n4"), size=32).bias_correction == "n4"
    assert make_recipe(PreprocessSettings(), size=32).bias_correction == "none"


# ---------------------------------------------------------------------------------------------------- through the door


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A finished run of a small forest on images under fields of different strength."""
    folder = tmp_path_factory.mktemp("biased")
    generator = np.random.default_rng(3)
    for label, lesion in (("healthy", 0), ("lesion", 60)):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(8):
            coarse = generator.integers(60, 160, (9, 9), dtype=np.uint8)  # no two look alike
            grey = np.asarray(Image.fromarray(coarse).resize((64, 64), Image.Resampling.NEAREST)) * (phantom(64)[1] > 0)
            grey = grey * np.linspace(0.7, generator.uniform(0.8, 1.3), 64)
            top, left = generator.integers(20, 36, 2)
            grey[top : top + 8, left : left + 8] += lesion
            grey = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / "images" / label / f"{number}.png")
    study = Study.from_mapping(
        {
            "data": {"path": str(folder / "images")},
            "output": str(folder / "runs"),
            "preprocess": {"bias_correction": "n4", "size": 32},
            "models": [{"model": "forest", "trees": 10}],
            "evaluation": {"resamples": 200, "baselines": False},
            "tracking": {"enabled": False},
        }
    )
    return study, run(study, until="evaluate")


def test_a_package_answers_as_it_was_evaluated(studied):
    study, result = studied
    (model,) = result.models
    package = load_package(result.folder / "models" / "forest" / "package")
    assert package.recipe.bias_correction == "n4"
    assert package.description.versions["simpleitk"]
    assert extras_needed(package.folder) == ("n4",)
    predictions = model.predictions
    answers = package.predict([study.data.path / path for path in predictions.paths])
    scores = np.array([[answer.probabilities[name] for name in package.classes] for answer in answers])
    np.testing.assert_array_equal(scores, predictions.probabilities)
    image = study.data.path / predictions.paths[0]
    pixels, _ = package.prepare(image)
    plain = prepare(decoded(np.asarray(Image.open(image))), dataclasses.replace(package.recipe, bias_correction="none"))[0]
    np.testing.assert_array_equal(pixels[..., 0], corrected(plain[..., 0]))


def test_without_the_package_it_is_told_before_work_and_when_a_package_is_loaded(studied, monkeypatch, tmp_path):
    study, result = studied
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(StudyError, match=r"models\.forest\.preprocess\.bias_correction: .*pip install 'vitrail\[n4\]'"):
        run(study.model_copy(update={"output": tmp_path / "runs"}))
    assert not (tmp_path / "runs").exists()
    package = tmp_path / "package"
    shutil.copytree(result.folder / "models" / "forest" / "package", package)
    with pytest.raises(PackageError, match=r"pip install 'vitrail\[n4\]'"):
        load_package(package)
    check_model(study.models[0], PreprocessSettings(bias_correction="none"))


def test_other_packages_need_no_extra(tmp_path):
    (tmp_path / "package.json").write_text('{"recipe": {"size": 8}}')
    assert extras_needed(tmp_path) == ()
