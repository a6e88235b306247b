"""A function over many files on all cores, in order, at most two files a worker under way.

A process that dies (a codec's segmentation fault, the kernel's out-of-memory killer) costs its
file, never the run. Each may allocate its share of the machine's memory, at least LEAST and at most
MOST, whatever a file makes it do; what asks for more gets a MemoryError. Files that are mapped do
not count. A process that does not come back from a file within its time is ended, and costs that
file too.
"""

import collections
import contextlib
import faulthandler
import multiprocessing
import os
import resource
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

MOST, LEAST = 4 << 30, 1 << 30  # bytes that a process may allocate at most; that each needs
HUNG = object()  # the result of a task that took too long
PATIENCE, PACE = 600.0, 1e6  # s for any file and bytes/s of a large one: a hundred times as slow

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    limit: Callable[[Task], float] | None = None,
) -> Iterator[Result | None]:
    """`function(task)` for each task, in the tasks' order; None where its process died.

    With `limit`, the seconds that a task may take, HUNG where it took longer.
    """
    waiting = collections.deque()
    tasks = iter(tasks)
    pool = _pool(workers, workers)
    try:
        while True:
            while len(waiting) < 2 * workers and (task := next(tasks, None)) is not None:
                waiting.append((task, _submit(pool, function, task, limit)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # Whoever broke it, all that were under way are lost: each once more, alone.
                pool.shutdown()
                again = [task, *(task for task, _ in waiting)]
                waiting.clear()
                with contextlib.closing(Apart(1, limit)) as apart:
                    for task in again:
                        yield apart.run(function, task)
                pool = _pool(workers, workers)
    finally:
        pool.shutdown(cancel_futures=True)


class Apart:
    """A process of its own for one task after the other, a new one after each death.

    Args:
      workers: how many such processes share the machine's memory.
      limit: seconds that a task may take.
    """

    def __init__(self, workers: int, limit: Callable[[Task], float] | None = None):
        self.workers, self.limit, self._process = workers, limit, None

    def run(self, function: Callable[[Task], Result], task: Task) -> Result | None:
        """`function(task)`; None if its process died of it, HUNG if it took too long."""
        new = self._process is None
        if new:
            self._process = _pool(1, self.workers)
        began = time.monotonic()
        try:
            if new:
                self._process.submit(int).result()  # to begin takes time, too
                began = time.monotonic()
            return _submit(self._process, function, task, self.limit).result()
        except BrokenProcessPool:
            self.close()
            if self.limit is not None and time.monotonic() - began >= self.limit(task):
                return HUNG
            # What an earlier task left behind may have been the cause: once more without it.
            return None if new else self.run(function, task)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.shutdown()
            self._process = None


def _pool(count: int, workers: int) -> ProcessPoolExecutor:
    """So many processes, each with the memory of one of `workers`."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(min(MOST, max(LEAST, machine // workers)),),
    )


def _begin(memory: int) -> None:
    """In a new process: take so many bytes at most, and do not outlive the parent."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    # Its siblings hold the queue of tasks open: a parent that was killed would not be missed.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def patience(stamps: Iterable[tuple[int, int]]) -> float:
    """Seconds after which a process will not come back from files of these (bytes, time)."""
    return PATIENCE + sum(size for size, _ in stamps) / PACE


def lost(result: object) -> str:
    """Why a task has no result; empty if it has one."""
    if result is HUNG:
        return "took far too long and was stopped"
    return "its process died" if result is None else ""


def _submit(
    pool: ProcessPoolExecutor,
    function: Callable[[Task], Result],
    task: Task,
    limit: Callable[[Task], float] | None,
) -> "Future[Result]":
    try:
        if limit is None:
            return pool.submit(function, task)
        return pool.submit(_within, limit(task), function, task)
    except BrokenProcessPool as error:  # since the last result; told like all other deaths
        future = Future()
        future.set_exception(error)
        return future


def _within(seconds: float, function: Callable[[Task], Result], task: Task) -> Result:
    """In a worker: `function(task)`, or the end of the process, even if a codec holds the lock."""
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            return function(task)
        finally:
            faulthandler.cancel_dump_traceback_later()
