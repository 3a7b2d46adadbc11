"""RLE Lossless (PS3.5 annex G): run-length code, by numpy.

Decoders exist, but one is slow and the other aborts with a trace on the terminal when the code is damaged.
"""

from __future__ import annotations

import struct

import numpy as np

from vitrail.errors import DataError
from vitrail.records import ByteArray

_HEADER_LENGTH = 64
_MOST_SEGMENTS = 15
_DAMAGED = "truncated or damaged: the run-length code does not give as many values as the header announces."

# By the byte that begins a run (PS3.5 G.3.1): how many bytes the run takes, and how many it stands for.
_TAKES = [byte + 2 if byte < 128 else 1 if byte == 128 else 2 for byte in range(256)]
_GIVES = np.array([byte + 1 if byte < 128 else 0 if byte == 128 else 257 - byte for byte in range(256)])


def unfold(frame: bytes, *, pixels: int, samples: int, size: int) -> bytes:
    """Unfold one frame.

    Args:
        frame: The code, with its header.
        pixels: Rows times columns.
        samples: Values per pixel.
        size: Bytes per value.

    Returns:
        The values, least significant byte first, colour by pixel.

    Raises:
        DataError: The code is damaged or gives too little.
    """
    if len(frame) < _HEADER_LENGTH:
        raise DataError(_DAMAGED)
    count, *offsets = struct.unpack("<16I", frame[:_HEADER_LENGTH])
    if count != samples * size or count > _MOST_SEGMENTS:
        raise DataError(f"damaged: {count} segments of run-length code where {samples * size} are expected.")
    ends = [*offsets[1:count], len(frame)]
    result = np.empty((pixels, samples, size), dtype=np.uint8)
    for number, (begin, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        if not _HEADER_LENGTH <= begin <= end <= len(frame):
            raise DataError(_DAMAGED)
        sample, significance = divmod(number, size)  # the most significant byte comes first
        result[:, sample, size - 1 - significance] = _unfold_segment(frame[begin:end], pixels)
    return result.tobytes()


def _unfold_segment(code: bytes, length: int) -> ByteArray:
    """Return the first ``length`` bytes that a segment stands for; there may be some filling behind them."""
    begins, position = [], 0
    while position < len(code):
        begins.append(position)
        position += _TAKES[code[position]]
    source = np.frombuffer(code + b"\0", dtype=np.uint8)
    starts = np.array(begins, dtype=np.int64)
    heads = source[starts]
    gives = _GIVES[heads]
    if position > len(code) and len(gives):  # the last run is cut
        gives[-1] = max(0, len(code) - begins[-1] - 1) if heads[-1] < 128 else 0
    totals = np.cumsum(gives)
    if not len(totals) or totals[-1] < length:
        raise DataError(_DAMAGED)
    # Literal runs read on byte by byte, the others repeat their one byte.
    literal = heads < 128
    run = np.repeat(np.arange(len(starts)), gives)[:length]
    within = np.arange(length) - (totals - gives)[run]
    return np.asarray(source[starts[run] + 1 + within * literal[run]])
