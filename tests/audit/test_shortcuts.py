from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_data import context_of
from shortcut_data import burn_letter, plain_facts, plain_files, plain_pictures, save, with_size

from vitrail.audit import AuditContext, NotApplicable, shortcut_results
from vitrail.audit.groups import unite
from vitrail.audit.shortcut_results import measure_shortcuts
from vitrail.audit.shortcuts import (
    BorderShortcut,
    CompressionShortcut,
    FileShortcut,
    IntensityShortcut,
    NestedSource,
    OverlayShortcut,
    SourceShortcut,
)
from vitrail.datasets import PhantomSettings, make_phantom, scan_folder

CHECKS = (
    FileShortcut(),
    BorderShortcut(),
    IntensityShortcut(),
    OverlayShortcut(),
    SourceShortcut(),
    CompressionShortcut(),
    NestedSource(),
)
LABELS = ["cyst", "healthy", "tumour"] * 50


def context(folder, *, files=None, pictures=None, facts=None, seed=0):
    files = files or plain_files(LABELS, seed=seed)
    pictures = plain_pictures(len(files), seed=seed) if pictures is None else pictures
    facts = plain_facts(len(files), seed=seed) if facts is None else facts
    return AuditContext.of(save(folder, files, pictures, facts))


def run_all(looked_at):
    found = {}
    for check in CHECKS:
        try:
            finding = check.run(looked_at)
        except NotApplicable:
            continue
        if finding is not None:
            found[finding.code] = finding
    return found


def sized(labels, *, seed=0):
    """Files whose size gives the middle class away, from both sides."""
    rng = np.random.default_rng((seed, 3))
    files = plain_files(labels, seed=seed)
    return [
        with_size(file, int(rng.integers(18_000, 22_000) if file.label == "healthy" else rng.choice([9_000, 40_000]) + number))
        for number, file in enumerate(files)
    ]


# ------------------------------------------------------------------------------------------------ nothing planted


@pytest.mark.parametrize("seed", range(3))
def test_classes_that_differ_in_nothing_pass(tmp_path, seed):
    assert run_all(context(tmp_path, seed=seed)) == {}


def test_few_images_are_not_judged(tmp_path):
    files = plain_files(["cyst"] * 4 + ["healthy"] * 50)
    with pytest.raises(NotApplicable, match="fewer than two classes have 5 independent images"):
        FileShortcut().run(context(tmp_path, files=files))


def test_sources_are_not_judged_where_nothing_names_them(tmp_path):
    looked_at = context(tmp_path)
    for check in (SourceShortcut(), NestedSource()):
        with pytest.raises(NotApplicable, match="neither headers nor folders"):
            check.run(looked_at)


# ------------------------------------------------------------------------------------------------ SHC501


def test_shc501_finds_a_file_size_that_gives_a_class_away(tmp_path):
    files = [replace(file, label="healthy" if file.label == "tumour" else file.label) for file in plain_files(LABELS)]
    files = [replace(file, path=f"{file.label}/{number}.jpg") for number, file in enumerate(files)]
    files = [with_size(file, 13_000 + number if file.label == "cyst" else 41_000 + number) for number, file in enumerate(files)]
    found = FileShortcut().run(context(tmp_path, files=files))
    assert (found.severity, found.count) == ("error", 150)
    assert found.message.startswith("File properties alone reach a balanced accuracy of 0.9")
    assert "against 0.50 by chance (p = 0.005, 150 images, 150 groups)" in found.message
    assert "most telling: file size (median 13 kB cyst, 41 kB healthy), which alone names 9" in found.message
    assert "always naming the most frequent class would 67 %" in found.message
    assert "also depends on what is in the picture" in found.message
    shown = [piece for piece in found.evidence if piece.paths]
    assert {piece.note.split(":")[0] for piece in shown} == {"cyst", "healthy"}
    for piece in shown:
        assert {path.split("/")[0] for path in piece.paths} == {piece.note.split(":")[0]}


def test_shc501_follows_sizes_that_are_neither_large_nor_small(tmp_path):
    found = FileShortcut().run(context(tmp_path, files=sized(["cyst", "healthy"] * 75)))
    assert found.severity == "error"
    assert "healthy: 100 % named rightly" in " ".join(piece.note for piece in found.evidence)


