"""Made-up data sets for the tests of the audit: the path says part and class, ``content`` stands for the bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vitrail.records import FileStatus, ImageFile, Manifest


def entry(
    path: str, content: str = "", *, status: FileStatus = "readable", kind: str = "PNG", size: int = 100, problem: str = ""
) -> ImageFile:
    """Return one file; ``train/cyst/1.png`` is of class cyst in part train, ``cyst/1.png`` in none. No content: its own."""
    *part, label, _ = path.split("/")
    return ImageFile(
        path=path,
        label=label,
        part=part[0] if part else None,  # type: ignore[arg-type]
        size_bytes=size,
        sha256=hashlib.sha256((content or path).encode()).hexdigest(),
        status=status,
        problem=problem,
        format=kind if status == "readable" else "",
    )


def data_set(*files: ImageFile) -> Manifest:
    """Return a manifest of ``files``, in the order of their paths."""
    in_order = tuple(sorted(files, key=lambda file: file.path))
    return Manifest(Path("images"), tuple(sorted({file.label for file in files})), in_order, Path("none.npy"))


def plain(folder: str, count: int, *, kind: str = "PNG", suffix: str = "png") -> list[ImageFile]:
    """Return ``count`` different readable images of one folder."""
    return [entry(f"{folder}/{number:05d}.{suffix}", kind=kind) for number in range(count)]
