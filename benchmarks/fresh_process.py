"""Run a command as a process of its own, within bounds, and say how long it took and how much memory it held."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

VITRAIL = (sys.executable, "-c", "from vitrail.cli import main; main()")
"""The command line of this environment's vitrail."""
_EVERY = 0.02  # seconds between two looks at the memory
_SELDOM = 10  # looks between two at the whole tree of processes, which takes long enough to slow what is timed


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        seconds: Wall-clock time from its start to its end.
        exit_code: Its exit code; negative: the signal that ended it.
        stopped: ``time`` or ``memory`` when a bound was passed and it was killed; else empty.
        output: What it wrote to standard output.
        errors: What it wrote to standard error.
        peak_bytes: Most memory it held at a time, files mapped into memory included.
        private_bytes: Most memory of its own at a time, without mapped files; 0 where the system does not say.
        tree_bytes: Most memory that it and the processes it had started held together when looked at, every 0.2 s; a page that
            several of them hold counts for each; 0 where the system does not say.
    """

    seconds: float
    exit_code: int
    stopped: str
    output: str
    errors: str
    peak_bytes: int = 0
    private_bytes: int = 0
    tree_bytes: int = 0


def run_fresh(command: Sequence[str], *, seconds: float = 24 * 3600, memory: int | None = None, cwd: Path | None = None) -> Ended:
    """Run ``command`` to its end, or kill it when it passes a bound.

    Args:
        command: Programme and arguments.
        seconds: Wall-clock bound.
        memory: Bound on private memory in bytes; watched every 20 ms, so a little more can be held for a moment.
        cwd: Where to run it.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(list(command), stdout=output, stderr=errors, stdin=subprocess.DEVNULL, cwd=cwd)
        stopped, peak, private, tree, looks = "", 0, 0, 0, 0
        while process.poll() is None:
            now_peak, now_private = _memory(process.pid)
            peak, private, looks = max(peak, now_peak), max(private, now_private), looks + 1
            if looks % _SELDOM == 1:
                tree = max(tree, _tree(process.pid))
            if time.perf_counter() - started > seconds:
                stopped = "time"
            elif memory is not None and now_private > memory:
                stopped = "memory"
            if stopped:
                process.kill()
                process.wait()
                break
            time.sleep(_EVERY)
        ended = Ended(time.perf_counter() - started, process.returncode, stopped, "", "", peak, private, tree)
        if not peak:  # no /proc: the largest child so far, which is this one or an upper bound
            largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            ended = replace(ended, peak_bytes=largest * (1 if sys.platform == "darwin" else 1024))
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return replace(ended, output=texts[0], errors=texts[1])


def _memory(pid: int) -> tuple[int, int]:
    """Return peak and present private memory of a process in bytes, as Linux tells them; 0 elsewhere and after its end."""
    try:
        with Path(f"/proc/{pid}/status").open() as stream:
            lines = dict(line.split(":", 1) for line in stream if line.startswith(("VmHWM", "RssAnon")))
    except (OSError, ValueError):
        return 0, 0
    peak, private = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("VmHWM", "RssAnon"))
    return peak, private


def _tree(pid: int) -> int:
    """Return the memory that a process and its descendants hold now, in bytes, as Linux tells it; 0 elsewhere."""
    held, waiting = 0, [pid]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        try:
            held += int((folder / "statm").read_text().split()[1]) * resource.getpagesize()
            for thread in (folder / "task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except (OSError, ValueError, IndexError):  # it ended while we looked
            continue
    return held
