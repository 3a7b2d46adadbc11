"""The shortcut hunt, on models of which it is known what they look at."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from explanation_models import grey_recipe
from explanation_networks import packed
from hunted_models import SIZE, Places, heads
from PIL import Image
from torch import nn

from vitrail.decision import Decision
from vitrail.explanation.grading.asking import method_of
from vitrail.explanation.hunting.changes import BORDER_ALONE, NO_ANATOMY, NO_OUTSIDE, OUTLINE, WHOLE
from vitrail.explanation.hunting.places import OUTSIDE, TEXT
from vitrail.explanation.shortcut_hunt import COARSE, FIRST, HuntImages, hunt_package, hunt_shortcuts, pick_hunted
from vitrail.models.heads import DenseHead

RESAMPLES = 300


def hunted(model, images, **more):
    method = method_of(model, "occlusion", explainer=COARSE, seed=0)
    return hunt_shortcuts(
        model.name, model.classes, model.scores, images, method, method_name="occlusion", seed=0, resamples=RESAMPLES, **more
    )


def survives(hunt, name):
    return next(one for one in hunt.interventions if one.name == name)


def test_a_model_that_looks_only_at_the_corner_is_found_and_all_it_knows_survives():
    hunt = hunted(Places(corner=1, lesion=0), heads())
    assert (hunt.verdict, hunt.points_outside, hunt.survives) == ("found", "yes", "yes")
    assert survives(hunt, NO_ANATOMY).survives.value == 1.0 and survives(hunt, WHOLE).auc.value == 1.0
    for name in (NO_OUTSIDE, OUTLINE):
        assert survives(hunt, name).survives.value == 0.0
    assert survives(hunt, BORDER_ALONE).survives.value == 1.0  # most of the mark lies in a border of 4 pixels
    assert hunt.message.startswith("Shortcut found: 100 % of what the model adds over chance survives without the anatomy")
    assert "upper left corner" in hunt.message
    corner = next(one for one in hunt.regions if one.region == "upper left corner" and one.target == "yes")
    assert corner.above_chance == "yes" and corner.share.value > 0.9 and corner.area.value < 0.06


def test_a_model_that_looks_only_at_the_lesion_is_not_flagged_though_the_mark_is_there():
    hunt = hunted(Places(corner=0, lesion=1), heads())
    assert (hunt.verdict, hunt.points_outside, hunt.survives) == ("not found", "no", "no")
    assert survives(hunt, NO_ANATOMY).survives.value == 0.0 and survives(hunt, NO_OUTSIDE).survives.value == 1.0
    assert hunt.message.startswith("No shortcut found: 0 %")
    assert hunt.smallest_found in (0.05, 0.1, 0.2, 0.5) and "would show a made-up mark" in hunt.message


def test_of_a_model_that_uses_both_the_share_is_what_the_mark_can_know():
    # The mark stands in 12 of 20 sick images, the lesion in all: without anatomy the AUC is 12/20 + 8/20 x 0.5 = 0.8.
    hunt = hunted(Places(corner=1, lesion=1), heads(40, marked=0.6))
    assert survives(hunt, WHOLE).auc.value == 1.0
    assert survives(hunt, NO_ANATOMY).auc.value == pytest.approx(0.8)
    left = survives(hunt, NO_ANATOMY).survives
    assert left.value == pytest.approx(0.6) and 0.3 < left.low < 0.6 < left.high < 0.9
    assert hunt.beyond_outline.value == pytest.approx(0.6)
    assert hunt.verdict == "found" and f"60 % [{100 * left.low:.0f}, {100 * left.high:.0f}]" in hunt.message


def test_one_sign_alone_is_no_finding():
    images, model = heads(), Places(corner=1, lesion=0)
    inner = method_of(Places(corner=0, lesion=1), "occlusion", explainer=COARSE, seed=0)
    hunt = hunt_shortcuts(model.name, model.classes, model.scores, images, inner, method_name="x", seed=0, resamples=RESAMPLES)
    assert (hunt.verdict, hunt.survives, hunt.points_outside) == ("not found", "yes", "no")
    assert "One sign alone is no finding" in hunt.message
    model = Places(corner=0, lesion=1)
    outer = method_of(Places(corner=1, lesion=0), "occlusion", explainer=COARSE, seed=0)
    hunt = hunt_shortcuts(model.name, model.classes, model.scores, images, outer, method_name="x", seed=0, resamples=RESAMPLES)
    assert (hunt.verdict, hunt.survives, hunt.points_outside) == ("not found", "no", "yes")
    assert "does not need what is there" in hunt.message


def test_what_the_outline_tells_is_no_shortcut():
    class Size(Places):
        """It counts what is no ground: the size of the disc."""

        def scores(self, pixels):
            yes = (pixels > 50).mean(axis=(1, 2, 3))
            return np.stack([1 - yes, yes], axis=1)

    images = heads(lesions=0.0, marked=0.0)
    sizes = (images.pixels > 50).mean(axis=(1, 2, 3))
    images = dataclasses.replace(images, truth=(sizes > np.median(sizes)).astype(np.int64))
    hunt = hunted(Size(), images)
    assert survives(hunt, NO_ANATOMY).survives.value > 0.8 and hunt.survives == "no"
    assert abs(hunt.beyond_outline.value) < 0.1 and "its outline alone carries" in hunt.message


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (heads(14), "7 images of a class"),
        (dataclasses.replace(heads(), groups=np.arange(40) // 8), "5 images of a class"),
        (dataclasses.replace(heads(), pixels=np.full((40, SIZE, SIZE, 1), 90, dtype=np.uint8)), "0 images of a class"),
        (dataclasses.replace(heads(), truth=np.random.default_rng(3).permutation(40) % 2), "not surely better than chance"),
    ],
    ids=["few images", "few groups", "no anatomy", "no skill"],
)
def test_not_estimable_is_an_answer(images, reason):
    hunt = hunted(Places(corner=1, lesion=1), images)
    assert hunt.verdict == "not estimable" and hunt.smallest_found is None
    assert hunt.message.startswith("Not estimable: ") and reason in hunt.message


def test_images_without_anatomy_are_counted_and_left_out():
    images = heads()
    pixels = images.pixels.copy()
    pixels[:3] = 90
    hunt = hunted(Places(), dataclasses.replace(images, pixels=pixels))
    assert (hunt.n, hunt.with_anatomy) == (40, 37) and survives(hunt, WHOLE).auc.n == 37
    assert "3 images without an estimable anatomy: nothing stands out in it." in hunt.notes


def test_the_same_seed_gives_the_same_hunt():
    assert hunted(Places(corner=1, lesion=1), heads()) == hunted(Places(corner=1, lesion=1), heads())


def test_images_are_picked_of_every_class_by_turns_and_of_new_groups_first():
    truth, groups = np.array([0] * 30 + [1] * 6), np.array([*np.repeat(np.arange(10), 3), *range(10, 16)])
    chosen = pick_hunted(truth, groups, most=12, seed=1)
    assert np.bincount(truth[chosen]).tolist() == [6, 6] and len(np.unique(groups[chosen])) == 12
    assert len(set(pick_hunted(truth, groups, most=99, seed=1).tolist())) == 36


class Package(Places):
    """The model as a package that reads files."""

    fingerprint = "a" * 64
    views = (0,)
    decision = None

    @property
    def parts(self):
        return ((1.0, self),)

    @property
    def plain(self):
        return self

    def prepare(self, image):
        from vitrail.preprocess import prepare_file

        return prepare_file(image, self.recipe)


def written(images: HuntImages, folder):
    files = [folder / f"{number:02d}.png" for number in range(len(images))]
    for file, pixels in zip(files, images.pixels, strict=True):
        Image.fromarray(pixels[..., 0]).save(file)
    return files


def test_a_package_is_hunted_on_files_and_letters_are_found(tmp_path):
    images = heads(24)
    files = written(images, tmp_path)
    (tmp_path / "05.png").write_bytes(b"no image")
    paths = tuple(file.name for file in files)
    hunt = hunt_package(Package(corner=1, lesion=0), files, paths, images.truth, images.groups, seed=0, resamples=RESAMPLES)
    assert hunt.verdict == "found" and hunt.n == 23 and hunt.method == "occlusion" and hunt.package == "a" * 64
    assert any(note.startswith("05.png: passed over.") for note in hunt.notes)
    assert {one.region for one in hunt.regions} >= {OUTSIDE, "border"} and TEXT not in {one.region for one in hunt.regions}

    both = ((0.6, Package(corner=1, lesion=0)), (0.4, Package(corner=0, lesion=1, name="other")))
    ensemble = SimpleNamespace(name="both", parts=both, fingerprint="b" * 64, classes=both[0][1].classes, decision=None)
    hunt = hunt_package(ensemble, files, paths, images.truth, images.groups, seed=0, resamples=RESAMPLES)
    assert (hunt.verdict, hunt.model, hunt.package, hunt.n) == ("found", "both", "b" * 64, 23)
    assert survives(hunt, NO_ANATOMY).survives.value == 1.0 and survives(hunt, BORDER_ALONE).survives.value == 1.0
    padded = Package(corner=0, lesion=1, name="padded")
    padded.__class__ = type("Padded", (Package,), {"recipe": dataclasses.replace(padded.recipe, keep_aspect=True)})
    ensemble.parts = (both[0], (0.4, padded))
    hunt = hunt_package(ensemble, files, paths, images.truth, images.groups, seed=0)
    assert (hunt.verdict, hunt.n) == ("not estimable", 0) and "its members see different parts" in hunt.message


class Reluctant(Package):
    """It knows the mark, and names the other class all the same."""

    def scores(self, pixels):
        yes = 0.4 * super().scores(pixels)[:, 1]
        return np.stack([1 - yes, yes], axis=1)


def test_what_a_package_names_is_named_by_its_own_rule(tmp_path):
    images, package = heads(24), Reluctant(corner=1, lesion=0)
    asked = (written(images, tmp_path), [str(number) for number in range(24)], images.truth, images.groups)
    by_highest = survives(hunt_package(package, *asked, seed=0, resamples=RESAMPLES), WHOLE)
    package.decision = Decision("balanced", positive="yes", negative="no", threshold=0.25)
    by_threshold = survives(hunt_package(package, *asked, seed=0, resamples=RESAMPLES), WHOLE)
    assert (by_highest.balanced_accuracy.value, by_threshold.balanced_accuracy.value) == (0.5, 1.0)
    assert by_highest.auc == by_threshold.auc


def test_a_mark_of_a_class_that_the_model_seldom_names_is_found():
    hunt = hunted(Reluctant(corner=1, lesion=0), heads())
    assert hunt.verdict == "found" and survives(hunt, WHOLE).balanced_accuracy.value == 0.5
    corner = next(one for one in hunt.regions if one.region == "upper left corner" and one.target == "yes")
    assert corner.above_chance == "yes" and corner.share.n == 20


def test_maps_that_add_up_place_by_place_lie_where_the_mark_is_under_maximum_pooling():
    class Brightest(nn.Module):
        """The brightest place of the image is all that counts: in ``yes``, the mark."""

        outputs = ("activations", "embedding")

        def forward(self, pixels):
            maps = nn.functional.avg_pool2d(pixels, 4)
            return maps, maps.amax(dim=(2, 3))

    head = DenseHead((np.array([[-9.0], [9.0]], dtype=np.float32),), (np.array([6.0, -6.0], dtype=np.float32),), "relu")
    model = packed(Brightest(), head, grey_recipe(SIZE), "max", ("no", "yes"))
    images = heads(lesions=0.0)
    found = {}
    for name in ("grad-cam", FIRST):
        method = method_of(model, name, seed=0)
        found[name] = hunt_shortcuts(
            "x", model.classes, model.scores, images, method, method_name=name, seed=0, resamples=RESAMPLES
        )
    shares = {
        name: next(one.share.value for one in hunt.regions if one.region == "upper left corner" and one.target == "yes")
        for name, hunt in found.items()
    }
    assert shares[FIRST] > 0.75 and shares["grad-cam"] < 0.15
    assert (found[FIRST].verdict, found[FIRST].survives) == ("found", "yes")
