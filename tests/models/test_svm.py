"""Support vector machines: the ONNX graph of a package against the same steps by hand in scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from vitrail.errors import VitrailError
from vitrail.models import svm
from vitrail.models.heads import load_head
from vitrail.study import SvmSettings


def examples(classes, *, count=160, width=9):
    """Overlapping classes of unequal size, on features of different scale."""
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(0.4, count) - 1, classes - 1)
    vectors = generator.normal(size=(count, width)) + 1.5 * np.eye(width)[labels]
    return (vectors * np.geomspace(0.01, 50, width)).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "asked",
    [
        SvmSettings(C=3, components=6),
        SvmSettings(C=3, components=None, gamma=0.05),
        SvmSettings(C=0.5, components=6, kernel="linear"),
    ],
    ids=["rbf", "rbf with gamma, all features", "linear"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_it_scores_as_scikit_learn_does(classes, asked, weighted, tmp_path):
    vectors, labels = examples(classes)

    head, values = svm.fit(
        asked, vectors[:100], labels[:100], groups=np.arange(len(vectors[:100])), class_weights=weighted, seed=3
    )

    exact = vectors.astype(float)
    scaler = StandardScaler().fit(exact[:100])
    training, held_out = scaler.transform(exact[:100]), scaler.transform(exact[100:])
    if asked.components:
        reduction = PCA(asked.components, random_state=3).fit(training)
        training, held_out = reduction.transform(training), reduction.transform(held_out)
    training, held_out = training.astype(np.float32), held_out.astype(np.float32)
    counts = np.bincount(labels[:100])
    weights = (100 / (classes * counts))[labels[:100]] if weighted else np.ones(100)
    folds = StratifiedGroupKFold(min(5, counts.min()), shuffle=True, random_state=3)
    parts = list(folds.split(training, labels[:100], np.arange(100)))
    oracle = CalibratedClassifierCV(SVC(C=asked.C, kernel=asked.kernel, gamma=asked.gamma), cv=parts, ensemble=False)
    expected = oracle.fit(training, labels[:100], sample_weight=weights).predict_proba(held_out)
    np.testing.assert_allclose(head.scores(vectors[100:]), expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.5 and values > 0
    assert head.step == 0.0
    again = load_head(tmp_path, head.save(tmp_path))
    np.testing.assert_array_equal(again.scores(vectors), head.scores(vectors))


def test_scores_are_calibrated_on_images_that_were_not_in_the_fit():
    generator = np.random.default_rng(0)
    vectors, labels = generator.normal(size=(120, 40)).astype(np.float32), np.arange(120) % 2  # nothing to learn
    head, _ = svm.fit(
        SvmSettings(C=1000, components=None), vectors, labels, groups=np.arange(len(vectors)), class_weights=False, seed=0
    )
    assert np.abs(head.scores(generator.normal(size=(200, 40)).astype(np.float32)) - 0.5).max() < 0.3


def test_copies_of_an_image_do_not_calibrate_what_they_taught():
    generator = np.random.default_rng(0)
    once, labels = generator.normal(size=(60, 40)).astype(np.float32), np.arange(60) % 2  # nothing to learn
    vectors, groups, new = np.tile(once, (3, 1)), np.tile(np.arange(60), 3), generator.normal(size=(200, 40)).astype(np.float32)
    asked = SvmSettings(C=1000, components=None)
    kept = svm.fit(asked, vectors, np.tile(labels, 3), groups=groups, class_weights=False, seed=0)[0].scores(new)
    torn = svm.fit(asked, vectors, np.tile(labels, 3), groups=np.arange(180), class_weights=False, seed=0)[0].scores(new)
    assert 2 * np.median(np.abs(kept - 0.5)) < np.median(np.abs(torn - 0.5))


def test_weights_reach_the_scores():
    generator = np.random.default_rng(0)
    labels = (np.arange(200) < 20).astype(np.int64)
    vectors = (generator.normal(size=(200, 4)) + labels[:, None]).astype(np.float32)
    plain, weighted = (
        svm.fit(
            SvmSettings(C=1, components=None), vectors, labels, groups=np.arange(len(vectors)), class_weights=weighted, seed=0
        )[0]
        .scores(vectors)[:, 1]
        .mean()
        for weighted in (False, True)
    )
    assert plain == pytest.approx(0.1, abs=0.03), "keeps the prevalence"
    assert weighted > 0.25


def test_a_class_of_one_image_is_refused_by_name():
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    with pytest.raises(VitrailError, match=r"models\.margin.*at least 2.*Found: 1"):
        svm.fit(
            SvmSettings(name="margin"),
            vectors,
            np.array([0] * 8 + [1]),
            groups=np.arange(len(vectors)),
            class_weights=False,
            seed=0,
        )
    two = svm.fit(
        SvmSettings(), vectors, np.array([0] * 7 + [1] * 2), groups=np.arange(len(vectors)), class_weights=False, seed=0
    )[0]
    assert two.scores(vectors).shape == (9, 2)


def test_its_line_says_what_it_stands_on():
    assert svm.describe(SvmSettings(components=32, kernel="linear")) == (
        "support vector machine, linear kernel on HOG + texture (32 principal components)"
    )
