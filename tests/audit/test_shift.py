from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_data import context_of, entry, nothing_known
from scipy import stats

from vitrail.audit import NotApplicable
from vitrail.audit.shift import Shift, discoveries, ranges_of, regrouping_test, stability_index
from vitrail.datasets.facts import FACTS
from vitrail.records import Manifest

# ---------------------------------------------------------------------------------------------------- statistics


def test_the_stability_index_is_the_sum_that_it_is_defined_by():
    test, training = np.array([30.0, 10.0, 60.0]), np.array([200.0, 100.0, 100.0])
    p, q = (test + 0.5) / 101.5, (training + 0.5) / 401.5
    assert stability_index(test, training) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p))
    assert stability_index(training / 4, training) == pytest.approx(0, abs=1e-4)
    assert np.isfinite(stability_index(np.array([10.0, 0.0]), np.array([0.0, 10.0])))


def test_discoveries_are_those_of_benjamini_and_hochberg():
    for seed in range(50):
        p = np.random.default_rng(seed).beta(0.3, 2, 30)
        assert (discoveries(p, share=0.05) == (stats.false_discovery_control(p) <= 0.05)).all()
    assert discoveries([]).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_with_one_image_per_unit_the_test_is_pearsons(seed):
    rng = np.random.default_rng(seed)
    in_test, codes = rng.random(300) < 0.3, rng.integers(0, 5, 300)
    table = np.array([np.bincount(codes[part], minlength=5) for part in (in_test, ~in_test)])
    statistic = stats.chi2_contingency(table, correction=False).statistic * 299 / 300
    p = regrouping_test(codes, rng.permutation(300), in_test, neighbours=0)
    assert p == pytest.approx(stats.chi2.sf(statistic, 4), rel=1e-6)


