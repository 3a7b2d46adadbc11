from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_data import context_of, data_set, plain
from picture_data import blob, blobs, letters, named, scanned, written
from scipy.stats import multivariate_normal

from vitrail.audit import AuditContext, NotApplicable, label_jury
from vitrail.audit.descriptors import neighbours
from vitrail.audit.label_jury import Jury, rehearse
from vitrail.audit.suspicion import LikelyLabelErrors, OffTopicImages
from vitrail.datasets import PhantomSettings, make_phantom, scan_folder

COUNT = 60


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    return scanned(tmp_path_factory.mktemp("right"), blobs(COUNT, rows=96, columns=96))


def mislabelled(context, rows):
    """Return the same images, those of ``rows`` under the other label; every image its own group."""
    files = list(context.manifest.files)
    for row in rows:
        files[row] = replace(files[row], label="glioma" if files[row].label == "cyst" else "cyst")
    manifest = replace(context.manifest, files=tuple(files))
    return context_of(manifest, groups=tuple(range(len(files))), copies=())


# ---------------------------------------------------------------------------------------------------- LBL402


def clouds(count, *, apart, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], count)
    middle = np.array([[0, 0, 0, 0], [apart, 0, 0, 0], [0, apart, 0, 0]])
    return (middle[labels] + rng.normal(size=(3 * count, 4))).astype(np.float32), labels


def jury(vectors, groups=None):
    groups = np.arange(len(vectors)) if groups is None else groups
    return Jury(vectors, neighbours(vectors, groups.tolist()), groups, 3)