def test_shc501_is_a_warning_where_all_files_are_stored_alike(tmp_path):
    files = [replace(file, width=224, height=224) for file in sized(["cyst", "healthy"] * 75)]
    found = FileShortcut().run(context(tmp_path, files=files))
    assert found.severity == "warning"
    assert "All images share one size and one form" in found.message


def test_shc501_finds_the_dimensions_of_one_class(tmp_path):
    files = [replace(file, width=512, height=512) if file.label == "cyst" else file for file in plain_files(LABELS)]
    found = FileShortcut().run(context(tmp_path, files=files))
    assert found.severity in ("error", "warning")
    assert "width and height alone reach" in found.message or found.message.startswith("Width and height alone")


def test_copies_count_once_and_contradicting_ones_not_at_all(tmp_path):
    files = sized(LABELS)
    files += [replace(file, path=f"{file.label}/copy{number}.jpg") for number, file in enumerate(files[:30])]
    files.append(replace(files[31], label="cyst", path="cyst/contradiction.jpg"))
    looked_at = context(tmp_path, files=files)
    assert len(measure_shortcuts(looked_at).rows) == 149
    assert FileShortcut().run(looked_at).count == 149


def test_broken_files_are_not_looked_at(tmp_path):
    files = sized(LABELS)
    files[0] = replace(files[0], status="unreadable")
    assert len(measure_shortcuts(context(tmp_path, files=files)).rows) == 149


def test_slices_of_a_patient_do_not_prove_an_effect(tmp_path):
    # Ten patients per class, fifteen slices each: every patient has a file size of its own, the class has none.
    rng = np.random.default_rng(3)
    labels = [("cyst", "healthy")[number % 2] for number in range(20) for _ in range(15)]
    sizes = np.repeat(rng.integers(5_000, 50_000, 20), 15) + rng.integers(0, 50, 300)
    files = [with_size(file, int(size)) for file, size in zip(plain_files(labels), sizes, strict=True)]
    images = context(tmp_path, files=files)
    assert FileShortcut().run(images) is not None
    by_size = sorted(range(300), key=lambda row: images.manifest.files[row].size_bytes)
    patients = unite(300, [(by_size[place], by_size[place + 1]) for place in range(299) if place % 15 != 14])
    assert len(set(patients)) == 20
    assert FileShortcut().run(context_of(images.manifest, groups=patients)) is None


def test_a_large_data_set_is_sampled_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shortcut_results, "IMAGES", 90)
    found = FileShortcut().run(context(tmp_path, files=sized(LABELS)))
    assert found.count == 90
    assert "90 images sampled" in found.message


def test_all_checks_share_one_measurement(tmp_path, monkeypatch):
    looked_at = context(tmp_path, files=sized(LABELS))
    first = measure_shortcuts(looked_at)
    monkeypatch.setattr(shortcut_results, "nuisance_families", None)
    assert "SHC501" in run_all(looked_at)
    assert measure_shortcuts(looked_at) is first


# ------------------------------------------------------------------------------------------------ SHC502, SHC503, SHC506


def test_shc502_and_shc503_are_never_errors(tmp_path):
    files, pictures = plain_files(LABELS), plain_pictures(150)
    for file, picture in zip(files, pictures, strict=True):
        if file.label == "cyst":
            picture += 120
    found = run_all(context(tmp_path, files=files, pictures=pictures))
    assert {code: finding.severity for code, finding in found.items()} == {"SHC502": "warning", "SHC503": "warning"}
    assert "can be real signal" in found["SHC503"].message


def test_a_moderate_difference_in_brightness_is_only_mentioned(tmp_path):
    # The best possible balanced accuracy is 0.5 + 0.15: every second image of one class is a little brighter than any other.
    labels = ["cyst", "healthy"] * 150
    files, pictures = plain_files(labels), plain_pictures(300)
    for number, (file, picture) in enumerate(zip(files, pictures, strict=True)):
        if file.label == "cyst" and number % 10 < 3:
            picture += 60
    found = IntensityShortcut().run(context(tmp_path, files=files, pictures=pictures))
    assert found.severity == "info"


