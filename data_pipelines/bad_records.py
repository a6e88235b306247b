"""Records that cannot be read or decoded: passed over, named once, counted, until there are many.

Another record stands in for a bad one (`loader.Loader`), so that batches stay whole.
"""

import logging
import math
import threading

from echofm_jax.errors import InputError

log = logging.getLogger(__name__)


class BadRecord(InputError):
    """A record that cannot be read or decoded; the message names its shard and number, no path."""


def most(share: float, records: int, due: int) -> float:
    """How many may be bad of the first `due`: of every epoch begun the share, and one at least."""
    return max(1, share * records) * math.ceil(due / records)


class BadRecords:
    """What a process met of them since it began. A bad record counts once each time it was due."""

    def __init__(self, share: float, records: int):
        """`share` of the `records` of an epoch may be bad."""
        self.share, self.records = share, records
        self.known: set[int] = set()
        self.count = self.due = 0
        self._lock = threading.Lock()

    def tell(self, index: int, error: BadRecord) -> None:
        """Remember a record as bad and say so, once."""
        with self._lock:
            if index not in self.known:
                self.known.add(index)
                log.warning("%s: another record stands in for it", error)

    def slots(self, due: int, bad: int) -> None:
        """Count the records of a batch, and those of them that were bad.

        Raises:
          InputError: there are more bad ones than `share` allows.
        """
        with self._lock:
            self.due, self.count = self.due + due, self.count + bad
            if self.count > most(self.share, self.records, self.due):
                raise InputError(
                    f"{self.count} of {self.due} records could not be read, more than "
                    f"data.max_bad_records={self.share:g} of {self.records} allows: look at the "
                    "shards named above, ingest their sources again, or raise it"
                )
