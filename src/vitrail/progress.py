"""Progress, as the rooms see it: a task with a title and a number of steps.

Rooms are handed a :class:`Progress` and know nothing of terminals. The command line hands them :class:`BarProgress`;
everything else (Python door, tests, ``--quiet``) uses the silent one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


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


class BarProgress:
    """Bars with time left, on standard error, so that standard output stays clean for ``--json``."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr, highlight=False)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See :class:`Progress`."""
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}", justify="left"),
            bars.BarColumn(bar_width=28),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
        )
        with bars.Progress(*columns, console=self._console, transient=not self._console.is_terminal) as display:
            task = display.add_task(f"{title:<34}", total=total, note="")

            def advance(steps: int = 1, note: str = "") -> None:
                display.advance(task, steps)
                if note:
                    display.update(task, note=note)

            yield advance

    def say(self, message: str) -> None:
        """See :class:`Progress`."""
        self._console.print(message, soft_wrap=True)
