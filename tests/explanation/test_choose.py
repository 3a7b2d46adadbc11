"""Grading a whole package: which images, which methods, what is kept, and what is drawn in grey."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from explanation_models import BrightnessNetwork, Keyhole, whole_image
from explanation_networks import family
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.errors import DataError, StudyError
from vitrail.explanation import draw_map, explain_image, explain_pixels
from vitrail.explanation.grading import (
    GRADES,
    ToGrade,
    check_explanation,
    chosen_here,
    chosen_words,
    grade_package,
    graded,
    kept_grades,
    pick_images,
)
from vitrail.explanation.grading.asking import at_input, map_at_input, method_of
from vitrail.explanation.grading.choose import OF_PLAN, first_named
from vitrail.preprocess import restore_map
from vitrail.records import Placement
from vitrail.storage import write_record
from vitrail.study import ExplanationSettings

SIZE = 32


class _File:
    """Lets a model read image files, as a package does."""

    fingerprint = "a" * 64
    folder = None
    views = (0,)
    network = None
    decision = None

    @property
    def parts(self):
        return ((1.0, self),)

    @property
    def plain(self):
        return self

    def prepare(self, image):
        try:
            with Image.open(image) as picture:
                return np.asarray(picture.convert("L"))[..., np.newaxis].copy(), whole_image(SIZE)
        except OSError as error:
            raise DataError(f"{image}: it is no image. Leave it out.") from error

    def scores_of(self, image):
        return self.scores(self.prepare(image)[0][np.newaxis])[0]


class KeyholePackage(_File, Keyhole):
    """It looks at one box: covering the box must be found to matter, wherever edges and centre are."""


class BrightPackage(_File, BrightnessNetwork):
    """It looks at the mean of everything."""


@pytest.fixture
def to_grade(tmp_path):
    generator = np.random.default_rng(0)
    files = []
    for number in range(14):
        pixels = generator.integers(0, 90, (SIZE, SIZE), dtype=np.uint8)
        pixels[8:14, 16:22] = 230
        files.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(pixels).save(files[-1])
    return ToGrade(tuple(files), tuple(file.name for file in files), np.arange(14), {})


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 40), st.integers(0, 3))
def test_independent_images_come_first(groups, most, seed):
    groups = np.array(groups)
    chosen = pick_images(groups, most=most, seed=seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(most, len(groups))
    distinct = len(np.unique(groups))
    assert len(np.unique(groups[chosen[:distinct]])) == min(distinct, most)
    np.testing.assert_array_equal(chosen[:5], pick_images(groups, most=most, seed=seed)[:5])


def test_a_package_is_graded_and_the_faithful_method_beats_its_baselines(to_grade):
    table = grade_package(KeyholePackage(), to_grade, methods=("occlusion",), seed=0, resamples=300)
    assert table.chosen == "occlusion" and table.n == 14 and table.images == to_grade.paths
    grade = table.grade_of("occlusion")
    assert grade.beats_baselines == "yes" and grade.passes > 60 and grade.sensitivity is None
    assert table.package == "a" * 64 and table.settings["steps"] == OF_PLAN.steps


def test_methods_that_do_not_suit_are_said_and_none_that_suits_means_all_the_others(to_grade):
    table = grade_package(KeyholePackage(), to_grade, methods=("grad-cam", "occlusion"), seed=0, resamples=300)
    assert [grade.name for grade in table.grades if not grade.baseline] == ["occlusion"]
    (note,) = table.notes
    assert note.startswith("grad-cam: not graded. keyhole has no feature maps.")
    table = grade_package(KeyholePackage(), to_grade, methods=("grad-cam",), seed=0, resamples=300)
    assert table.chosen and any("None of the methods that the study names suits" in note for note in table.notes)


def test_the_time_limit_leaves_out_the_dearest_methods_first(to_grade):
    methods = ("grad-cam", "hires-cam", "occlusion")
    table = grade_package(BrightPackage(), to_grade, methods=methods, minutes=1e-9, seed=0, resamples=300)
    assert [grade.name for grade in table.grades if not grade.baseline] == ["grad-cam"]
    assert [note.split(":")[0] for note in table.notes] == ["occlusion", "hires-cam"]
    assert table.n == 14


def test_a_method_about_the_class_is_graded_however_little_time_there_is(to_grade):
    methods = ("attention", "activations", "gradient", "occlusion")
    table = grade_package(family("vit-class"), to_grade, methods=methods, minutes=1e-9, seed=0, resamples=50)
    assert [grade.name for grade in table.grades if not grade.baseline] == ["gradient"]
    assert table.chosen == "gradient"


def test_what_takes_the_place_of_a_method_that_cannot_be_used_here_is_about_the_class(to_grade):
    package = family("vit-class")
    few = dataclasses.replace(to_grade, files=to_grade.files[:4], paths=to_grade.paths[:4], groups=np.arange(4))
    table = grade_package(package, few, methods=("attention", "grad-cam"), seed=0, resamples=50)

    def gaining(grade):
        value = {"attention": 0.9, "grad-cam": 0.1}.get(grade.name, 0.0)
        return dataclasses.replace(grade, relevance_gain=dataclasses.replace(grade.relevance_gain, value=value))

    elsewhere = dataclasses.replace(table, chosen="of-a-later-version", grades=tuple(map(gaining, table.grades)))
    name, how = chosen_here(elsewhere, package)
    assert name == "grad-cam" and "grad-cam is the next best" in how
    only = dataclasses.replace(elsewhere, grades=tuple(grade for grade in elsewhere.grades if grade.name != "grad-cam"))
    assert chosen_here(only, package)[0] == "attention"


def test_images_that_cannot_be_read_are_passed_over(to_grade, tmp_path):
    (tmp_path / "03.png").write_bytes(b"no image")
    table = grade_package(KeyholePackage(), to_grade, methods=("occlusion",), seed=0, resamples=300)
    assert table.n == 13 and "03.png" not in table.images
    assert any(note.startswith("03.png: passed over.") for note in table.notes)


class Both(KeyholePackage):
    """One that looks at the box, with most weight, and one that looks at everything, for the other class."""

    recipe_of_other = None

    @property
    def parts(self):
        other = BrightPackage(weight=-1.0)
        if self.recipe_of_other:
            other = type("Framed", (BrightPackage,), {"recipe": self.recipe_of_other})(weight=-1.0)
        return ((0.8, KeyholePackage()), (0.2, other))

    def scores_of(self, image):
        return sum(weight * model.scores_of(image) for weight, model in self.parts)


def test_an_ensemble_is_graded_as_one_model_and_so_are_its_maps(to_grade):
    table = grade_package(Both(), to_grade, methods=("occlusion", "grad-cam"), seed=0, resamples=300)
    grade = table.grade_of("occlusion")
    assert table.chosen == "occlusion" and grade.beats_baselines == "yes" and grade.randomisation is None
    assert any(note.startswith("grad-cam: not graded.") and "averages 2 models" in note for note in table.notes)
    assert any(note.startswith("Randomisation test: not estimable") for note in table.notes)
    file = to_grade.files[0]
    right = graded(Both(), file, explain_image(Both(), file, image="x.png", target="yes"), table, seed=0)
    assert right.grade.passed and right.grade.method_gain == grade.relevance_gain
    assert not graded(Both(), file, dataclasses.replace(right, map=-right.map), table, seed=0).grade.passed
    assert first_named(Both(), ("grad-cam", "lime")) == "lime"


def test_members_that_see_different_parts_have_no_grade_and_the_table_says_why(to_grade):
    framed = Both()
    framed.recipe_of_other = dataclasses.replace(framed.recipe, crop_margins=True)
    table = grade_package(framed, to_grade, seed=0)
    assert (table.n, table.grades, table.chosen) == (0, (), "")
    assert "Not estimable. keyhole: its members see different parts" in table.notes[0]
    explanation = explain_image(framed, to_grade.files[0], image="x.png")
    assert graded(framed, to_grade.files[0], explanation, table, seed=0).grade is None
    assert first_named(framed, ("occlusion",)) is None
    assert chosen_words(table).startswith("automatically, without grades: Not estimable.")


def test_what_is_graded_of_a_package_with_views_is_the_image_itself_and_the_class_that_the_package_says(to_grade):
    class Looking(KeyholePackage):
        """Over its views it says the other class."""

        views = (0, 1)

        @property
        def plain(self):
            return KeyholePackage()

        def scores(self, pixels):
            return super().scores(pixels)[:, ::-1]

    few = dataclasses.replace(to_grade, files=to_grade.files[:4], paths=to_grade.paths[:4], groups=np.arange(4))
    table = grade_package(Looking(), few, methods=("occlusion",), seed=0, resamples=50)
    assert any("2 views, and says another class of 4 of 4 images" in note for note in table.notes)
    plain = grade_package(KeyholePackage(), few, methods=("occlusion",), seed=0, resamples=50)
    # The keyhole has two classes: what speaks for one speaks against the other, and both are as faithful.
    gains = [one.grade_of("occlusion").relevance_gain.value for one in (table, plain)]
    assert gains[0] == pytest.approx(gains[1], abs=0.02)


def test_masks_are_read_where_there_are_some(to_grade, tmp_path):
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[8:14, 16:22] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = dataclasses.replace(to_grade, masks={"00.png": (tmp_path / "mask.png",)})
    found = grade_package(KeyholePackage(), given, methods=("occlusion",), seed=0, resamples=300).grade_of("occlusion")
    assert found.localisation.energy.n == 1 and found.localisation.energy.value > 3 * found.localisation.chance.value


def test_one_map_gets_its_grade_and_a_wrong_one_is_drawn_in_grey(to_grade):
    package, file = KeyholePackage(), to_grade.files[0]
    right = graded(package, file, explain_image(package, file, image="x.png", target="yes"), None, seed=0)
    assert right.grade.passed and right.grade.reason == ""
    wrong = graded(package, file, dataclasses.replace(right, map=-right.map), None, seed=0)
    assert not wrong.grade.passed and "beats 0 of 20 random maps" in wrong.grade.reason
    picture = np.full((SIZE, SIZE, 3), 40, dtype=np.uint8)
    drawn = {grey: draw_map(picture, right.map.astype(np.float64), grey=grey) for grey in (False, True)}
    hues = {grey: int(np.ptp(one.astype(int), axis=2).max()) for grey, one in drawn.items()}
    assert hues[True] == 0 < hues[False] and (drawn[True] != picture).any()


def test_grades_beside_a_package_are_found_if_they_are_this_package_s(to_grade, tmp_path):
    package, folder = KeyholePackage(), tmp_path / "model" / "package"
    folder.mkdir(parents=True)
    assert kept_grades(package) is None
    package.folder = folder
    assert kept_grades(package) is None
    table = grade_package(package, to_grade, methods=("occlusion",), seed=0, resamples=300)
    write_record(folder.parent / GRADES, table)
    assert kept_grades(package) == table
    write_record(folder.parent / GRADES, dataclasses.replace(table, package="b" * 64))
    assert kept_grades(package) is None
    (folder.parent / GRADES).write_text("{")
    assert kept_grades(package) is None


def test_maps_are_asked_for_at_the_input_and_come_back_from_the_original():
    model = BrightnessNetwork()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 1), dtype=np.uint8)
    placement = Placement(90, 60, 5, 0, 85, 60, 0, 4, SIZE, 28)
    found = method_of(model, "grad-cam", seed=0)(pixels, (placement, whole_image(SIZE)), np.array([1, 1]))
    whole = explain_pixels(model, pixels[1], whole_image(SIZE), image="x", method="grad-cam", target="yes").map
    np.testing.assert_array_equal(found.values[1], whole)
    assert not found.values[0, :, :4].any() and not found.values[0, :, 28:].any() and found.values[0, :, 4:28].any()
    own = at_input(placement)
    assert (own.height, own.width) == (SIZE, 24)
    there = restore_map(found.values[0], placement)
    back = map_at_input(there, placement, size=SIZE)
    assert there.shape == (90, 60) and np.corrcoef(back.ravel(), found.values[0].ravel())[0, 1] > 0.97


def test_wishes_that_cannot_be_met_are_told_before_work(tmp_path):
    check_explanation(ExplanationSettings(methods=["grad-cam", "occlusion"], masks=tmp_path))
    with pytest.raises(StudyError) as told:
        check_explanation(ExplanationSettings(methods=["grad-cam", "gradcam"], masks=tmp_path / "absent"))
    text = str(told.value)
    assert "explanation.methods[1]: no method has this name. Known: " in text and "'gradcam'" in text
    assert "explanation.masks: must be a folder that exists" in text


def test_without_grades_the_first_named_method_that_is_defined_is_taken():
    package = BrightPackage()
    assert first_named(package, ("gradient", "occlusion", "grad-cam")) == "occlusion"  # it has no network to differentiate
    assert first_named(package, ()) is None
    assert first_named(package, ("gradient",)) is None
