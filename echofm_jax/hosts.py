"""Which host holds the others up, and by what: every host's seconds, compared at logged steps.

In one program over all devices each host's step takes equally long: the others wait for the slow
one inside a collective. What tells it apart is the time in which its devices had nothing to do,
the time in which it was not allowed to run, and a little work that each host does alone.
"""

import functools
import logging
import socket
import time
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from echofm_jax import distributed, perf

log = logging.getLogger(__name__)
KINDS = {  # column of the table: what it says of the one host that has more of it than the others
    "paused_s": "not running (stopped, migrated or starved by something else on it)",
    "data_wait_s": "waiting for data (look at its loader, disk and network)",
    "host_s": "busy between the steps (look at its processors and memory)",
    "alone_s": "slower devices or processors (the same small work, done alone)",
    "step_s": "",  # the same everywhere, see above
}
SHARE = 0.1  # of the time that a host must lose to be named
JUDGED = 2.0  # seconds of steps at least, so that noise names nobody
SLOWER = 1.5  # times the median host's `alone_s`
AGAIN_AFTER = 60.0  # seconds until the same is said again
ALONE_SECONDS = 0.005  # of work on devices at their peak
SIZE = 512  # of the matrices in it


class Outlier(NamedTuple):
    """One host that holds the others up."""

    host: int
    kind: str  # of KINDS
    seconds: float  # that it has of it
    usual: float  # that the median host has
    wall: float  # seconds in which it had them


class Hosts:
    """Every host's row of seconds, gathered in the order of the steps; nothing waits for it."""

    def __init__(self):
        self.count, self.index = jax.process_count(), jax.process_index()
        devices = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
        grid = np.array(devices).reshape(self.count, -1)
        mesh = Mesh(grid, ("host", "device"), axis_types=(AxisType.Auto,) * 2)
        self.rows, everywhere = NamedSharding(mesh, P("host")), NamedSharding(mesh, P())
        self._copy = jax.jit(lambda rows: rows, out_shardings=everywhere)
        self.names = distributed.gather(socket.gethostname())
        self._table, self._wall = np.zeros((self.count, len(KINDS))), 0.0  # not judged yet
        self._said: dict[tuple[int, str], float] = {}

    def gather(self, row: np.ndarray) -> jax.Array:
        """This host's row [n] → all hosts' [hosts, n], there once the devices come to it."""
        shape = (self.count, len(row))
        return self._copy(jax.make_array_from_process_local_data(self.rows, row[None], shape))

    def report(self, table: np.ndarray, wall: float) -> dict[str, float]:
        """Least, median and most of every kind; names a host that stands out, on standard error.

        Args:
          table: [hosts, kinds] seconds in a window, columns as in `KINDS`.
          wall: the window's length in seconds.
        """
        values = {}
        for kind, column in zip(KINDS, table.T, strict=True):
            values |= {
                f"hosts/{kind}_min": float(column.min()),
                f"hosts/{kind}_median": float(lower_median(column)),
                f"hosts/{kind}_max": float(column.max()),
            }
        alone = list(KINDS).index("alone_s")
        self._table, self._wall = self._table + table, self._wall + wall
        self._table[:, alone] = table[:, alone]  # measured now and then: the newest counts
        if self._wall >= JUDGED:
            found = outlier(self._table, self._wall)
            if found is not None:
                values["hosts/worst"] = float(found.host)
                self._name(found)
            self._table, self._wall = np.zeros_like(self._table), 0.0
        return values

    def _name(self, found: Outlier) -> None:
        now, same = time.monotonic(), found[:2]
        if self.index or now - self._said.get(same, -np.inf) < AGAIN_AFTER:
            return
        self._said[same] = now
        of = "" if found.kind == "alone_s" else f" of the last {found.wall:.3g} s"
        log.warning(
            "host %d (%s) holds the others up: %s: %.3g s%s, the median host %.3g s",
            found.host, self.names[found.host], KINDS[found.kind], found.seconds, of, found.usual,
        )  # fmt: skip


def outlier(table: np.ndarray, wall: float) -> Outlier | None:
    """The host that stands out in `wall` seconds, if one does; `table` as in `Hosts.report`.

    Of several reasons the first of `KINDS` is given: a host that was stopped had no data either.
    """
    for kind, column in zip(KINDS, table.T, strict=True):
        host = int(column.argmax())
        seconds, usual = float(column[host]), float(lower_median(column))
        limit = SLOWER * usual if kind == "alone_s" else usual + SHARE * wall
        if KINDS[kind] and seconds > limit:
            return Outlier(host, kind, seconds, usual, wall)
    return None


def lower_median(column: np.ndarray) -> float:
    """The median; of two hosts the better one, so that the other can stand out."""
    return np.sort(column)[(len(column) - 1) // 2]


class Alone:
    """Matrix products on this host's devices, without the others: tells a slow chip or host."""

    def __init__(self):
        devices = jax.local_devices()
        mesh = Mesh(np.array(devices), ("device",), axis_types=(AxisType.Auto,))
        shape = (len(devices), SIZE, SIZE)
        self.x = jax.device_put(np.zeros(shape, np.float32), NamedSharding(mesh, P("device")))
        peak = perf.PEAK_TFLOPS.get(devices[0].device_kind, 0.1) * 1e12
        times = max(1, round(ALONE_SECONDS * peak / (2 * SIZE**3)))
        self.work = jax.jit(functools.partial(_products, times=times))
        self.work(self.x).block_until_ready()

    def seconds(self) -> float:
        """The best of three; the devices should have nothing else to do."""
        took = []
        for _ in range(3):
            began = time.perf_counter()
            self.work(self.x).block_until_ready()
            took.append(time.perf_counter() - began)
        return min(took)


def _products(x: jax.Array, *, times: int) -> jax.Array:
    return jax.lax.fori_loop(0, times, lambda _, y: x @ y, x)
