from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_data import context_of, entry
from scipy import stats

from vitrail.audit import NotApplicable
from vitrail.audit import separability as room
from vitrail.audit.separability import ClassSeparability, separability, standardised
from vitrail.datasets.facts import FACTS, UNKNOWN
from vitrail.records import Manifest


def drawn(seed: int, n: int, *, apart: float = 1.5, classes: int = 3, d: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of unit variance within classes, whose first number moves with the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    vectors = rng.normal(size=(n, d))
    vectors[:, 0] += apart * labels
    return vectors, labels


# ---------------------------------------------------------------------------------------------------- statistics


def test_one_number_per_image_gives_the_textbooks_analysis_of_variance():
    vectors, labels = drawn(0, 90, d=1)
    found = separability(vectors, labels, 3)
    samples = [vectors[labels == number, 0] for number in range(3)]
    assert found.f_ratio == pytest.approx(stats.f_oneway(*samples).statistic)
    assert found.within == pytest.approx([sample.var(ddof=1) for sample in samples])
    assert found.explained == pytest.approx(2 * (found.f_ratio - 1) / (2 * (found.f_ratio - 1) + 90))  # Hays 1963
    sizes = np.array([len(sample) for sample in samples])
    mean_size = (90 - (sizes**2).sum() / 90) / 2
    assert found.ratio == pytest.approx((found.f_ratio - 1) / mean_size)
    assert found.between == pytest.approx(found.ratio * found.pooled)


def test_many_numbers_are_summed_before_ratios_are_taken():
    vectors, labels = drawn(1, 200)
    found = separability(vectors, labels, 3)
    means = np.array([vectors[labels == number].mean(axis=0) for number in range(3)])
    within = ((vectors - means[labels]) ** 2).sum()
    between = sum((labels == number).sum() * ((means[number] - vectors.mean(axis=0)) ** 2).sum() for number in range(3))
    assert found.pooled == pytest.approx(within / 197 / 30)
    assert found.explained == pytest.approx((between - 2 * within / 197) / (between + within + within / 197))


def test_the_interval_is_the_jackknifes():
    vectors, labels = drawn(2, 60)
    found = separability(vectors, labels, 3)
    left_out = np.array([separability(np.delete(vectors, row, 0), np.delete(labels, row), 3).explained for row in range(60)])
    error = np.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert (found.low, found.high) == pytest.approx((found.explained - 1.959964 * error, found.explained + 1.959964 * error))


@pytest.mark.parametrize("factor", [0.001, 7.0, 1e5])
def test_scale_and_origin_do_not_matter(factor):
    vectors, labels = drawn(3, 150)
    plain, other = separability(vectors, labels, 3), separability(vectors * factor + 3, labels, 3)
    for name in ("f_ratio", "ratio", "explained", "low", "high"):
        assert getattr(other, name) == pytest.approx(getattr(plain, name), rel=1e-6)
    assert other.pooled == pytest.approx(plain.pooled * factor**2)


def test_ten_times_as_many_images_change_the_usual_ratio_and_not_the_others():
    few = [separability(*drawn(seed, 150), 3) for seed in range(20)]
    many = [separability(*drawn(100 + seed, 1500), 3) for seed in range(20)]

    def mean(results, name):
        return np.mean([getattr(result, name) for result in results])

    assert mean(many, "ratio") == pytest.approx(mean(few, "ratio"), rel=0.1)
    assert mean(many, "explained") == pytest.approx(mean(few, "explained"), rel=0.1)
    assert mean(many, "f_ratio") - 1 == pytest.approx(10 * (mean(few, "f_ratio") - 1), rel=0.15)
    truth = 1.5**2 * 2 / 3  # variance of the three classes' means
    assert mean(many, "explained") == pytest.approx(truth / (truth + 30), rel=0.05)


def test_labels_drawn_by_lot_explain_nothing():
    found = [separability(*drawn(seed, 200, apart=0), 3) for seed in range(100)]
    assert abs(np.mean([one.explained for one in found])) < 0.001
    assert abs(np.mean([one.ratio for one in found])) < 0.001
    assert np.mean([one.low <= 0 <= one.high for one in found]) >= 0.9


def test_the_interval_covers():
    found = [separability(*drawn(seed, 200), 3) for seed in range(200)]
    centre = np.mean([one.explained for one in found])
    assert 0.9 <= np.mean([one.low <= centre <= one.high for one in found]) <= 0.99


def test_what_cannot_be_split_is_refused():
    vectors, labels = drawn(0, 30)
    for wrong in (
        (vectors, np.zeros(30, dtype=int), 1),
        (vectors, np.where(np.arange(30) == 0, 1, 0), 2),
        (np.ones((30, 4)), labels, 3),
        (np.eye(3)[labels], labels, 3),
    ):
        with pytest.raises(ValueError, match="separability: needs"):
            separability(*wrong)


# ---------------------------------------------------------------------------------------------------- thumbnails


def test_thumbnails_are_means_of_squares_with_equal_brightness_and_contrast():
    pixels = np.random.default_rng(0).integers(0, 256, (70, 128, 128), dtype=np.uint8)
    pixels[3] = 9
    rows = np.arange(1, 70)
    expected = pixels[1:].reshape(69, 32, 4, 32, 4).mean(axis=(2, 4)).reshape(69, -1)
    spread = expected.std(axis=1, keepdims=True)
    expected = (expected - expected.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    assert standardised(pixels, rows) == pytest.approx(expected, abs=1e-4)
    assert (standardised(pixels, np.array([3])) == 0).all()
    darker = (pixels // 2).astype(np.uint8)
    assert np.abs(standardised(darker, rows) - standardised(pixels, rows)).mean() < 0.02


# ---------------------------------------------------------------------------------------------------- the check


def made(folder, *, apart: float, count: int = 60, classes=("cyst", "healthy")) -> Manifest:
    """Return images of noise; those of the second class have a brighter left half."""
    rng = np.random.default_rng(0)
    files, pixels = [], []
    for number, label in enumerate(classes):
        for image in range(count):
            blocks = rng.normal(100, 20, (16, 16))
            blocks[:, :8] += apart * number
            pixels.append(np.kron(blocks, np.ones((8, 8))).clip(0, 255).astype(np.uint8))
            files.append(entry(f"{label}/{image:04d}.png"))
    np.save(folder / "facts.npy", np.full(len(files), UNKNOWN, dtype=FACTS))
    np.save(folder / "t.npy", np.array(pixels))
    return Manifest(folder, tuple(sorted(classes)), tuple(files), folder / "t.npy", folder / "facts.npy")


def run(manifest, **changes):
    return ClassSeparability().run(context_of(manifest, **changes))


def test_bal805_gives_the_share_its_interval_and_both_ratios(tmp_path):
    manifest = made(tmp_path, apart=15)
    found = run(manifest)
    expected = separability(standardised(manifest.thumbnails, np.arange(120)), manifest.labels, 2)
    assert (found.severity, found.count) == ("info", 2)
    assert found.message.startswith(f"The class explains {100 * expected.explained:.1f} % of the differences between images")
    assert f"(95 % interval {100 * expected.low:.1f} to {100 * expected.high:.1f} %)" in found.message
    assert (
        f"ratio {expected.ratio:.3f} at any number of images (the usual ratio, F = {expected.f_ratio:,.1f}, grows"
        in found.message
    )
    assert sorted(piece.note.split(":")[0] for piece in found.evidence) == ["cyst", "healthy"]
    for piece in found.evidence:
        assert "60 independent images" in piece.note
        assert len(set(piece.paths)) == 2
        assert all(path.startswith(piece.note.split(":")[0]) for path in piece.paths)


@pytest.mark.parametrize(("apart", "words"), [(0, "look alike"), (12, "far more than the classes do"), (60, "already differ")])
def test_bal805_says_what_the_share_means(tmp_path, apart, words):
    assert words in run(made(tmp_path, apart=apart)).message


def test_bal805_counts_a_group_once_and_leaves_out_what_is_not_used(tmp_path):
    manifest = made(tmp_path, apart=15)
    plain = run(manifest)
    twice = np.concatenate([manifest.thumbnails, manifest.thumbnails])
    np.save(tmp_path / "twice.npy", twice)
    copies = tuple(replace(file, path=f"{file.path}.copy") for file in manifest.files)
    doubled = replace(manifest, files=(*manifest.files, *copies), thumbnails_path=tmp_path / "twice.npy")
    assert run(doubled).message == plain.message
    broken = tuple(replace(file, status="unreadable") for file in copies)
    assert run(replace(doubled, files=(*manifest.files, *broken))).message == plain.message


def test_bal805_measures_a_seeded_choice_of_very_many_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MOST_IMAGES", 80)
    found = run(made(tmp_path, apart=15))
    assert found.message.endswith("grows with it); measured on 80 of 120 independent images.")
    assert found == run(made(tmp_path, apart=15))


def test_bal805_does_not_apply_where_nothing_can_be_compared(tmp_path):
    manifest = made(tmp_path, apart=15)
    only = tuple(replace(file, status="unreadable") if file.label == "cyst" else file for file in manifest.files)
    with pytest.raises(NotApplicable, match="fewer than two classes"):
        run(replace(manifest, files=only))
    none = tuple(replace(file, status="unreadable") for file in manifest.files)
    with pytest.raises(NotApplicable, match="fewer than two classes"):
        run(replace(manifest, files=none))
    np.save(tmp_path / "grey.npy", np.full((120, 128, 128), 7, dtype=np.uint8))
    with pytest.raises(NotApplicable, match="all the same"):
        run(replace(manifest, thumbnails_path=tmp_path / "grey.npy"))
