"""Who trains, who validates, who tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitrail.records.types import IntArray, Part
from vitrail.storage import fingerprint


@dataclass(frozen=True)
class Split:
    """Who trains, who stops training early, who tests. Built only through :func:`vitrail.split.make_split` or its checks.

    Attributes:
        parts: Part of every file.
        notes: Why a file is excluded (``unreadable``, ``quarantined``, ``left out``); for an image of the shipped test part, why
            it does not count for the clean score (``leaked``, ``quarantined``), or that it may leak (``doubtful``); else empty.
        groups: Group number of every file (see :class:`AuditReport`).
        seed: The seed that drew it.
        origin: Where the parts come from, in words, for the report.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    groups: tuple[int, ...]
    seed: int
    origin: str

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any file changes its part, its note or its group."""
        return fingerprint(self.parts, self.notes, self.groups)

    def clean(self, row: int) -> bool:
        """Whether a file counts for the clean score, if it is in the test part: not surely leaked, not of conflicting labels."""
        return self.notes[row] in ("", "doubtful")

    def rows(self, part: Part) -> IntArray:
        """Return the positions in the manifest of the files of one part."""
        return np.array([row for row, name in enumerate(self.parts) if name == part], dtype=np.int64)
