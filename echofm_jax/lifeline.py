"""A TCP line from every host to host 0: who has come, who is gone, why a run ends.

JAX aborts when a host does not come or dies, and tells neither which nor, for a minute, anything.
So hosts meet here first, on the coordinator's own port, before JAX listens on it; the lines stay
open for the whole run. The kernel closes those of a process that ends, however it ends, and
`KEEPALIVE` finds a machine that fell silent. One message goes each way after the roll call.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time

from echofm_jax.errors import InputError, TryAgain

ARRIVAL = 50.0  # seconds until all hosts must have come
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
SILENCE = 30.0  # seconds after which a silent machine is gone: 10 + 4 × 5
LONGEST = 1 << 20  # bytes of a message: a roll of thousands of hosts


class Lifeline:
    """This host's end of the lines: those to all others on host 0, the one to host 0 elsewhere."""

    def __init__(self, index: int, names: list[str], ahead: list[float], peers: dict):
        self.index, self.names, self.ahead = index, names, ahead
        self.peers: dict[int, socket.socket] = peers
        self.ending = threading.Lock()  # held by whoever ends the run, for good
        self.watchers = [
            threading.Thread(target=self._watch, args=item, name="lifeline", daemon=True)
            for item in peers.items()
        ]
        for watcher in self.watchers:
            watcher.start()

    def name(self, host: int) -> str:
        """What messages call a host."""
        return f"host {host} ({self.names[host]})"

    def _watch(self, host: int, line: socket.socket) -> None:
        """Wait for a host's one message: its farewell, or why all must end.

        In the second case, say it in one line and end the process, whatever its threads wait for.
        """
        message = receive(line)
        if message == {"done": True}:
            return
        if message is None:
            message = {"status": TryAgain.status, "said": f"{self.name(host)} is gone"}
        status, said = message["status"], message["said"]
        if not self.tell(status, said):
            return
        again = ": start the same command again" if status == TryAgain.status else ""
        os.write(sys.stderr.fileno(), f"echofm: {said}{again}\n".encode())
        os._exit(status)

    def tell(self, status: int, said: str) -> bool:
        """Send why all must end: host 0 to everybody, the others to host 0, who passes it on.

        Returns False, and sends nothing, if this host is ending already.
        """
        if not self.ending.acquire(blocking=False):
            return False
        for line in self.peers.values():
            send(line, {"status": status, "said": said})
        return True

    def await_verdict(self) -> None:
        """Return if nobody is gone; otherwise the process ends in here."""
        end = time.monotonic() + SILENCE + 5
        for watcher in self.watchers:
            watcher.join(max(end - time.monotonic(), 0))

    def leave(self) -> None:
        """Return when every host has come to its end in good order."""
        if self.index:
            send(self.peers[0], {"done": True})
        for watcher in self.watchers:
            watcher.join()
        if not self.index:
            for line in self.peers.values():
                send(line, {"done": True})
        for line in self.peers.values():
            line.close()


def meet(address: str, count: int, index: int) -> Lifeline:
    """The roll call: returns when all `count` hosts have come.

    Args:
      address: host 0's, as `name:port`.
      count: hosts.
      index: of this host.

    Raises:
      TryAgain: after ARRIVAL seconds, naming the hosts that are missing.
      InputError: the hosts do not agree on how many they are, or two have the same index.
    """
    here = {"index": index, "count": count, "name": socket.gethostname(), "clock": time.time()}
    name, _, port = address.rpartition(":")
    if index == 0:
        lines, roll = _call(int(port), here)
    else:
        line, roll = _answer(name.strip("[]"), int(port), here)
        lines = {0: line}
    for line in lines.values():
        line.settimeout(None)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return Lifeline(index, roll["names"], roll["ahead"], lines)


def _call(port: int, here: dict) -> tuple[dict[int, socket.socket], dict]:
    """Host 0: wait for all others, then tell them all who is there."""
    hosts, lines, ahead, came = {0: here}, {}, {0: 0.0}, []
    count, end, problem = here["count"], time.monotonic() + ARRIVAL, None
    with _listen(port, end) as server:
        while len(hosts) < count and problem is None:
            server.settimeout(max(end - time.monotonic(), 0.001))
            try:
                line, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(count) if i not in hosts)
                problem = TryAgain(
                    f"host {missing} of {count} did not come within {ARRIVAL:.0f} s; its log "
                    "says why, if it was started at all"
                )
                break
            line.settimeout(2)
            hello = receive(line)
            if not isinstance(hello, dict) or "index" not in hello:  # not one of us
                line.close()
                continue
            came.append(line)
            who = hello["index"]
            if hello["count"] != count:
                problem = InputError(
                    f"host {who} ({hello['name']}) was told of {hello['count']} hosts and host 0 "
                    f"of {count}: start all with the same number"
                )
            elif who in hosts and not (who in lines and is_closed(lines[who])):
                problem = InputError(
                    f"{hosts[who]['name']} and {hello['name']} were both started as host {who}"
                )
            hosts[who], lines[who] = hello, line
            ahead[who] = hello["clock"] - time.time()
    if problem is not None:
        for line in came:
            send(line, {"status": problem.status, "said": str(problem)})
            line.close()
        raise problem
    for line in set(came) - set(lines.values()):  # of processes that were started again meanwhile
        line.close()
    order = range(count)
    roll = {"names": [hosts[i]["name"] for i in order], "ahead": [ahead[i] for i in order]}
    for line in lines.values():
        send(line, roll)
    return lines, roll


def _listen(port: int, end: float) -> socket.socket:
    """A socket on the coordinator's port, as soon as a former run has left it."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    while True:
        try:
            return socket.create_server(("", port), family=family, dualstack_ipv6=both)
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            if busy and time.monotonic() < end:
                time.sleep(0.2)
                continue
            # A busy port may be a former run's that is still frozen.
            raise (TryAgain if busy else InputError)(
                f"the coordinator's port {port} cannot be used ({error.strerror}): set another "
                "JAX_COORDINATOR_PORT on every host"
            ) from error


def _answer(name: str, port: int, here: dict) -> tuple[socket.socket, dict]:
    """Any other host: tell host 0 that we are here, and wait for the rest."""
    end = time.monotonic() + ARRIVAL
    while (left := end - time.monotonic()) > 0:
        try:
            line = socket.create_connection((name, port), timeout=left)
        except OSError:  # host 0 is not up yet
            time.sleep(0.2)
            continue
        line.settimeout(left + 5)  # host 0 knows best who is missing
        send(line, here | {"clock": time.time()})
        roll = receive(line)
        if isinstance(roll, dict) and "names" in roll:
            return line, roll
        line.close()
        if isinstance(roll, dict) and "said" in roll:
            raise {InputError.status: InputError}.get(roll["status"], TryAgain)(roll["said"])
        time.sleep(0.2)  # a former run's host 0
    raise TryAgain(f"host 0 did not come: nothing answers at {name}:{port} for {ARRIVAL:.0f} s")


def send(line: socket.socket, message: dict) -> None:
    """One message; that the other end is gone is the watchers' business."""
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(message).encode() + b"\n")


def receive(line: socket.socket) -> dict | None:
    """The next message; None if the other end is gone, silent, or not one of us."""
    data = b""
    try:
        while not data.endswith(b"\n"):
            part = line.recv(LONGEST)
            if not part or len(data) > LONGEST:
                return None
            data += part
        return json.loads(data)
    except (OSError, ValueError):
        return None


def is_closed(line: socket.socket) -> bool:
    """Whether the process at the other end has ended."""
    line.settimeout(0)
    try:
        return line.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
