"""A function over many files on all cores, in order, at most two files a worker under way.

A process that dies (a codec's segmentation fault, the kernel's out-of-memory killer) costs its
file, never the run. Each may allocate its share of the machine's memory, at least LEAST and at most
MOST, whatever a file makes it do; what asks for more gets a MemoryError. Files that are mapped do
not count.
"""

import collections
import contextlib
import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

MOST, LEAST = 4 << 30, 1 << 30  # bytes that a process may allocate at most; that each needs

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result | None]:
    """`function(task)` for each task, in the tasks' order; None where its process died."""
    waiting = collections.deque()
    tasks = iter(tasks)
    pool = _pool(workers, workers)
    try:
        while True:
            while len(waiting) < 2 * workers and (task := next(tasks, None)) is not None:
                waiting.append((task, _submit(pool, function, task)))
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
                with contextlib.closing(Apart(1)) as apart:
                    for task in again:
                        yield apart.run(function, task)
                pool = _pool(workers, workers)
    finally:
        pool.shutdown(cancel_futures=True)


class Apart:
    """A process of its own for one task after the other, a new one after each death.

    Args:
      workers: how many such processes share the machine's memory.
    """

    def __init__(self, workers: int):
        self.workers, self._process = workers, None

    def run(self, function: Callable[[Task], Result], task: Task) -> Result | None:
        """`function(task)`; None if its process died of it."""
        new = self._process is None
        if new:
            self._process = _pool(1, self.workers)
        try:
            return self._process.submit(function, task).result()
        except BrokenProcessPool:
            self.close()
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


def _submit(
    pool: ProcessPoolExecutor, function: Callable[[Task], Result], task: Task
) -> "Future[Result]":
    try:
        return pool.submit(function, task)
    except BrokenProcessPool as error:  # since the last result; told like all other deaths
        future = Future()
        future.set_exception(error)
        return future
