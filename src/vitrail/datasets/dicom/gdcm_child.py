"""Decodes pixels with gdcm in a process of its own; started by :mod:`apart`, never imported.

Reads requests from standard input and answers on standard output until there are no more. A request and an answer are a line of
JSON, whose ``length`` is the number of bytes that follow it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

MEMORY_LIMIT = 6 << 30
"""So many bytes of address space the process may take."""


def main() -> None:
    """Answer requests one after the other."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    for line in requests:
        request = json.loads(line)
        content = requests.read(request["length"])
        answer, values = _decoded(request, content)
        answers.write(json.dumps({**answer, "length": len(values)}).encode() + b"\n" + values)
        answers.flush()


def _decoded(request: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    from pydicom.pixels.decoders.base import get_decoder

    try:
        decoder = get_decoder(request["syntax"])
        stored, properties = decoder.as_array(content, index=0, decoding_plugin="gdcm", **request["options"])
    except Exception as error:
        return {"error": "missing" if "missing dependencies" in str(error) else "damaged"}, b""
    shape = list(stored.shape)
    return {"shape": shape, "dtype": stored.dtype.str, "photometric": properties["photometric_interpretation"]}, stored.tobytes()


if __name__ == "__main__":
    main()
