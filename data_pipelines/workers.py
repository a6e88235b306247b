"""A function over many files on all cores, in order, with as many results in memory as workers.

A process that dies (a codec's segmentation fault, the kernel's out-of-memory killer) costs its
file, never the run. Each may take its share of the machine's memory and no more, whatever a file
makes it do; what asks for more gets a MemoryError.
"""

import collections
import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

MOST, LEAST = 4 << 30, 1 << 30  # bytes that one process may take at most; that each needs

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Result | None]:
    """`function(task)` for each task, in the tasks' order; None where its process died."""
    waiting = collections.deque()
    tasks = iter(tasks)
    pool = _pool(workers)
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
                for task in again:
                    yield _alone(function, task)
                pool = _pool(workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return ProcessPoolExecutor(
        workers,
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


def _alone(function: Callable[[Task], Result], task: Task) -> Result | None:
    with _pool(1) as pool:
        try:
            return pool.submit(function, task).result()
        except BrokenProcessPool:
            return None
