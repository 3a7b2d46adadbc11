"""Progress, as the rooms see it: a task with a title and a number of steps.

Rooms are handed a :class:`Progress` and know nothing of terminals. The command line hands them :class:`BarProgress`;
everything else (Python door, tests, ``--quiet``) uses the silent one.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import Protocol

LINE_SECONDS = 30.0
"""Where there is no terminal, a line of progress is written about this often."""


class Advance(Protocol):
    """``advance(steps, note)``: so many steps are done; ``note`` is shown beside the bar (for example the loss)."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Report steps as done."""
        ...


class Progress(Protocol):
    """What a room may tell the person who waits."""

    def task(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of ``total`` steps; the value is a function to call as steps get done."""
        ...

    def say(self, message: str) -> None:
        """Tell something in passing (one line), for example that cached results are used."""
        ...


class SilentProgress:
    """Tells nothing."""

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the protocol's signature
        """See :class:`Progress`."""

        def advance(steps: int = 1, note: str = "") -> None:
            """Tell nothing."""

        yield advance

    def say(self, message: str) -> None:
        """See :class:`Progress`."""


SILENT = SilentProgress()


class StoppableProgress:
    """Passes everything on, and makes sure that Control-C ends the work.

    The interpreter raises ``KeyboardInterrupt`` wherever it happens to be, and some libraries swallow it (while they are being
    imported, or in a callback from C): then the next report of progress raises it again.

    Args:
        inner: Who shows the progress.
    """

    def __init__(self, inner: Progress) -> None:
        self._inner = inner
        self._asked = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self._asked = True
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._asked:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See :class:`Progress`."""
        self._check()
        with self._inner.task(title, total) as inner:

            def advance(steps: int = 1, note: str = "") -> None:
                inner(steps, note)
                self._check()

            yield advance

    def say(self, message: str) -> None:
        """See :class:`Progress`."""
        self._check()
        self._inner.say(message)


class BarProgress:
    """Bars with time left, on standard error, so that standard output stays clean for ``--json``.

    Where standard error is no terminal (a log file, a pipe) a line stands for the bar: one at the end of each task, and one
    every half minute in between.
    """

    def __init__(self) -> None:
        from rich.console import Console

        class Standing(Console):
            def on_broken_pipe(self) -> None:
                """Nobody listens any more (`2>&1 | head`): fall silent, where rich would end the work."""
                self.quiet = True

        # Titles and messages hold names of files and classes: nothing in them is markup.
        self._console = Standing(file=sys.stderr, highlight=False, markup=False, emoji=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See :class:`Progress`."""
        with self._bar(title, total) if self._console.is_terminal else self._lines(title, total) as advance:
            yield advance

    def say(self, message: str) -> None:
        """See :class:`Progress`."""
        self._console.print(message, soft_wrap=True)

    @contextlib.contextmanager
    def _bar(self, title: str, total: int) -> Iterator[Advance]:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}", justify="left", markup=False),
            bars.BarColumn(bar_width=28),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}", markup=False),
        )
        with bars.Progress(*columns, console=self._console) as display:
            task = display.add_task(f"{title:<34}", total=total, note="")

            def advance(steps: int = 1, note: str = "") -> None:
                display.advance(task, steps)
                if note:
                    display.update(task, note=note)

            yield advance

    @contextlib.contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Advance]:
        started = told = time.monotonic()
        done, last_note = 0, ""

        def tell() -> None:
            nonlocal told
            told = time.monotonic()
            rest = f", {last_note}" if last_note else ""
            self.say(f"{title}: {done:,} of {total:,} in {told - started:.0f} s{rest}")

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done, last_note
            done, last_note = done + steps, note or last_note
            if time.monotonic() - told > LINE_SECONDS:
                tell()

        try:
            yield advance
        finally:
            tell()
