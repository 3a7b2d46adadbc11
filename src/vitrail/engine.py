"""Where work runs. This is the seam: threads or processes of this machine today; another executor (a cluster) fits in here."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar, overload

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_PROCESSES = 500
"""From so many small items on, processes are worth their start."""
IN_FLIGHT = 4
"""Items per thread that are under way or done and not yet taken."""
ORPHAN_SECONDS = 0.2
"""A worker looks this often whether the process that it works for is still there."""

_granted: int | None = None
"""Cores that :func:`limited_to` grants; ``None``: all."""
_keeping = 0
"""Contexts of :func:`memory_kept` that are open."""


class computed_once(cached_property[Result]):  # noqa: N801 - a decorator, as cached_property is
    """A cached property that several threads may ask for: the first computes it, the others wait and share the answer.

    From Python 3.12 on, ``functools.cached_property`` lets each of them compute it.
    """

    def __init__(self, function: Callable[[Any], Result]) -> None:
        super().__init__(function)
        self._only_one = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Result: ...

    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        """Return the value, after computing it if nobody has."""
        if instance is None or self.attrname in vars(instance):
            return super().__get__(instance, owner)
        with self._only_one:
            return super().__get__(instance, owner)


def available_cores() -> int:
    """Return the number of processor cores that this process may use (respects affinity, quotas of containers,
    :func:`limited_to`).
    """
    if _granted is not None:
        return _granted
    from loky import cpu_count

    return int(cpu_count())


def machine_memory() -> int:
    """Return the bytes of main memory that this process may use (respects containers); 0 where the system does not say."""
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return installed
    return min(installed, limit)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: Python's and NumPy's own, torch's and ONNX Runtime's by their words."""
    words = ("can't allocate memory", "out of memory", "failed to allocate memory")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in words)


@contextlib.contextmanager
def memory_kept() -> Iterator[None]:
    """Keep memory that is freed within, for work that asks for the same large blocks again and again, as training does.

    The C library of most Linux systems (glibc) gets each block above 32 MB from the system and gives it back when it is freed.
    The system clears it page by page: a third of the time of a training step on two cores. What was kept is given back at the
    end, that of the outermost context where one stands within another.
    """
    global _keeping
    if not _keeping:
        _set_memory_limits(system_from=1 << 30, trim_from=(1 << 31) - 1)
    _keeping += 1
    try:
        yield
    finally:
        _keeping -= 1
        if not _keeping:
            _set_memory_limits(system_from=1 << 25, trim_from=1 << 26)  # where glibc's own adjustment ends
            give_back_memory()


def give_back_memory() -> None:
    """Return memory that is free to the system. The C library of most Linux systems (glibc) keeps it for later, in pieces."""
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _set_memory_limits(*, system_from: int, trim_from: int) -> None:
    """Tell glibc from how many bytes on a block comes from the system, and how many free ones at the end of its own stay."""
    set_option = _of_c_library("mallopt")
    if set_option is not None:
        set_option(_M_TRIM_THRESHOLD, trim_from)
        if not set_option(_M_MMAP_THRESHOLD, system_from):  # older versions take no more than 32 MB
            set_option(_M_MMAP_THRESHOLD, 1 << 25)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _of_c_library(name: str) -> Callable[..., int] | None:
    """Return a function that only some C libraries of Linux have."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def map_in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 0,
    processes: bool = False,
    in_place_of: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """Apply ``function`` to every item in parallel and yield the results in the items' order.

    Only a bounded number of items is in flight, also when results are taken slowly, so memory does not grow with their number.

    Args:
        function: Must not raise for bad input: one broken item would end the whole job.
        items: What to work on; read in the caller's thread, as far ahead as items are in flight.
        workers: Number of workers; 0 means all available cores.
        processes: Work in processes of their own instead of threads: for work that is mostly Python and small arrays, which
            threads of one process do one after the other. ``function`` and items are pickled; starting takes about a second.
        in_place_of: Gives the result of an item that kills its process (a decoder that crashes, memory that runs out), also when
            it has a process for itself; ``None``: such an item ends the job.

    Raises:
        BrokenExecutor: An item killed its process, and ``in_place_of`` is ``None``.
    """
    workers = workers or available_cores()
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = _process_pool(workers) if processes and workers > 1 else ThreadPoolExecutor(workers)
    try:
        for item in items:
            try:
                future = pool.submit(function, item)
            except BrokenExecutor:  # a worker was killed: its pool takes no more work, a new one does
                pool = _process_pool(workers)
                future = pool.submit(function, item)
            waiting.append((item, future))
            if len(waiting) == IN_FLIGHT * workers:
                yield _result(function, *waiting.popleft(), in_place_of)
        while waiting:
            yield _result(function, *waiting.popleft(), in_place_of)
    finally:  # the caller has enough, or something failed: what has not begun need not begin
        for _, future in waiting:
            future.cancel()
        if isinstance(pool, ThreadPoolExecutor):
            pool.shutdown()


def _result(
    function: Callable[[Item], Result], item: Item, future: Future[Result], in_place_of: Callable[[Item], Result] | None
) -> Result:
    """Return the result. Who was killed may have shared a pool with the killer: alone in a process it shows who it was."""
    try:
        return future.result()
    except BrokenExecutor:
        from loky import ProcessPoolExecutor

        with ProcessPoolExecutor(1, initializer=_be_quiet) as alone:
            try:
                return alone.submit(function, item).result()  # type: ignore[no-any-return]
            except BrokenExecutor:
                if in_place_of is None:
                    raise
        return in_place_of(item)


def _process_pool(workers: int) -> Executor:
    """Return processes that are kept for some seconds for the next job; unlike multiprocessing's, they never import the script
    that the user runs, so that a script needs no guard against running itself again."""
    from loky import get_reusable_executor

    return get_reusable_executor(max_workers=workers, timeout=20, initializer=_be_quiet)  # type: ignore[no-any-return]


def start_processes(module: str) -> None:
    """Let the processes of the next job load a module while this one still loads its own."""
    workers = available_cores()
    if workers > 1:
        pool = _process_pool(workers)
        for _ in range(workers):
            pool.submit(_load, module)


def _load(module: str) -> None:
    importlib.import_module(module)


def _be_quiet() -> None:
    """Remarks of libraries on odd files are no concern of the person who waits."""
    warnings.simplefilter("ignore")


def one_thread_per_product() -> AbstractContextManager[object]:
    """Keep the numerical libraries from splitting single matrix products over threads, while the context lasts.

    Where :func:`map_in_order` already uses every core, threads inside each product only wait for one another: on two busy cores,
    batches of small products took ten times as long.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)  # type: ignore[no-any-return]


