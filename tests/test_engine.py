"""Work in parallel: in order, bounded, and ended when nobody wants it any more."""

from __future__ import annotations

import itertools
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from vitrail.engine import (
    IN_FLIGHT,
    WorkerPool,
    available_cores,
    computed_once,
    limited_to,
    map_in_order,
    start_processes,
)


def test_results_come_in_the_order_of_the_items():
    def slower_for_small(number: int) -> int:
        time.sleep(0.004 * (number % 5 == 0))
        return number**2

    assert list(map_in_order(slower_for_small, range(60), workers=4)) == [number**2 for number in range(60)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_items_and_one_item(workers):
    assert list(map_in_order(str, [], workers=workers)) == []
    assert list(map_in_order(str, [7], workers=workers)) == ["7"]


def test_work_is_done_at_the_same_time():
    both = threading.Barrier(2, timeout=20)  # passed only when two threads stand before it
    assert len(list(map_in_order(lambda _: both.wait(), range(4), workers=2))) == 4


def test_a_slow_taker_does_not_make_results_pile_up():
    begun: list[int] = []
    results = map_in_order(lambda number: begun.append(number) or number, itertools.count(), workers=2)
    for taken in range(1, 20):
        assert next(results) == taken - 1
        time.sleep(0.002)
        assert len(begun) <= taken + 2 * IN_FLIGHT
    results.close()


def test_items_are_read_no_further_than_needed():
    read: list[int] = []

    def items():
        for number in range(1000):
            read.append(number)
            yield number

    results = map_in_order(str, items(), workers=2)
    assert next(results) == "0"
    assert len(read) == 2 * IN_FLIGHT
    results.close()


def test_a_failure_reaches_the_caller_and_ends_the_work():
    begun: list[int] = []

    def fail_at_five(number: int) -> int:
        begun.append(number)
        if number == 5:
            raise KeyError(number)
        return number

    results = map_in_order(fail_at_five, range(1000), workers=2)
    assert list(itertools.islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(KeyError):
        next(results)
    assert len(begun) < 30


def test_no_thread_stays_behind(recwarn):
    before = threading.active_count()
    results = map_in_order(lambda number: time.sleep(0.01), range(100), workers=3)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert not recwarn.list


# ---------------------------------------------------------------------------------------------------- processes


def square_elsewhere(item: tuple[int, int]) -> tuple[int, bool]:
    """Square a number; say whether that was done outside the process whose number comes with it. Slower for some."""
    parent, number = item
    time.sleep(0.01 * (number % 7 == 0))
    return number**2, os.getpid() != parent


def die_at_five(item: tuple[int, int]) -> int:
    """Square a number; at five, end the process at once, as a crashing decoder does, unless it is the one that comes with it."""
    parent, number = item
    if number == 5 and os.getpid() != parent:
        os._exit(1)
    return number**2


def warn(number: int) -> int:
    warnings.warn("odd file", stacklevel=1)
    return number


def refuse(number: int) -> int:
    raise KeyError(number)


def test_processes_keep_the_order_and_are_others():
    items = [(os.getpid(), number) for number in range(60)]
    assert list(map_in_order(square_elsewhere, items, workers=2, processes=True)) == [(number**2, True) for number in range(60)]
    assert list(map_in_order(square_elsewhere, items[:3], workers=1, processes=True)) == [(0, False), (1, False), (4, False)]


def test_a_slow_taker_of_processes_reads_no_further_than_needed():
    read: list[int] = []
    results = map_in_order(abs, (read.append(number) or number for number in range(1000)), workers=2, processes=True)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(read) <= 2 + 2 * IN_FLIGHT
    results.close()
    assert list(map_in_order(abs, [-1, -2], workers=2, processes=True)) == [1, 2]  # the next job has its processes


def test_a_failure_in_a_process_reaches_the_caller(recwarn):
    with pytest.raises(KeyError):
        list(map_in_order(refuse, range(100), workers=2, processes=True))
    assert list(map_in_order(warn, range(5), workers=2, processes=True)) == list(range(5))
    assert not recwarn.list


def test_what_kills_its_process_has_another_result_in_its_place():
    items = [(os.getpid(), number) for number in range(2 * IN_FLIGHT)]
    expected = [number**2 if number != 5 else -5 for _, number in items]
    for _ in range(2):
        results = map_in_order(die_at_five, items, workers=2, processes=True, in_place_of=lambda item: -item[1])
        assert list(results) == expected


def test_what_kills_its_process_ends_the_job_where_nothing_stands_in_its_place():
    with pytest.raises(BrokenExecutor):
        list(map_in_order(die_at_five, [(os.getpid(), number) for number in range(8)], workers=2, processes=True))


def test_work_goes_on_after_a_process_was_killed():
    items = [(os.getpid(), number) for number in range(200)]
    results = map_in_order(die_at_five, items, workers=2, processes=True, in_place_of=lambda item: item[1] ** 2)
    assert list(results) == [number**2 for _, number in items]


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_processes_that_were_started_early_are_those_that_the_next_job_gets():
    def has_loaded(module: str) -> bool:
        import sys

        return module in sys.modules

    assert not any(map_in_order(has_loaded, ["wave"] * 20, processes=True))
    start_processes("wave")
    assert any(map_in_order(has_loaded, ["wave"] * 20, processes=True)) or available_cores() == 1


def test_what_is_computed_once_is_computed_once_for_all_threads_and_anew_for_every_object():
    class Folder:
        computed = 0

        @computed_once
        def size(self) -> int:
            """Anything slow."""
            time.sleep(0.05)
            self.computed += 1
            return self.computed

    one, other = Folder(), Folder()
    assert list(map_in_order(lambda _: one.size, range(8), workers=8)) == [1] * 8
    assert other.size == 1
    assert Folder.size.__doc__ == "Anything slow."


def test_a_limit_holds_for_all_that_computes_and_ends():
    import torch
    from threadpoolctl import threadpool_info

    before = available_cores(), torch.get_num_threads()
    with limited_to(1, "scipy.linalg"):
        assert (available_cores(), torch.get_num_threads()) == (1, 1)
        assert {library["num_threads"] for library in threadpool_info()} == {1}
    assert (available_cores(), torch.get_num_threads()) == before


def cores_of_a_worker(cores: int) -> tuple[int, int]:
    with limited_to(cores):
        return available_cores(), os.getpid()


def test_workers_are_processes_that_stay_and_hold_their_limit():
    with WorkerPool(2) as pool:
        found = [pool.submit(cores_of_a_worker, 1).result() for _ in range(4)]
    assert {cores for cores, _ in found} == {1}
    assert 1 <= len({process for _, process in found} - {os.getpid()}) <= 2


def note_and_sleep(note: Path, seconds: float) -> None:
    note.write_text(str(os.getpid()))
    time.sleep(seconds)


def noted(note: Path) -> int:
    while not (note.exists() and note.read_text()):
        time.sleep(0.01)
    return int(note.read_text())


def test_what_is_under_way_at_the_end_is_ended_and_not_waited_for(tmp_path):
    started = time.monotonic()
    with WorkerPool(2) as pool:
        pool.submit(note_and_sleep, tmp_path / "note", 60)
        process = noted(tmp_path / "note")
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_control_c_ends_work_in_a_process_for_itself(tmp_path):
    def interrupt() -> None:
        noted(tmp_path / "note")
        os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        WorkerPool(2).alone(note_and_sleep, tmp_path / "note", 60)
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(noted(tmp_path / "note"), 0)


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in platform.libc_ver(), reason="only glibc can be told to keep memory")
def test_memory_that_work_asks_for_again_is_kept_until_the_work_is_done():
    script = """
import os, pathlib
import numpy as np
from vitrail.engine import memory_kept

def held():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

before, large = held(), 80_000_000
np.ones(large, dtype=np.uint8)
assert held() < before + large / 2, "else the test shows nothing"
with memory_kept():
    with memory_kept():
        np.ones(large, dtype=np.uint8)
    assert held() > before + large / 2
assert held() < before + large / 2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # what it holds is its own
    assert done.returncode == 0, done.stderr
