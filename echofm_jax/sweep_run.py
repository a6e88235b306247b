"""Runs what cells of a sweep still need, as processes of the ordinary commands."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from echofm_jax.errors import TryAgain
from echofm_jax.sweep_cell import commands, label, last_line, tied
from echofm_jax.sweep_file import Cell

FINAL = (1, 2, 130)  # exit statuses after which nothing is started again (launch/README.md)
RESTARTS = 5  # of a process that was killed or told to stop, while we were not


class Process:
    """A cell that is being worked on, and the process that does."""

    def __init__(self, cell: Cell, workdir: Path, alone: bool):
        self.cell, self.folder = cell, workdir / cell.name
        self.commands = deque(commands(cell, workdir, alone))
        self.restarts = 0
        self.popen: subprocess.Popen | None = None
        # The seeds of a setting run the same program: compile it once.
        cache = {"JAX_COMPILATION_CACHE_DIR": str(workdir.absolute() / "compile_cache")}
        self.environment = cache | os.environ

    def start(self) -> None:
        """Begin the next command; what it says goes into the cell's log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "failed.txt").unlink(missing_ok=True)
        with (self.folder / "log.txt").open("ab") as log:
            self.since = log.tell()
            self.popen = subprocess.Popen(
                tied(self.folder, self.commands[0]), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.environment,
            )  # fmt: skip

    def again(self, status: int) -> bool:
        """Whether the command is to be started again, as the launchers do."""
        self.restarts += 1
        return status not in FINAL and self.restarts <= RESTARTS

    def give_up(self, status: int) -> str:
        """Why the cell failed, in a line, which is kept in its folder."""
        said = last_line(self.folder / "log.txt", self.since)
        why = f"{label(self.commands[0])} {reason(status)}: {said}"
        (self.folder / "failed.txt").write_text(why + "\n")
        return why


class Runner:
    """Runs the commands of cells as processes, at most so many at a time."""

    def __init__(self, workdir: Path, cells: Sequence[Cell], jobs: int, alone: bool):
        self.workdir, self.jobs, self.total, self.alone = workdir, jobs, len(cells), alone
        self.waiting = deque(cells)
        self.running: dict[int, Process] = {}  # by process id
        self.done, self.failed = 0, 0
        self.stopped: int | None = None  # by which signal

    def run(self) -> int:
        """Run all; returns the exit status, or raises TryAgain when told to stop."""
        before = {n: signal.signal(n, self.stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            while (self.waiting and not self.stopped) or self.running:
                while self.waiting and not self.stopped and len(self.running) < self.jobs:
                    self.next(Process(self.waiting.popleft(), self.workdir, self.alone))
                if self.running:
                    pid, status = os.wait()
                    self.ended(self.running.pop(pid), os.waitstatus_to_exitcode(status))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        shown = f"{self.done} of {self.total} cells done, {self.failed} failed"
        if self.stopped == signal.SIGINT:
            raise KeyboardInterrupt
        if self.stopped:
            raise TryAgain(f"stopped: {shown}; the same command again goes on")
        again = " (the same command again tries those)" if self.failed else ""
        print(f"{shown}{again}: next `echofm report {self.workdir}`", flush=True)
        return int(self.failed > 0)

    def stop(self, number: int, frame: object) -> None:
        """Begin nothing more and tell what runs to save; a second signal ends this at once."""
        self.stopped = number
        signal.signal(number, signal.SIG_DFL)
        for process in self.running.values():
            process.popen.terminate()

    def next(self, process: Process) -> None:
        """Begin a cell's next command, if there is one."""
        if not process.commands:
            self.done += 1
            self.say(process, "done" if process.popen else "done already")
            return
        self.say(process, label(process.commands[0]))
        process.start()
        self.running[process.popen.pid] = process
        if self.stopped:  # it came in between
            process.popen.terminate()

    def ended(self, process: Process, status: int) -> None:
        """A command ended: take the cell's next one or the same again, or give the cell up."""
        process.popen.returncode = status  # os.wait took it from Popen
        if status == 0:
            process.commands.popleft()
            if not self.stopped or not process.commands:
                self.next(process)
        elif self.stopped:
            self.say(process, "stopped")
        elif process.again(status):
            self.say(process, f"{reason(status)}: begun again")
            self.next(process)
        else:
            self.failed += 1
            self.say(process, f"FAILED: {process.give_up(status)}")

    def say(self, process: Process, what: str) -> None:
        """A line about a cell."""
        counted = self.done + self.failed
        print(f"[{counted}/{self.total}] {process.cell.name}: {what}", flush=True)


def reason(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
