"""Where work runs. joblib is the seam: threads in this process today; processes or a cluster are another backend of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Return the number of processor cores that this process may use (respects affinity and container limits)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int = 0) -> Iterator[Result]:
    """Apply ``function`` to every item in parallel threads and yield the results in the items' order.

    Threads suffice where the work is decoding, compression or hashing: Pillow, zlib and hashlib release the interpreter
    lock. Only a bounded number of items is in flight, so memory does not grow with their number.

    Args:
        function: Must not raise for bad input: one broken item would end the whole job.
        items: What to work on.
        workers: Number of threads; 0 means all available cores.
    """
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=workers or available_cores(), backend="threading", return_as="generator", pre_dispatch="4*n_jobs")
    yield from pool(delayed(function)(item) for item in items)
