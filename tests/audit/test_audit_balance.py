from __future__ import annotations

import pytest
from audit_data import data_set, entry, plain
from scipy.stats import binomtest

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.balance import ClassImbalance, SmallTestClass, SmallValidationPart, wilson_half_width


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


@pytest.mark.parametrize(("hits", "n"), [(9, 10), (0, 5), (45, 50), (1, 1), (180, 200)])
def test_the_half_width_is_that_of_the_wilson_interval(hits, n):
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson_half_width(hits / n, n) == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)


# ---------------------------------------------------------------------------------------------------- BAL801


@pytest.mark.parametrize(("rare", "found"), [(10, False), (9, True)])
def test_bal801_warns_above_ten_to_one(rare, found):
    assert (run(ClassImbalance(), *plain("healthy", 100), *plain("cyst", rare)) is not None) is found


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
