"""Progress: told on standard error, plain where there is no terminal, never in the way of the work."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys

import pytest

from vitrail import progress as module
from vitrail.progress import SILENT, BarProgress, Progress, StoppableProgress


class Terminal(io.StringIO):
    """What looks like a terminal and keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def work(progress: Progress, *, note: str = "") -> None:
    with progress.task("Reading images", 3) as advance:
        advance()
        advance(2, note)


def test_silence_is_silent(capfd):
    work(SILENT, note="loss 0.3")
    SILENT.say("cached results are used")
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_a_line_stands_for_the_bar(capfd):
    work(BarProgress(), note="loss 0.3")
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "Reading images: 3 of 3 in 0 s, loss 0.3\n"


def test_without_a_terminal_long_work_is_heard_of_in_between(capfd, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with BarProgress().task("Reading images", 1000) as advance:
        for _ in range(6):
            advance()
    lines = capfd.readouterr().err.splitlines()
    assert 3 <= len(lines) <= 5
    assert lines[0].startswith("Reading images: 2 of 1,000 in ")


def test_work_that_fails_tells_how_far_it_came(capfd):
    with pytest.raises(ValueError, match="broken"), BarProgress().task("Reading images", 3) as advance:
        advance()
        raise ValueError("broken")
    assert capfd.readouterr().err.startswith("Reading images: 1 of 3 in ")


def test_in_a_terminal_a_bar_shows_count_and_note(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal)
    work(BarProgress(), note="loss 0.3")
    assert "Reading images" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert "loss 0.3" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()  # it moves


ODD = "[red]scan[/red] [/x] :smile: 'a'[0].png"


def test_names_of_files_are_shown_as_they_are(capfd):
    progress = BarProgress()
    progress.say(ODD)
    with progress.task(ODD, 1) as advance:
        advance(1, ODD)
    assert capfd.readouterr().err == f"{ODD}\n{ODD}: 1 of 1 in 0 s, {ODD}\n"


def test_names_of_files_are_shown_as_they_are_in_a_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = BarProgress()
    with progress.task(ODD, 1) as advance:
        advance(1, ODD)
    assert terminal.getvalue().count(ODD) >= 2


def test_long_messages_are_not_folded(capfd):
    BarProgress().say("x" * 500)
    assert capfd.readouterr().err == "x" * 500 + "\n"


def test_work_goes_on_when_nobody_listens_any_more():
    programme = """
import os, sys
from vitrail.progress import BarProgress
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 2)
progress = BarProgress()
for _ in range(3):
    progress.say("x" * 100_000)
    with progress.task("Reading images", 1) as advance:
        advance()
print("done", flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_an_interruption_that_a_library_swallows_ends_the_work_at_the_next_report():
    before = signal.getsignal(signal.SIGINT)
    try:
        progress, done = StoppableProgress(SILENT), []
        with pytest.raises(KeyboardInterrupt), progress.task("Reading images", 3) as advance:
            advance()
            with contextlib.suppress(BaseException):  # as some libraries do
                signal.raise_signal(signal.SIGINT)
            done.append("went on")
            advance()
            done.append("never")
        assert done == ["went on"]
        with pytest.raises(KeyboardInterrupt):
            progress.say("more")
    finally:
        signal.signal(signal.SIGINT, before)
