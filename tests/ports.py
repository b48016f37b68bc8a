"""Ports for servers that are stopped and started again on the same one, and ports where nobody listens."""

import os
import random
import socket

# Below the range from which the system takes the ports of outgoing connections: one of those could otherwise sit on
# the port of a service that is dead just now, or even reach itself there.
_FIRST, _EACH, _WORKERS = 12_000, 1_000, 20
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has: each of the workers takes from ports of its own, and none of them twice."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
    ours = range(_FIRST + worker * _EACH, _FIRST + (worker + 1) * _EACH)
    for port in random.SystemRandom().sample(ours, _EACH):
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port
    raise RuntimeError("no free port")
