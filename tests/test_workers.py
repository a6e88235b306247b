import ctypes
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.workers import HUNG, MOST, Apart, map_in_order


def echo(task):
    """Say the task; 'die' kills its process as a codec's crash would."""
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "slow":
        time.sleep(0.5)
    if task == "spoil":
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # and nobody handles SIGALRM
    if task == "wrong":
        raise ValueError("wrong")
    return task


def read_or_sleep(task):
    """Say the task; a pipe that nobody writes into, or a codec that keeps the lock, hangs."""
    if task == "lock":
        ctypes.PyDLL(None).sleep(600)
    if isinstance(task, Path):
        task.read_bytes()
    return task


def process_id(_) -> int:
    return os.getpid()


def reserve(size: int) -> str:
    """Ask for memory, without touching it."""
    try:
        return f"{np.empty(size, np.uint8).nbytes >> 20} MiB"
    except MemoryError:
        return "refused"


def test_a_task_gets_its_share_of_memory_and_no_more():
    assert list(map_in_order(reserve, [MOST, 1 << 28], 1)) == ["refused", "256 MiB"]


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept(workers):
    tasks = ["slow", *range(20), "slow", "last"]
    assert list(map_in_order(echo, tasks, workers)) == tasks


def test_a_death_costs_only_its_task():
    tasks = ["die", 1, 2, "die", 3, 4, 5, 6, 7, "die"]
    found = list(map_in_order(echo, tasks, 2))
    assert found == [None if task == "die" else task for task in tasks]


def test_what_hangs_is_ended_and_costs_only_its_task(tmp_path):
    """A pipe that nobody writes into, and a codec that never gives Python's lock back."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    tasks = [1, pipe, 2, "lock", 3, 4]
    found = list(map_in_order(read_or_sleep, tasks, 2, limit=lambda task: 1.0))
    assert found == [1, HUNG, 2, HUNG, 3, 4]
    assert not multiprocessing.active_children()


def test_who_dies_in_time_is_not_said_to_hang():
    apart = Apart(1, limit=lambda task: 60.0)
    assert apart.run(echo, "die") is None and apart.run(echo, 1) == 1
    apart.close()


def test_a_death_while_more_is_handed_out():
    """The pool may break between one result and the next task."""
    found = []
    for result in map_in_order(echo, ["slow", "die", 1, 2, 3], 1):
        time.sleep(0.4)
        found.append(result)
    assert found == ["slow", None, 1, 2, 3]


def test_a_process_apart():
    """It stays until it dies; who died of an earlier task's doing is not blamed for it."""
    apart = Apart(1)
    first = apart.run(process_id, 0)
    assert apart.run(process_id, 1) == first != os.getpid()
    assert apart.run(reserve, MOST) == "refused"
    assert apart.run(echo, "die") is None
    assert apart.run(process_id, 2) != first
    assert apart.run(echo, "spoil") == "spoil"
    assert apart.run(echo, "slow") == "slow"
    apart.close()
    assert not multiprocessing.active_children()


def test_an_exception_is_raised_and_no_process_stays():
    results = map_in_order(echo, [1, "wrong", 2], 2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="wrong"):
        next(results)
    assert not multiprocessing.active_children()


def test_no_tasks():
    assert list(map_in_order(echo, [], 2)) == []


def test_few_tasks_are_taken_ahead():
    """A long list of files does not fill the memory with results."""
    taken = []
    results = map_in_order(echo, (taken.append(i) or i for i in range(100)), 1)
    assert next(results) == 0 and len(taken) <= 3
    results.close()
