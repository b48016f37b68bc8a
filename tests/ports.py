"""Ports for servers that are stopped and started again on the same one."""

import random
import socket

# Below the range from which the system takes the ports of outgoing connections: one of those could otherwise sit on
# the port of a service that is dead just now, or even reach itself there.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    for port in random.SystemRandom().sample(_PORTS, 50):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no free port")