def clustered(seed: int, patients: int = 120, per_patient: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ranges, patients and parts of images that resemble the other images of their patient; the parts are drawn."""
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.normal(size=patients), per_patient) + 0.3 * rng.normal(size=patients * per_patient)
    codes = np.digitize(values, np.quantile(values, [0.25, 0.5, 0.75]))
    return codes, np.repeat(np.arange(patients), per_patient), np.repeat(rng.random(patients) < 0.4, per_patient)


@pytest.mark.parametrize("seed", range(4))
def test_the_p_value_is_that_of_dealing_patients_out_anew(seed):
    codes, patients, in_test = clustered(seed)
    rng = np.random.default_rng(100 + seed)
    counts = np.zeros((120, 4))
    np.add.at(counts, (patients, codes), 1)
    surplus = counts - counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    inverse = np.linalg.pinv(surplus.T @ surplus)
    of_test = in_test[::5]

    def statistic(chosen):
        total = surplus[chosen].sum(axis=0)
        return total @ inverse @ total

    anew = np.array([statistic(rng.permutation(of_test)) for _ in range(2000)])
    expected = (anew >= statistic(of_test) - 1e-12).mean()
    assert regrouping_test(codes, patients, in_test, neighbours=0) == pytest.approx(expected, abs=0.04)


def test_false_alarms_are_as_rare_as_they_should_be_and_only_with_patients():
    sets = [clustered(seed) for seed in range(300)]
    by_patient = np.mean([regrouping_test(*one, neighbours=0) < 0.05 for one in sets])
    by_image = np.mean([regrouping_test(codes, np.arange(600), part, neighbours=0) < 0.05 for codes, _, part in sets])
    unmarked = np.mean([regrouping_test(codes, np.arange(600), part) < 0.05 for codes, _, part in sets])
    assert 0.01 < by_patient < 0.09
    assert by_image > 0.3
    assert unmarked < by_image / 2  # neighbours that resemble each other count as fewer


def test_ranges_hold_about_equally_many_and_unknown_values_stand_apart():
    values = np.random.default_rng(0).normal(size=1000)
    values[::10] = np.nan
    codes = ranges_of(values, np.arange(1000) % 2 == 0, most=8)
    assert len(set(codes[::10])) == 1
    known = np.bincount(codes[~np.isnan(values)])[1:]
    assert len(known) == 8
    assert known.min() > 90
    assert ranges_of(np.full(50, 512.0), np.arange(50) < 20, most=10).tolist() == [0] * 50


def test_a_part_that_has_one_value_only_leaves_ranges_for_the_other():
    values = np.concatenate([np.full(900, 512.0), np.linspace(100, 900, 100)])
    codes = ranges_of(values, np.arange(1000) >= 900, most=10)
    assert codes.max() >= 4


# ---------------------------------------------------------------------------------------------------- the check


def made(folder, *, seed=0, train=300, test=60, classes=("cyst", "healthy"), change=None, share=None) -> Manifest:
    """Return a data set without shift, or with the change that is made to its images: ``change(label, part, file, facts)``."""
    rng = np.random.default_rng(seed)
    files, facts = [], []
    for number, label in enumerate(classes):
        for part, count in (("train", train), ("test", test)):
            for image in range(int(count * (share or {}).get((label, part), 1))):
                side = int(rng.integers(200, 300))
                file = replace(entry(f"{part}/{label}/{image:05d}.png"), width=side, height=side, mode="L")
                file = replace(file, size_bytes=int(rng.normal(30_000, 4_000)))
                values = dict.fromkeys(FACTS.names, 0.0) | {"mean": rng.normal(80 + 40 * number, 10), "quality": np.nan}
                values |= {"sharpness": rng.lognormal(), "noise": rng.lognormal(), "deviation": rng.normal(50, 5)}
                if change:
                    file, values = change(label, part, file, values)
                files.append(file)
                facts.append(tuple(values[name] for name in FACTS.names))
    order = sorted(range(len(files)), key=lambda place: files[place].path)
    np.save(folder / "facts.npy", np.array([facts[place] for place in order], dtype=FACTS))
    black, _ = nothing_known(len(files))
    return Manifest(folder, tuple(sorted(classes)), tuple(files[place] for place in order), black, folder / "facts.npy")


def run(manifest, **changes):
    return Shift().run(context_of(manifest, **changes))


@pytest.mark.parametrize("seed", range(15))
def test_bal804_is_silent_where_the_parts_are_drawn_from_one_source(tmp_path, seed):
    assert run(made(tmp_path, seed=seed, classes=("a", "b", "c", "d"))) is None


def test_bal804_names_the_property_the_class_and_figures_of_both_parts(tmp_path):
    rng = np.random.default_rng(5)

    def larger(label, part, file, values):
        """A fifth of the test images of one class are ten times as long; the median hardly moves."""
        large = label == "cyst" and part == "test" and rng.random() < 0.35
        return replace(file, size_bytes=file.size_bytes * 10 if large else file.size_bytes), values

    found = run(made(tmp_path, change=larger))
    assert (found.severity, found.count) == ("warning", 1)
    assert found.message.startswith(
        "The test part differs from the training part in 1 property in 1 class: file size of cyst: median 30"
    )
    assert "10th to 90th percentile" in found.message
    assert len(found.evidence) == 1
    assert found.evidence[0].paths
    assert all(path.startswith("test/cyst/") for path in found.evidence[0].paths)


def test_bal804_compares_within_classes_so_that_a_mix_of_classes_is_told_once(tmp_path):
    """The classes differ in brightness; the parts differ in the mix of classes, and in nothing else."""
    found = run(made(tmp_path, train=400, test=200, share={("cyst", "test"): 0.25, ("healthy", "train"): 0.5}))
    assert found.count == 1
    assert "1 property: mix of classes: " in found.message
    assert "healthy 33 % in training, 80 % in test" in found.message


def test_bal804_tells_of_words_and_of_what_is_unknown(tmp_path):
    def saved_anew(label, part, file, values):
        if part == "test":
            return replace(file, format="JPEG"), values | {"quality": 75.0}
        return file, values

    found = run(made(tmp_path, change=saved_anew))
    notes = " ".join(piece.note for piece in found.evidence)
    assert "format of cyst: " in notes
    assert "PNG 100 % in training, 0 % in test" in notes or "JPEG 0 % in training, 100 % in test" in notes
    assert "JPEG quality of healthy: unknown for 100 % in training, 0 % in test" in notes


def test_bal804_counts_patients_not_images(tmp_path):
    """All test images of a class are of 24 patients, and patients differ: no more than chance; as single images it would be."""
    per_patient: dict[tuple[str, str, int], float] = {}
    rng = np.random.default_rng(1)

    def of_patient(label, part, file, values):
        place = int(file.path.split("/")[-1][:5])
        key = (label, part, place % (24 if part == "test" else 120))  # images of a patient do not stand together
        level = per_patient.setdefault(key, rng.normal(80, 20))
        return replace(file, patient=str(key)), values | {"mean": level}

    manifest = made(tmp_path, train=600, test=240, change=of_patient)
    assert run(manifest) is None
    assert run(manifest, groups=tuple(range(len(manifest)))) is not None


def test_bal804_leaves_out_what_leaks(tmp_path):
    """Test images that also train are like training images; only the others are compared."""
    manifest = made(
        tmp_path, change=lambda label, part, file, values: (file, values | {"mean": 200.0 if part == "test" else values["mean"]})
    )
    files = manifest.files
    first = next(file for file in files if file.part == "train")
    copies = tuple(replace(file, sha256=first.sha256) if file.part == "test" and file.label == "cyst" else file for file in files)
    notes = [piece.note for piece in run(replace(manifest, files=copies)).evidence]
    assert any("of healthy" in note for note in notes)
    assert not any("of cyst" in note for note in notes)


def test_bal804_does_not_apply_without_two_parts_or_with_a_handful_of_images(tmp_path):
    with pytest.raises(NotApplicable, match="ships no readable test part"):
        run(made(tmp_path, test=0))
    with pytest.raises(NotApplicable, match="fewer than 20 independent images"):
        run(made(tmp_path, test=9))
    with pytest.raises(NotApplicable, match="fewer than 20 independent images"):
        run(made(tmp_path, train=0))


def test_bal804_explains_itself():
    assert Shift.why.endswith(".")
    assert Shift.explanation.count("\n\n") == 2
