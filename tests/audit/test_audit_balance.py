from __future__ import annotations

import numpy as np
import pytest
from audit_data import data_set, entry, plain
from scipy.stats import binom, binomtest

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.balance import (
    TARGET_IMAGES,
    ClassImbalance,
    SampleSize,
    SmallTestClass,
    SmallValidationPart,
    misses_allowed,
    positives_needed,
    proven_sensitivity,
    wilson_half_width,
)


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


@pytest.mark.parametrize(("hits", "n"), [(9, 10), (0, 5), (45, 50), (1, 1), (180, 200)])
def test_the_half_width_is_that_of_the_wilson_interval(hits, n):
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson_half_width(hits / n, n) == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)


@pytest.mark.parametrize(("misses", "n"), [(0, 59), (1, 93), (2, 133), (12, 400), (5, 5), (0, 1)])
def test_the_proven_sensitivity_is_the_exact_one_sided_bound(misses, n):
    exact = binomtest(n - misses, n, alternative="greater").proportion_ci(0.95, method="exact").low
    assert proven_sensitivity(n, misses) == pytest.approx(exact, abs=1e-12)
    if misses == 0:
        assert proven_sensitivity(n, 0) == pytest.approx(0.05 ** (1 / n))


@pytest.mark.parametrize("sensitivity", [0.9, 0.95, 0.98])
def test_allowed_misses_and_needed_positives_agree_with_the_binomial_distribution(sensitivity):
    for n in [*range(1, 60, 7), *range(60, 320, 20)]:
        allowed = misses_allowed(n, sensitivity=sensitivity)
        assert allowed == np.count_nonzero(binom.cdf(np.arange(n + 1), n, 1 - sensitivity) <= 0.05) - 1
        if allowed >= 0:
            assert proven_sensitivity(n, allowed) >= sensitivity > proven_sensitivity(n, allowed + 1)
            assert positives_needed(allowed, sensitivity=sensitivity) <= n
    assert binom.cdf(3, positives_needed(3, sensitivity=sensitivity), 1 - sensitivity) <= 0.05
    assert binom.cdf(3, positives_needed(3, sensitivity=sensitivity) - 1, 1 - sensitivity) > 0.05


def test_the_published_table_of_positives_is_met():
    assert [positives_needed(misses) for misses in (0, 1, 2)] == [59, 93, 124]
    assert [misses_allowed(n) for n in (58, 59, 100, 133, 200, 400, 1000)] == [-1, 0, 1, 2, 4, 12, 38]
    assert [positives_needed(0, sensitivity=target) for target in (0.9, 0.98, 0.99)] == [29, 149, 299]


def test_the_number_that_narrows_the_interval_is_the_smallest_that_does():
    assert wilson_half_width(0.9, TARGET_IMAGES) <= 0.05 < wilson_half_width(0.9, TARGET_IMAGES - 1)


# ---------------------------------------------------------------------------------------------------- BAL801


@pytest.mark.parametrize(("rare", "severity"), [(50, None), (49, "info"), (10, "info"), (9, "warning")])
def test_bal801_warns_above_ten_to_one_and_mentions_two_to_one(rare, severity):
    found = run(ClassImbalance(), *plain("healthy", 100), *plain("cyst", rare))
    assert (found and found.severity) == severity


def test_bal801_names_the_rarest_class_and_counts_readable_images_only():
    found = run(
        ClassImbalance(), *plain("healthy", 100), *plain("cyst", 8), *plain("bone", 5), entry("bone/z.png", status="unreadable")
    )
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message == "healthy has 100 readable images, bone has 5: 20.0 to 1."
    assert [piece.note for piece in found.evidence] == ["bone: 5 readable images", "cyst: 8 readable images"]


def test_bal801_reports_a_class_without_a_readable_image():
    assert "100 to none" in run(ClassImbalance(), *plain("healthy", 100), entry("cyst/a.png", status="empty")).message


def test_bal801_does_not_apply_to_one_class():
    with pytest.raises(NotApplicable):
        run(ClassImbalance(), *plain("healthy", 100))


# ---------------------------------------------------------------------------------------------------- BAL802


def test_bal802_counts_independent_test_images():
    copies = [entry(f"test/cyst/copy{number}.png", "x") for number in range(40)]
    found = run(SmallTestClass(), *plain("test/healthy", 30), *plain("test/cyst", 9), *copies)
    assert found.count == 1
    assert found.message == (
        "1 class with fewer than 30 independent test images: cyst 10 (± 19 points at a sensitivity of 90 %)."
    )