def test_shc506_finds_a_compression_of_its_own(tmp_path):
    files, facts = plain_files(LABELS), plain_facts(150)
    files = [replace(file, encoding="quality 95" if file.label == "tumour" else "quality 75") for file in files]
    facts["quality"] = [95 if file.label == "tumour" else 75 for file in files]
    found = CompressionShortcut().run(context(tmp_path, files=files, facts=facts))
    assert found.severity == "error"
    assert "median 75" in found.message or "quality 95 in 100 % of tumour" in found.message
    assert CompressionShortcut().run(context(tmp_path / "plain")) is None


# ------------------------------------------------------------------------------------------------ SHC504


def test_shc504_finds_a_letter_in_the_corner_and_shows_it(tmp_path):
    files, pictures = plain_files(LABELS), plain_pictures(150)
    rng = np.random.default_rng(6)
    marked = set()
    for file, picture in zip(files, pictures, strict=True):
        if file.label == "tumour" and rng.random() < 0.9:
            burn_letter(picture, top=5, left=115)
            marked.add(file.path)
    found = OverlayShortcut().run(context(tmp_path, files=files, pictures=pictures))
    assert found.severity in ("error", "warning")
    assert "bright strokes in the top right corner (present in 9" in found.message
    tumour = next(piece for piece in found.evidence if piece.note.startswith("tumour"))
    assert set(tumour.paths) <= marked


# ------------------------------------------------------------------------------------------------ SHC505, SHC507


def from_sources(source_of):
    return [replace(file, source=source_of(number, file)) for number, file in enumerate(plain_files(LABELS))]


def test_shc507_refuses_data_whose_classes_have_a_scanner_each(tmp_path):
    files = from_sources(lambda number, file: f"Acme | {file.label} ward | {number % 2}")
    looked_at = context(tmp_path, files=files)
    nested = NestedSource().run(looked_at)
    assert nested.severity == "error"
    assert "cannot be evaluated on this data" in nested.message
    assert "6 sources" in nested.message
    assert "Acme | cyst ward | 0: cyst 25, healthy 0, tumour 0" in [piece.note for piece in nested.evidence]
    assert SourceShortcut().run(looked_at).severity == "error"


def test_a_source_that_leans_towards_a_class_is_found_and_not_nested(tmp_path):
    rng = np.random.default_rng(7)
    files = from_sources(lambda number, file: "Acme" if rng.random() < (0.85 if file.label == "cyst" else 0.15) else "Bolt")
    looked_at = context(tmp_path, files=files)
    assert SourceShortcut().run(looked_at).severity == "warning"
    assert NestedSource().run(looked_at) is None


def test_sources_that_all_classes_share_pass(tmp_path):
    files = from_sources(lambda number, file: f"scanner {number // 3 % 4}")
    looked_at = context(tmp_path, files=files)
    assert SourceShortcut().run(looked_at) is None
    assert NestedSource().run(looked_at) is None


def test_a_source_per_image_is_no_source(tmp_path):
    looked_at = context(tmp_path, files=from_sources(lambda number, file: f"serial number {number}"))
    assert SourceShortcut().run(looked_at) is None
    with pytest.raises(NotApplicable, match="fewer than two sources have 5"):
        NestedSource().run(looked_at)


# ------------------------------------------------------------------------------------------------ the phantom


def by_patient(manifest):
    """The groups of a phantom: slices of one patient."""
    first: dict[str, int] = {}
    edges = [(first.setdefault(file.path.split("_")[-2], row), row) for row, file in enumerate(manifest.files)]
    return unite(len(manifest), edges)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_clean_phantom_passes_and_a_corner_mark_is_found(tmp_path, seed):
    for name, faults, expected in (("clean", {}, False), ("marked", {"corner_mark": 1}, True)):
        make_phantom(tmp_path / name, PhantomSettings(patients_per_class=14, slices_per_patient=3, seed=seed, faults=faults))
        manifest = scan_folder(tmp_path / name / "images", cache=tmp_path / "cache")
        found = run_all(context_of(manifest, groups=by_patient(manifest)))
        assert ("SHC504" in found) is expected
        assert not {"SHC501", "SHC505", "SHC507"} & set(found)
        assert all(finding.severity != "error" for finding in found.values())
