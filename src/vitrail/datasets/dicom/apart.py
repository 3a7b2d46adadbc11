"""Decoding in another process, for a library that ends its process when the bytes are damaged.

gdcm is the one free decoder of lossless JPEG and JPEG-LS that pydicom knows. It calls ``abort`` on some damaged files and writes
to the terminal on others: apart, this costs one image, and the process is started anew.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

TIME_LIMIT = 120.0
"""A frame that takes more seconds is given up."""


class DecodingFailedError(Exception):
    """The other process gave no pixels; the message is ``missing`` when gdcm is not installed, else ``damaged``."""


def decode_apart(content: bytes, *, syntax: str, options: dict[str, Any]) -> tuple[npt.NDArray[Any], str]:
    """Decode one encapsulated frame.

    Args:
        content: The frame with its item tags, as :func:`pydicom.encaps.encapsulate` makes it.
        syntax: UID of the transfer syntax.
        options: What ``pydicom.pixels.decoders.base.Decoder.as_array`` takes by name; only what JSON can hold.

    Returns:
        The stored values and their photometric interpretation.

    Raises:
        DecodingFailedError: It cannot be decoded.
    """
    helper = _take()
    try:
        result = helper.ask({"syntax": syntax, "options": options, "length": len(content)}, content)
    except (OSError, ValueError, KeyError) as error:  # it has died, or was ended after the time limit
        helper.end()
        raise DecodingFailedError("damaged") from error
    except BaseException:  # interrupted halfway: its next answer would be to this question
        helper.end()
        raise
    with _LOCK:
        _IDLE.append(helper)
    if isinstance(result, str):
        raise DecodingFailedError(result)
    return result


class _Helper:
    """One child process, one question at a time."""

    def __init__(self) -> None:
        child = Path(__file__).with_name("gdcm_child.py")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
        self._process = subprocess.Popen(  # noqa: S603 - our own file, by our own interpreter
            [sys.executable, "-P", str(child)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def ask(self, request: dict[str, Any], content: bytes) -> tuple[npt.NDArray[Any], str] | str:
        """Return stored values and photometric interpretation, or what went wrong in a word."""
        guard = threading.Timer(TIME_LIMIT, self._process.kill)
        guard.start()
        try:
            questions, answers = _pipe(self._process.stdin), _pipe(self._process.stdout)
            questions.write(json.dumps(request).encode() + b"\n" + content)
            questions.flush()
            answer = json.loads(answers.readline())
            values = answers.read(answer["length"])
        finally:
            guard.cancel()
        if "error" in answer:
            return str(answer["error"])
        stored = np.frombuffer(bytearray(values), dtype=answer["dtype"]).reshape(answer["shape"])
        return stored, str(answer["photometric"])

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was not sent is of no use any more
                continue
        self._process.wait()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:  # never: both were asked for
        raise OSError("no pipe")
    return pipe


_LOCK = threading.Lock()
_IDLE: list[_Helper] = []
_OWNER: list[int] = []  # the process that started the helpers: after a fork, the child starts its own


def _take() -> _Helper:
    """Return an idle helper or a new one: there are as many as threads ask at once."""
    with _LOCK:
        if [os.getpid()] != _OWNER:
            _OWNER[:] = [os.getpid()]
            _IDLE.clear()
        if _IDLE:
            return _IDLE.pop()
    return _Helper()


@atexit.register
def _end_all() -> None:
    with _LOCK:
        while _IDLE and [os.getpid()] == _OWNER:
            _IDLE.pop().end()
