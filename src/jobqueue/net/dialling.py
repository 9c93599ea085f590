"""Connects to the first of a host's addresses that answers: Happy Eyeballs (RFC 8305).

A name may have an address of each family, and one of them may lead nowhere: packets vanish, and only a timeout says so.
So a connection is not tried for long before the next begins beside it, families take turns, and the family that answered
comes first the next time.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from urllib3 import exceptions as faults

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from urllib3.connection import HTTPConnection

# What RFC 8305 recommends, section 8: "Connection Attempt Delay".
_NEXT_SECONDS: Final = 0.25
_REMEMBERED_SECONDS: Final = 600.0
_MOST_REMEMBERED: Final = 1024

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})


class _Families:
    """Which family of addresses a host answered on, for hosts that have more than one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], tuple[int, float]] = {}

    def of(self, host: str, port: int) -> int | None:
        family, until = self._known.get((host, port), (0, 0.0))
        return family if time.monotonic() < until else None

    def remember(self, host: str, port: int, family: int) -> None:
        with self._lock:
            self._known.pop((host, port), None)
            while len(self._known) >= _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[host, port] = family, time.monotonic() + _REMEMBERED_SECONDS


_families = _Families()


def dial(connection: HTTPConnection, found: Sequence[tuple[Any, ...]], seconds: float) -> socket.socket:
    """A socket connected to one of `found`, addresses of the connection's host as socket.getaddrinfo gives them.

    All that this takes is at most `seconds`. Raises urllib3's ConnectTimeoutError when no address answered in that time,
    and NewConnectionError when all refused.
    """
    until = time.monotonic() + seconds
    host, port = connection.host, connection.port
    waiting = _in_turns(found, _families.of(host, port))
    several = len({family for family, *_ in found}) > 1
    pending: dict[int, socket.socket] = {}
    poll = select.poll()
    failure: OSError | None = None
    next_at = time.monotonic()
    try:
        while waiting or pending:
            now = time.monotonic()
            if now >= until:
                break
            if waiting and (not pending or now >= next_at):
                try:
                    sock = _begin(waiting.pop(0), connection.socket_options or ())
                except OSError as error:
                    failure = error
                    continue
                pending[sock.fileno()] = sock
                poll.register(sock, select.POLLOUT)
                next_at = now + _NEXT_SECONDS
            wake = min(next_at, until) if waiting else until
            for descriptor, _ in poll.poll(max(wake - time.monotonic(), 0) * 1000):
                poll.unregister(descriptor)
                sock = pending.pop(descriptor)
                refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if refused:
                    failure = OSError(refused, os.strerror(refused))
                    sock.close()
                    next_at = time.monotonic()
                    continue
                if several:
                    _families.remember(host, port, sock.family)
                sock.settimeout(seconds)
                sys.audit("http.client.connect", connection, host, port)
                return sock
    finally:
        for sock in pending.values():
            sock.close()
    if failure is None or pending or waiting or isinstance(failure, TimeoutError):
        raise faults.ConnectTimeoutError(connection, "no address accepted a connection in time") from failure
    raise faults.NewConnectionError(connection, "no address accepted a connection") from failure


def name_fault(connection: HTTPConnection, error: OSError) -> faults.NameResolutionError:
    """What urllib3 raises when a name could not be looked up because of `error`."""
    gone = error if isinstance(error, socket.gaierror) else socket.gaierror(*error.args)
    return faults.NameResolutionError(connection.host, connection, gone)


def _in_turns(found: Sequence[tuple[Any, ...]], first: int | None) -> list[tuple[Any, ...]]:
    """The addresses in their order, but that families take turns, beginning with `first` where one is given."""
    by_family: dict[int, list[tuple[Any, ...]]] = {}
    if first is not None:
        by_family[first] = []
    for entry in found:
        by_family.setdefault(entry[0], []).append(entry)
    rows = list(by_family.values())
    longest = max((len(row) for row in rows), default=0)
    return [row[number] for number in range(longest) for row in rows if number < len(row)]


def _begin(entry: tuple[Any, ...], options: Iterable[tuple[Any, ...]]) -> socket.socket:
    """A socket that is being connected. Raises OSError when that fails at once, as where there is no route."""
    family, kind, protocol, _, address = entry
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code and code not in _UNDER_WAY:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock
