"""Made-up data sets for the tests of the split, with the audit that follows from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.records import AuditReport, ImageFile, Manifest, Split


@dataclass(frozen=True)
class Item:
    """One file of a made-up data set; ``group`` stands for its bytes too, unless it is the group of a patient."""

    label: str
    group: int
    part: str | None = None
    status: str = "readable"
    patient: str = ""
    doubtful: bool = False
    """Whether the group is only a guess from file names."""


def data_set(items: list[Item]) -> tuple[Manifest, AuditReport]:
    """Return the manifest of made-up files, and an audit that says what follows from their groups, labels and parts.

    The images of a patient differ and may have several labels; other images of a group are copies.
    """
    files = tuple(
        ImageFile(
            f"{number:06d}_{item.label}.png",
            item.label,
            item.part,  # type: ignore[arg-type]
            10,
            f"{number + 10**9 if item.patient or item.doubtful else item.group:064x}",
            item.status,  # type: ignore[arg-type]
            patient="" if item.doubtful else item.patient,
        )
        for number, item in enumerate(items)
    )
    labels, places = defaultdict(set), defaultdict(set)
    for item in items:
        if not (item.patient or item.doubtful):
            labels[item.group].add(item.label)
        places[item.group].add(item.part == "test")
    pairs = list(zip(files, items, strict=True))
    quarantined = frozenset(file.path for file, item in pairs if len(labels[item.group]) > 1)
    crossing = [(file.path, item) for file, item in pairs if item.part == "test" and len(places[item.group]) > 1]
    leaked = frozenset(path for path, item in crossing if not item.doubtful)
    doubtful = frozenset(path for path, item in crossing if item.doubtful)
    classes = tuple(sorted({item.label for item in items}))
    manifest = Manifest(Path("images"), classes, files, Path("none.npy"), Path("none.npy"))
    groups = tuple(item.group for item in items)
    return manifest, AuditReport(len(files), len(files), (), (), groups, quarantined, leaked, doubtful)


def singles(label: str, count: int, *, start: int, part: str | None = None) -> list[Item]:
    return [Item(label, start + number, part) for number in range(count)]


def shipped(train: int = 60, test: int = 10, validation: int = 0) -> list[Item]:
    """Return a data set of two classes that ships its parts; no two images are equal."""
    items, start = [], 0
    for part, count in (("train", train), ("test", test), ("validation", validation)):
        for label in ("cyst", "healthy"):
            items += singles(label, count, start=start, part=part)
            start += count
    return items


def parts_of(split: Split, manifest: Manifest, label: str | None = None) -> Counter[str]:
    return Counter(part for part, file in zip(split.parts, manifest.files, strict=True) if label in (None, file.label))


def items_of(sizes: dict[str, list[int]], shuffle: int) -> list[Item]:
    items, group = [], 0
    for label, counts in sizes.items():
        for count in counts:
            items += [Item(label, group)] * count
            group += 1
    order = np.random.default_rng(shuffle).permutation(len(items))
    return [items[position] for position in order]


def patients_of(counts: np.ndarray, shuffle: int, *, part: str | None = None) -> list[Item]:
    """Return the images of patients with several labels: ``counts`` is the number per patient (row) and label (column)."""
    items = [
        Item("abcdefghijklmnop"[label], patient, part, patient=f"p{patient}")
        for (patient, label), number in np.ndenumerate(counts)
        for _ in range(int(number))
    ]
    order = np.random.default_rng(shuffle).permutation(len(items))
    return [items[position] for position in order]
