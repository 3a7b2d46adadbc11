"""The shortcut hunt's own sensitivity: a mark planted in the images of one class is found where a forest has learnt it."""

from __future__ import annotations

import numpy as np
import pytest
from explanation_models import Keyhole
from sklearn.ensemble import ExtraTreesClassifier

from vitrail.datasets import PhantomSettings, make_phantom
from vitrail.explanation.grading.asking import method_of
from vitrail.explanation.hunting.changes import NO_ANATOMY
from vitrail.explanation.shortcut_hunt import COARSE, HuntImages, hunt_shortcuts
from vitrail.preprocess import prepare_file
from vitrail.records import Recipe

SIZE = 48
RECIPE = Recipe(size=SIZE, colour="grey", crop_margins=False, keep_aspect=True, scaling="unit")


def hunt_on_phantom(folder, *, seed, marked):
    """Train a forest on one part of a phantom and hunt on the other."""
    settings = PhantomSettings(
        patients_per_class=40,
        slices_per_patient=1,
        size=64,
        seed=seed,
        test_share=0.3,
        faults={"corner_mark": 1} if marked else {},
    )
    folder.mkdir()
    key = make_phantom(folder / "phantom", settings)
    classes = tuple(sorted({image.label for image in key.images}))
    ready = [prepare_file(folder / "phantom" / "images" / image.path, RECIPE) for image in key.images]
    pixels = np.stack([one for one, _ in ready])
    truth = np.array([classes.index(image.label) for image in key.images])
    held = np.array([image.part == "test" for image in key.images])
    forest = ExtraTreesClassifier(100, random_state=0, max_features=0.1)
    forest.fit(pixels[~held].reshape(np.count_nonzero(~held), -1), truth[~held])

    class Forest(Keyhole):
        def scores(self, pixels):
            return forest.predict_proba(pixels.reshape(len(pixels), -1))

    model = Forest(size=SIZE, classes=classes, name="forest")
    rows = np.flatnonzero(held)
    patients = np.array([image.patient for image in key.images])[rows]
    images = HuntImages(pixels[rows], tuple(ready[row][1] for row in rows), truth[rows], patients)
    method = method_of(model, "occlusion", explainer=COARSE, seed=0)
    hunt = hunt_shortcuts("forest", classes, model.scores, images, method, method_name="occlusion", seed=0, resamples=500)
    return hunt, key


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_a_planted_mark_is_found_and_a_clean_phantom_is_not_flagged(tmp_path, seed):
    hunt, key = hunt_on_phantom(tmp_path / "marked", seed=seed, marked=True)
    (fault,) = key.of_kind("corner_mark")
    assert hunt.verdict == "found" and f"most of {fault.note}" in hunt.message and "upper left corner" in hunt.message
    left = next(one for one in hunt.interventions if one.name == NO_ANATOMY)
    assert left.survives.low > 0.1 and left.auc_of_class[fault.note].value > 0.85
    clean, _ = hunt_on_phantom(tmp_path / "clean", seed=seed, marked=False)
    assert clean.verdict == "not found" and clean.survives == "no"