def test_the_first_witness_is_linear_discriminant_analysis_out_of_fold():
    vectors, labels = clouds(80, apart=2.0)
    looks = jury(vectors).judge(labels).looks
    fold = label_jury._folds(labels, np.arange(240), 3)
    for number in range(label_jury.FOLDS):
        known = fold != number
        means = np.stack([vectors[known & (labels == label)].mean(axis=0) for label in range(3)])
        within = np.cov((vectors - means[labels])[known].T, bias=True)
        within += 0.1 * np.trace(within) / 4 * np.eye(4)
        density = np.stack([multivariate_normal(mean, within).pdf(vectors[~known]) for mean in means], axis=1)
        np.testing.assert_allclose(looks[~known], density / density.sum(axis=1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_folds_hold_groups_together_and_classes_apart_evenly():
    groups = np.repeat(np.arange(60), 3)
    labels = np.repeat([0, 1, 2], 60)
    fold = label_jury._folds(labels, groups, 3)
    assert all(len(set(fold[groups == group])) == 1 for group in range(60))
    assert (np.histogram2d(labels, fold, bins=(3, 5))[0] == 12).all()


def test_the_classifier_has_never_seen_the_image_nor_its_group():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 5)
    vectors = (rng.normal(size=(40, 12))[patients] + 0.01 * rng.normal(size=(200, 12))).astype(np.float32)
    labels = rng.integers(3, size=40)[patients]
    judged = jury(vectors, patients).judge(labels)
    for witness in (judged.looks, judged.near):
        assert (witness.argmax(axis=1) == labels).mean() < 0.55


def test_images_of_one_group_testify_as_far_as_groups_agree():
    vectors, labels = clouds(60, apart=0.0)
    pure = np.arange(180) // 4
    changed = labels.copy()
    changed[2] = 1
    group = jury(vectors, pure).judge(changed).group
    assert group[2].argmax() == 0
    assert group[2, 0] > 0.9
    mixed = np.random.default_rng(0).permutation(180) // 4
    loose = jury(vectors, mixed).judge(labels).group
    np.testing.assert_allclose(loose, 1 / 3, atol=0.2)
    alone = jury(vectors).judge(labels).group
    assert np.ptp(alone) == 0


def test_a_rehearsal_tells_classes_that_can_be_told_apart_from_those_that_cannot():
    (near, labels), (far, _) = clouds(100, apart=0.2), clouds(100, apart=8.0)
    assert rehearse(jury(far), labels, 3).precision > 0.95
    assert rehearse(jury(near), labels, 3).seen < 0.3


def test_lbl402_finds_planted_label_errors_and_tells_its_precision(right):
    wrong = [3, 20, 41, 66, 90, 111]
    found = LikelyLabelErrors().run(mislabelled(right, wrong))
    paths = [right.manifest.files[row].path for row in wrong]
    listed = [piece.paths[0] for piece in found.evidence]
    assert len(listed) <= 12
    assert len(set(listed[:6]) & set(paths)) >= 5
    assert "in 5 rehearsals with 2 % of the labels made wrong at random, " in found.message
    assert found.evidence[0].note.startswith(("filed under cyst, looks like glioma", "filed under glioma, looks like cyst"))


def test_lbl402_is_no_more_than_information_where_labels_are_right(right):
    found = LikelyLabelErrors().run(mislabelled(right, []))
    assert found is None or (found.severity == "info" and found.count <= 3)


def test_lbl402_does_not_apply_where_looks_say_nothing(right):
    rng = np.random.default_rng(0)
    context = mislabelled(right, np.flatnonzero(rng.random(2 * COUNT) < 0.5).tolist())
    with pytest.raises(NotApplicable, match="made wrong on purpose"):
        LikelyLabelErrors().run(context)


def test_lbl402_does_not_apply_to_a_handful_of_images():
    with pytest.raises(NotApplicable, match="fewer than two classes"):
        LikelyLabelErrors().run(AuditContext.of(data_set(*plain("cyst", 40), *plain("healthy", 9))))


@pytest.mark.slow
def test_lbl402_ranks_swapped_labels_of_phantoms_high(tmp_path):
    planted, seen = 0, 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        key = make_phantom(folder / "phantom", PhantomSettings(seed=seed, faults={"swapped_label": 3}))
        found = LikelyLabelErrors().run(AuditContext.of(scan_folder(folder / "phantom" / "images", cache=folder / "cache")))
        first = {path for piece in found.evidence[:20] for path in piece.paths}
        planted += 3
        seen += sum(fault.paths[0] in first for fault in key.of_kind("swapped_label"))
    assert seen >= 0.75 * planted


# ---------------------------------------------------------------------------------------------------- LBL404


def page() -> np.ndarray:
    picture = np.full((160, 160), 240, dtype=np.uint8)
    for top in range(10, 140, 16):
        picture = written(picture, "please return this page", height=10, at=(8, top), fill=30)
    return picture


STRANGERS = {
    "page": page(),
    "noise": np.random.default_rng(0).integers(0, 256, (160, 160), dtype=np.uint8),
    "stripes": np.tile(np.repeat(np.array([20, 200], dtype=np.uint8), 8), (160, 10)),
    "inverted": 255 - blob(1),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_lbl404_finds_a_stranger_and_nothing_else(kind, tmp_path):
    context = scanned(tmp_path, blobs(40) | {"cyst/stranger.png": STRANGERS[kind]})
    found = OffTopicImages().run(context)
    assert named(found) == {"cyst/stranger.png"}
    assert (found.severity, found.count) == ("warning", 1)


def test_lbl404_finds_a_coloured_picture_among_grey_ones(tmp_path):
    coloured = np.stack([blob(999), np.zeros((160, 160), np.uint8), 255 - blob(999)], axis=2)
    found = OffTopicImages().run(scanned(tmp_path, blobs(40) | {"cyst/stranger.png": coloured}))
    assert named(found) == {"cyst/stranger.png"}
    assert "in colour" in found.message


def test_lbl404_says_nothing_of_colour_where_it_is_common(tmp_path):
    tinted = {path: np.stack([pixels, pixels // 2, pixels // 3], axis=2) for path, pixels in blobs(30).items()}
    assert OffTopicImages().run(scanned(tmp_path, tinted)) is None


def test_lbl404_passes_a_set_of_one_kind_and_does_not_apply_to_a_few(right, tmp_path):
    assert OffTopicImages().run(right) is None
    few = {f"{label}/{letters(number)}.png": blob(number) for label in ("cyst", "healthy") for number in range(10)}
    with pytest.raises(NotApplicable):
        OffTopicImages().run(scanned(tmp_path, few))
