"""Starts a leashed server on a free loopback port and waits until it answers."""

from __future__ import annotations

import random
import socket
import time
from typing import TYPE_CHECKING

from jobqueue.demo.leash import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jobqueue.demo.leash import Leash

HOST = "127.0.0.1"

# Below the ranges from which systems take the local port of an outgoing connection (Linux 32768 up, others 49152 up).
# Otherwise a server that goes away and comes back may find its port taken, even by a client of its own: a connection to a
# closed port of that range can end up connected to itself.
_PORTS = range(15_000, 32_000)
_ATTEMPTS = 20


def free_port() -> int:
    """Find a TCP port on loopback that nobody listens on now. Raises ServerError when it finds none."""
    for port in random.sample(_PORTS, 200):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError("no free port on 127.0.0.1")


def launch(
    name: str,
    command: Callable[[int], Leash],
    ready: Callable[[int], bool],
    *,
    log: Path,
    port: int | None,
    timeout: float = 60.0,
) -> tuple[Leash, int]:
    """Start `command(port)`, and return the process and its port once `ready(port)` is true.

    With `port` None it takes a free one, and another when somebody was faster. Raises ServerError, with the end of
    `log`, when the process ends first or is not ready within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(_ATTEMPTS):
        chosen = free_port() if port is None else port
        log_start = log.stat().st_size if log.exists() else 0
        process = command(chosen)
        try:
            while process.running and time.monotonic() < deadline:
                if ready(chosen):
                    return process, chosen
                time.sleep(0.01)
        except BaseException:
            process.stop()
            raise
        ended_early = not process.running
        process.stop()
        said = log.read_bytes()[log_start:].decode(errors="replace")
        if ended_early and port is None and "address already in use" in said.lower() and attempt < _ATTEMPTS - 1:
            continue
        what = "ended while starting" if ended_early else f"was not ready after {timeout:.0f} s"
        raise ServerError(f"{name} {what}; the end of its log {log}:\n{said[-2000:]}")
    raise AssertionError("the last attempt returns or raises")