@contextlib.contextmanager
def limited_to(cores: int, *packages: str) -> Iterator[None]:
    """Let this process use so many cores at most, while the context lasts: its own threads and those of numerical libraries.

    The last digits of a sum depend on how many threads add it up: work that shall give the same numbers in one process or in
    several gets the same number of cores in each.

    Args:
        cores: At least 1.
        packages: What the work will load: a library that is loaded later would not know of the limit.
    """
    global _granted
    from threadpoolctl import threadpool_limits

    for package in packages:
        importlib.import_module(package)
    torch = sys.modules.get("torch")
    before, threads = _granted, torch.get_num_threads() if torch else 0
    _granted = cores
    try:
        with threadpool_limits(limits=cores):
            if torch:  # also its copy of MKL, which threadpoolctl does not see
                torch.set_num_threads(cores)
            yield
    finally:
        _granted = before
        if torch:
            torch.set_num_threads(threads)


class WorkerPool:
    """Processes that work at the same time, kept until the end; with one worker the work is done in this process, at once.

    On Linux and macOS workers end with the process that they work for, however it ends. On Windows they may outlive one that is
    killed.

    What is under way when the context ends is ended, not waited for: whoever wants an answer asks for it before.

    Args:
        workers: At least 1.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: Executor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            _end(self._executor)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Begin some work; function and arguments are pickled. What it raises stands in the answer."""
        if self.workers == 1:
            answer: Future[Result] = Future()
            try:
                answer.set_result(function(*arguments))
            except Exception as error:
                answer.set_exception(error)
            return answer
        try:
            return self._running().submit(function, *arguments)
        except BrokenExecutor:  # a worker was killed: its executor takes no more work, a new one does
            self._executor = None
            return self._running().submit(function, *arguments)

    def alone(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Do some work in a process for itself: of several that were under way when one was killed, this shows which it was.

        Raises:
            BrokenExecutor: It is killed again.
        """
        with processes_beside(1) as executor:
            return executor.submit(function, *arguments).result()

    def _running(self) -> Executor:
        if self._executor is None:
            self._executor = _new_executor(self.workers)
        return self._executor


@contextlib.contextmanager
def processes_beside(count: int) -> Iterator[Executor]:
    """Give processes that work while this one goes on with its own part; all are ended with the context, whatever they are at.

    Args:
        count: How many, at least 1: so many pieces of work run at the same time.
    """
    executor = _new_executor(count)
    try:
        yield executor
    finally:  # also at Control-C, which the workers themselves do not hear
        _end(executor)


def _new_executor(workers: int) -> Executor:
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(workers, initializer=_work_for, initargs=(os.getpid(),))  # type: ignore[no-any-return]


def _end(executor: Executor) -> None:
    """End the workers of an executor, whatever they are at."""
    executor.shutdown(wait=True, kill_workers=True)  # type: ignore[call-arg]


def _work_for(parent: int) -> None:
    """Begin a worker's life: Control-C is for the process that it works for, and with that process it ends."""
    _be_quiet()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:  # Windows leaves the number of a parent that is gone
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
