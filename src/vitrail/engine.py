"""Where work runs. This is the seam: threads in this process today; another executor (processes, a cluster) fits in here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT = 4
"""Items per thread that are under way or done and not yet taken."""


def available_cores() -> int:
    """Return the number of processor cores that this process may use (respects affinity and container limits)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share_cores() -> None:
    """Let threads of numerical libraries wait without burning their core, unless the user has said how they shall wait.

    By default GNU OpenMP (torch) spins for a long time at the end of every parallel loop. Where another process wants a core, on
    a laptop in use or a shared server, the loops then wait for spinning threads: training steps of a small network took 4 to 8
    times as long in measurements on two busy cores, and up to twice as long the other way round on two idle ones.

    Has to be called before torch is loaded; later it has no effect.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 0) -> Iterator[Result]:
    """Apply ``function`` to every item in parallel threads and yield the results in the items' order.

    Threads suffice where the work is decoding, compression or hashing: Pillow, zlib and hashlib release the interpreter
    lock. Only a bounded number of items is in flight, also when results are taken slowly, so memory does not grow with their
    number (joblib's generator bounds what it starts, not what waits to be taken).

    Args:
        function: Must not raise for bad input: one broken item would end the whole job.
        items: What to work on; read in the caller's thread, as far ahead as items are in flight.
        workers: Number of threads; 0 means all available cores.
    """
    workers = workers or available_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) == IN_FLIGHT * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller has enough, or something failed: what has not begun need not begin
            for future in waiting:
                future.cancel()