def test_bal802_passes_thirty_and_does_not_apply_without_test_part():
    assert run(SmallTestClass(), *plain("test/healthy", 30), *plain("test/cyst", 30), *plain("train/cyst", 1)) is None
    with pytest.raises(NotApplicable):
        run(SmallTestClass(), *plain("healthy", 30))


def test_bal802_names_a_class_that_the_test_part_lacks():
    found = run(SmallTestClass(), *plain("test/healthy", 30), *plain("train/cyst", 30))
    assert found.message.endswith("cyst 0.")


def test_bal802_does_not_count_test_images_that_also_train():
    leaks = [entry(f"{part}/cyst/leak{number}.png", f"{number}") for number in range(5) for part in ("test", "train")]
    found = run(SmallTestClass(), *plain("test/healthy", 30), *plain("test/cyst", 27), *leaks)
    assert "cyst 27 " in found.message


# ---------------------------------------------------------------------------------------------------- BAL803


def test_bal803_says_how_wide_and_what_can_be_shown():
    found = run(
        SampleSize(), *plain("test/healthy", 141), *plain("test/cyst", 133), *plain("test/bone", 70), *plain("train/cyst", 9)
    )
    assert (found.severity, found.count) == ("info", 2)
    assert found.message == (
        "In the shipped test part, 2 of 3 classes have 70 to 133 independent images, fewer than the 141 that keep a sensitivity "
        "of 90 % within ± 5 points; for bone, a sensitivity of at least 95 % can be shown only without a miss (one miss is "
        "allowed from 93 images)."
    )
    assert [piece.note for piece in found.evidence] == [
        "bone: 70 independent test images (± 7 points at a sensitivity of 90 %); a sensitivity of at least 95 % can be shown "
        "only without a miss (one miss is allowed from 93 images)",
        "cyst: 133 independent test images (± 5 points at a sensitivity of 90 %); a sensitivity of at least 95 % can be shown "
        "only with at most 2 misses (3 from 153 images)",
    ]


@pytest.mark.parametrize(("number", "severity"), [(59, "info"), (58, "warning")])
def test_bal803_warns_where_not_even_a_perfect_result_shows_the_sensitivity(number, severity):
    found = run(SampleSize(), *plain("test/healthy", 200), *plain("test/cyst", number))
    assert found.severity == severity
    assert ("cannot be shown even without a miss (59 images are needed)" in found.message) is (severity == "warning")


def test_bal803_passes_enough_and_counts_groups_that_do_not_leak():
    enough = [*plain("test/healthy", 141), *plain("test/cyst", 140)]
    assert run(SampleSize(), *enough, entry("test/cyst/one.png", "x")) is None
    copies = [entry("test/cyst/one.png", "x"), entry("train/cyst/one.png", "x"), entry("test/cyst/two.png", "x")]
    assert run(SampleSize(), *enough, *copies).count == 1


def test_bal803_reckons_with_the_usual_share_where_no_test_part_is_shipped():
    found = run(SampleSize(), *plain("healthy", 1000), *plain("cyst", 100))
    assert found.severity == "info"
    assert found.message.startswith(
        "In a test part of the usual 20 %, 1 of 2 classes has about 20 independent images, fewer than the 141 "
    )
    assert run(SampleSize(), *plain("healthy", 1000), *plain("cyst", 705)) is None


def test_bal803_does_not_apply_to_nothing():
    with pytest.raises(NotApplicable):
        run(SampleSize(), entry("a/1.png", status="empty"), entry("b/1.png", status="empty"))


# ---------------------------------------------------------------------------------------------------- SPL852


def test_spl852_states_the_interval_of_sixteen_images():
    found = run(
        SmallValidationPart(), *plain("validation/normal", 8), *plain("validation/pneumonia", 8), *plain("train/normal", 50)
    )
    assert (found.severity, found.count) == ("warning", 16)
    assert found.message == (
        "The shipped validation part has 16 readable images, 16 independent (rarest class, normal: 8): "
        "an accuracy of 90 % measured on it would be uncertain by ± 15 points (95 % interval)."
    )
    assert len(found.evidence[0].paths) == 16


@pytest.mark.parametrize(("healthy", "cyst", "found"), [(100, 40, True), (100, 41, False), (300, 9, True), (300, 10, False)])
def test_spl852_asks_for_141_images_and_10_of_every_class(healthy, cyst, found):
    files = [*plain("validation/healthy", healthy), *plain("validation/cyst", cyst), *plain("train/cyst", 5)]
    assert (run(SmallValidationPart(), *files) is not None) is found


def test_spl852_does_not_apply_without_validation_part():
    with pytest.raises(NotApplicable):
        run(SmallValidationPart(), *plain("train/healthy", 30))
