"""The roll call, with threads for hosts; what becomes of a lost host is in test_cluster.py."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from echofm_jax import lifeline
from echofm_jax.errors import InputError, TryAgain


@pytest.fixture
def port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def meet(port: int, *hosts: tuple[int, int]) -> list:
    """Each host's (count, index) → what it got from the roll call, or what it raised."""

    def one(host: tuple[int, int]):
        try:
            return lifeline.meet(f"localhost:{port}", *host)
        except (InputError, TryAgain) as error:
            return error

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(one, hosts))


def test_hosts_meet_and_part(port):
    lines = meet(port, (3, 2), (3, 0), (3, 1))
    for line, index in zip(lines, (2, 0, 1), strict=True):
        assert line.index == index and line.names == [socket.gethostname()] * 3
        assert max(map(abs, line.ahead)) < lifeline.ARRIVAL
        assert sorted(line.peers) == ([1, 2] if index == 0 else [0])
    parting = [threading.Thread(target=line.leave) for line in lines]
    for thread in parting[:2]:
        thread.start()
    parting[0].join(0.2)
    assert parting[0].is_alive() and parting[1].is_alive()  # host 1 is still at work
    parting[2].start()
    for thread in parting:
        thread.join(10)
        assert not thread.is_alive()


def test_the_port_is_free_again_for_jax_while_the_lines_are_open(port):
    lines = meet(port, (2, 0), (2, 1))
    with socket.create_server(("", port)):
        pass
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lifeline.Lifeline.leave, lines))


def test_strangers_are_ignored(port):
    def stranger() -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                with socket.create_connection(("localhost", port)) as line:
                    line.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    return
            except OSError:
                time.sleep(0.01)

    thread = threading.Thread(target=stranger)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lifeline.meet, f"localhost:{port}", 2, 0)
        thread.start()
        thread.join()
        lines = [lifeline.meet(f"localhost:{port}", 2, 1), first.result()]
        list(pool.map(lifeline.Lifeline.leave, lines))


def test_missing_hosts_are_named_to_all_who_came(port, monkeypatch):
    monkeypatch.setattr(lifeline, "ARRIVAL", 1.0)
    for error in meet(port, (4, 0), (4, 2)):
        assert type(error) is TryAgain and str(error).startswith("host 1, 3 of 4 did not come")


def test_without_host_0_nobody_waits_for_ever(port, monkeypatch):
    monkeypatch.setattr(lifeline, "ARRIVAL", 1.0)
    for error in meet(port, (3, 1), (3, 2)):
        assert type(error) is TryAgain
        assert f"host 0 did not come: nothing answers at localhost:{port}" in str(error)


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (((3, 0), (3, 1), (3, 1)), "were both started as host 1"),
        (((2, 0), (3, 1)), "was told of 3 hosts and host 0 of 2"),
    ],
)
def test_hosts_that_were_started_wrongly(hosts, said, port):
    errors = meet(port, *hosts)
    assert type(errors[0]) is InputError and said in str(errors[0])
    assert {type(error) for error in errors[1:]} == {InputError}
    assert {str(error) for error in errors} == {str(errors[0])}


def test_a_port_in_use_is_waited_for_and_then_named(port, monkeypatch):
    monkeypatch.setattr(lifeline, "ARRIVAL", 0.5)
    with socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True):
        (error,) = meet(port, (2, 0))
    assert type(error) is TryAgain and f"port {port} cannot be used" in str(error)
