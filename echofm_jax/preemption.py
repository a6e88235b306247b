"""Stopping between two steps when the machine is about to be taken away, or the user asks."""

import signal


class StopSignals:
    """Remembers SIGTERM and SIGINT, so that the loop can end between two steps."""

    def __init__(self):
        self.received: int | None = None

    def __enter__(self) -> "StopSignals":
        """Take the signals over."""

        def remember(number, frame):
            self.received = number

        self.before = {s: signal.signal(s, remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
