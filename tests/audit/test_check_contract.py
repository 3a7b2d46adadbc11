"""What every check keeps to, whoever wrote it: words for people, evidence that exists, no accident on odd data, no chance."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.audit import CHECKS, AuditContext, Check, NotApplicable
from vitrail.datasets import scan_folder
from vitrail.records import Finding, ImageFile, Manifest

WORDS = ("title", "why", "explanation")


def draw(seed: int) -> np.ndarray:
    """A blob on a dark ground; uint8 of shape (72, 64)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:72, 0:64]
    middle = rng.uniform(20, 44, 2)
    blob = 150 * np.exp(-((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / rng.uniform(100, 300))
    return np.clip(blob + rng.normal(20, 5, blob.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Three classes of four images in training and two in the test, with a copy on either side and three broken files."""
    folder = tmp_path_factory.mktemp("contract")
    root = folder / "images"
    for part, count in (("train", 4), ("test", 2)):
        for place, label in enumerate(("cyst", "glioma", "healthy")):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                seed = 100 * place + number if part == "train" or number == 0 else 1000 + place
                Image.fromarray(draw(seed)).save(root / part / label / f"scan{number}.png")
    (root / "train" / "cyst" / "empty.png").touch()
    (root / "train" / "glioma" / "words.png").write_text("this is no image")
    content = (root / "train" / "healthy" / "scan0.png").read_bytes()
    (root / "test" / "healthy" / "torn.png").write_bytes(content[: len(content) // 2])
    return scan_folder(root, cache=folder / "cache")


Change = Callable[[ImageFile], ImageFile]


def subset(manifest: Manifest, rows: Sequence[int], folder: Path, change: Change = lambda file: file) -> Manifest:
    """Return some files of a data set, changed, with their thumbnails and measurements."""
    np.save(folder / "thumbnails.npy", np.asarray(manifest.thumbnails)[list(rows)])
    np.save(folder / "facts.npy", manifest.facts[list(rows)])
    files = tuple(change(manifest.files[row]) for row in rows)
    classes = tuple(sorted({file.label for file in files}))
    return Manifest(manifest.root, classes, files, folder / "thumbnails.npy", folder / "facts.npy")


def first_of_class(manifest: Manifest) -> list[int]:
    readable = [row for row, file in enumerate(manifest.files) if file.readable and file.part == "train"]
    return sorted({manifest.files[row].label: row for row in reversed(readable)}.values())


def odd(name: str, manifest: Manifest, folder: Path) -> Manifest:
    everything = range(len(manifest))
    readable = [row for row, file in enumerate(manifest.files) if file.readable]
    blank = replace(manifest, thumbnails_path=folder / "blank.npy")
    np.save(folder / "blank.npy", np.zeros_like(np.asarray(manifest.thumbnails)))
    return {
        "as scanned": lambda: manifest,
        "without parts": lambda: subset(manifest, everything, folder, lambda file: replace(file, part=None)),
        "one image per class": lambda: subset(manifest, first_of_class(manifest), folder, lambda file: replace(file, part=None)),
        "one image": lambda: subset(manifest, readable[:1], folder),
        "nothing but a test part": lambda: subset(manifest, readable, folder, lambda file: replace(file, part="test")),
        "no readable test image": lambda: subset(
            manifest, everything, folder, lambda file: replace(file, status="unreadable") if file.part == "test" else file
        ),
        "nothing readable": lambda: subset(manifest, everything, folder, lambda file: replace(file, status="unreadable")),
        "everything left out": lambda: subset(
            manifest, everything, folder, lambda file: replace(file, status="excluded", problem="DUP201: copy")
        ),
        "empty files only": lambda: subset(
            manifest, everything, folder, lambda file: replace(file, status="empty", size_bytes=0, width=0, height=0)
        ),
        "no files": lambda: subset(manifest, [], folder),
        "all black": lambda: blank,
        "one patient": lambda: subset(manifest, everything, folder, lambda file: replace(file, patient="p1")),
    }[name]()


ODD = (
    "as scanned",
    "without parts",
    "one image per class",
    "one image",
    "nothing but a test part",
    "no readable test image",
    "nothing readable",
    "everything left out",
    "empty files only",
    "no files",
    "all black",
    "one patient",
)


@pytest.fixture(scope="module")
def contexts(scanned: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[AuditContext, ...]]:
    """What all checks are given of an odd data set, computed once: with its own parts in use, and without."""

    @functools.cache
    def of(kind: str) -> tuple[AuditContext, ...]:
        manifest = odd(kind, scanned, tmp_path_factory.mktemp("odd"))
        return tuple(AuditContext.of(manifest, uses_shipped_parts=shipped) for shipped in (True, False))

    return of


def answer(check: Check, context: AuditContext) -> Finding | str | None:
    """Ask a check; why it does not apply is an answer too."""
    try:
        return check.run(context)
    except NotApplicable as reason:
        assert str(reason)
        assert not str(reason).endswith(".")
        return str(reason)


# ---------------------------------------------------------------------------------------------------- words


def test_codes_are_unique_and_well_formed():
    codes = [check.code for check in CHECKS]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z]{2,4}[1-9]\d\d", code) for code in codes)
    assert len({check.title for check in CHECKS}) == len(codes)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_its_words_are_sentences_for_beginners(check):
    assert 8 <= len(check.title) <= 70
    assert check.title[0].isupper() and not check.title.endswith(".")
    assert check.why.endswith(".") and check.why.count(". ") == 0
    assert len(re.findall(r"[.!?](?:\s|$)", check.explanation)) >= 2
    assert check.explanation.strip().endswith(".")
    assert 150 <= len(check.explanation) <= 4000
    for name in WORDS:
        text = getattr(check, name)
        assert "``" not in text and text.count("`") % 2 == 0, name
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", text), name


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_its_docstring_begins_with_its_code(check):
    assert (type(check).__doc__ or "").startswith(f"{check.code}: ")


# ---------------------------------------------------------------------------------------------------- conduct


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_it_ends_well_on_odd_data_and_says_what_can_be_shown(check, kind, contexts):
    for context in contexts(kind):
        known = {file.path for file in context.manifest.files}
        found = answer(check, context)
        if found is None or isinstance(found, str):
            continue
        assert (found.code, found.title, found.why) == (check.code, check.title, check.why)
        assert found.severity in ("error", "warning", "info")
        assert found.count > 0
        for words in (found.message, found.fix, found.consequence):
            assert words.endswith(".") and words[0] == words[0].strip(), words
        assert found.evidence
        for piece in found.evidence:
            assert piece.note or piece.paths
            assert set(piece.paths) <= known
            assert len(set(piece.paths)) == len(piece.paths)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_the_same_data_get_the_same_answer(check, scanned):
    assert answer(check, AuditContext.of(scanned)) == answer(check, AuditContext.of(scanned))
