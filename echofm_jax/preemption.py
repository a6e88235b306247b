"""Stopping between two steps when the machine is about to be taken away, or the user asks.

From the signal to the exit pass, in a cluster: up to a second until JAX looks, two or three steps,
the save that may be under way, and one more. A grace period must be longer than that.
"""

import signal

import jax
from jax.experimental import multihost_utils

from echofm_jax.errors import TryAgain

INTERRUPTED = 128 + signal.SIGINT


class StopSignals:
    """Remembers SIGTERM and SIGINT, so that the loop can end between two steps.

    In a cluster JAX itself waits for SIGTERM, and has the hosts agree on the step: one more than
    the furthest of them has begun.
    """

    def __init__(self):
        self.received: int | None = None
        self.cluster = jax.distributed.is_initialized()

    def __enter__(self) -> "StopSignals":
        """Take the signals over."""

        def remember(number, frame):
            if number == signal.SIGINT and self.received == number:
                signal.signal(number, self.before[number])  # a third Ctrl-C means now
            self.received = number
            if self.cluster:
                signal.raise_signal(signal.SIGTERM)  # tells the others

        taken = (signal.SIGINT,) if self.cluster else (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.signal(number, remember) for number in taken}
        return self

    def due(self, step: int) -> bool:
        """Whether the run must end after this step; call it every step, on every host."""
        if self.cluster:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.received is not None

    @property
    def status(self) -> int:
        """The exit status after an orderly stop: Ctrl-C is not to be started again."""
        return INTERRUPTED if self.received == signal.SIGINT else TryAgain.status

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
