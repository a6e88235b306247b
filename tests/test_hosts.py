"""One slow host among several: named, with what makes it slow. Real clusters: test_cluster.py."""

import socket

import numpy as np
import pytest

from echofm_jax.hosts import KINDS, Alone, Hosts, lower_median, outlier

COLUMNS = list(KINDS)


def table(hosts: int, **changed) -> np.ndarray:
    """Hosts at 3 s a window, equally; `data_wait_s=(2, 1.5)` gives host 2 that many seconds."""
    usual = {"paused_s": 0.0, "data_wait_s": 0.01, "host_s": 0.05, "alone_s": 0.005, "step_s": 2.9}
    found = np.tile([usual[kind] for kind in KINDS], (hosts, 1))
    for kind, (host, seconds) in changed.items():
        found[host, COLUMNS.index(kind)] = seconds
    return found


@pytest.mark.parametrize("hosts", [2, 3, 16])
@pytest.mark.parametrize(
    ("kind", "seconds"),
    [("data_wait_s", 1.5), ("host_s", 0.4), ("paused_s", 2.0), ("alone_s", 0.009)],
)
def test_a_slow_host_is_named_with_the_reason(hosts, kind, seconds):
    host, found, its, usual, wall = outlier(table(hosts, **{kind: (1, seconds)}), 3.0)
    assert (host, found, its, wall) == (1, kind, seconds, 3.0)
    assert usual == table(hosts)[0, COLUMNS.index(kind)]


def test_of_two_reasons_the_first_explains_the_other():
    both = table(4, data_wait_s=(3, 2.0), paused_s=(3, 2.0))
    assert outlier(both, 3.0)[:2] == (3, "paused_s")


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"data_wait_s": (1, 0.3)},  # a tenth of the window
        {"step_s": (1, 1.0)},  # the mirror image of a wait
        {"alone_s": (1, 0.007)},
    ],
)
def test_what_every_host_has_or_what_is_little_names_nobody(changed):
    assert outlier(table(8, **changed), 3.0) is None


def test_hosts_that_are_all_slow_are_no_outliers():
    slow = table(4)
    slow[:, COLUMNS.index("data_wait_s")] = 2.0
    assert outlier(slow, 3.0) is None


def test_the_median_of_two_is_the_better_one():
    assert lower_median(np.array([5.0, 1.0])) == 1
    assert lower_median(np.array([5.0, 1.0, 2.0])) == 2


def test_rows_come_back_from_the_devices():
    hosts = Hosts()
    assert hosts.names == [socket.gethostname()]
    row = np.arange(len(KINDS), dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(hosts.gather(row)), row[None])


@pytest.fixture
def two() -> Hosts:
    """As host 0 of two sees it, once both rows are there."""
    hosts = Hosts()
    hosts.names, hosts._table = ["worker-0", "worker-1"], np.zeros((2, len(KINDS)))
    return hosts


def test_the_slow_one_is_named_once_and_all_are_summed_up(two, caplog):
    for _ in range(2):
        values = two.report(table(2, data_wait_s=(1, 1.5)), 3.0)
    assert values["hosts/worst"] == 1
    assert values["hosts/data_wait_s_min"] == values["hosts/data_wait_s_median"] == 0.01
    assert values["hosts/data_wait_s_max"] == 1.5
    (record,) = caplog.records  # not every few seconds again
    assert record.getMessage().startswith("host 1 (worker-1) holds the others up: waiting for data")
    assert record.getMessage().endswith("1.5 s of the last 3 s, the median host 0.01 s")
    assert "hosts/worst" not in two.report(table(2), 3.0)


def test_short_windows_are_judged_together(two, caplog):
    short = table(2, data_wait_s=(1, 1.5)) / 6  # of half a second
    for window in range(1, 9):
        assert ("hosts/worst" in two.report(short, 0.5)) == (window % 4 == 0)
    assert "0.25 s of" not in caplog.text and "1 s of the last 2 s" in caplog.text


def test_the_others_say_nothing(two, caplog):
    two.index = 1
    assert two.report(table(2, data_wait_s=(1, 1.5)), 3.0)["hosts/worst"] == 1
    assert not caplog.records


def test_work_done_alone_takes_time():
    assert Alone().seconds() > 0
