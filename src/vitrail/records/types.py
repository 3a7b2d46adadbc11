"""Arrays and names that several records use."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

Part = Literal["train", "validation", "test", "excluded"]
Quantity = Literal["logit", "probability", "contrast"]
QUANTITIES: tuple[Quantity, ...] = ("logit", "probability", "contrast")
"""What can be explained of a class."""
Severity = Literal["error", "warning", "info"]
FileStatus = Literal["readable", "empty", "not_an_image", "unreadable", "excluded"]
