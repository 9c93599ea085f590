"""Connection pools whose waits can be interrupted, and plain words for what goes wrong on them.

A read timeout alone does not bound a request: a peer that sends one byte every few seconds, in its headers or between
the chunks of its body, never runs into it. Nor can a caller stop while a read blocks. So connections from `pool` wait
in slices of a tenth of a second, and `while_waiting` lets the caller act in each.
"""

from __future__ import annotations

import http.client
import io
import re
import select
import socket
import ssl
import time
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions as faults
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from jobqueue.net.dialling import dial, name_fault
from jobqueue.net.final_answer import FinalResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer
    from urllib3 import BaseHTTPResponse

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
RETRY_AFTER_MAX_SECONDS = 6 * 3600.0

_SLICE_MS = 100

# A kept connection that breaks after this many seconds was not stale: its peer took the request and gave up on it.
_STALE_SECONDS = 1.0

_in_wait: ContextVar[Callable[[], None] | None] = ContextVar("in_wait", default=None)
_dialled: ContextVar[bool] = ContextVar("dialled", default=False)


def pool(
    maxsize: int, *, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS
) -> urllib3.PoolManager:
    """A thread-safe pool of at most `maxsize` connections a host. It neither retries nor follows redirects by itself.

    A thread that finds all of them in use waits for one. Timeouts are in seconds, for each connect and each read. The
    caller ends the pool with `clear()`.
    """
    manager = urllib3.PoolManager(
        num_pools=8,
        maxsize=maxsize,
        block=True,
        retries=False,
        timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
        socket_options=[*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
    )
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    return manager


@contextmanager
def while_waiting(call: Callable[[], None]) -> Iterator[None]:
    """Run `call` every tenth of a second that this thread waits for bytes on a connection from `pool`.

    What `call` raises ends the request and closes its connection.
    """
    token = _in_wait.set(call)
    try:
        yield
    finally:
        _in_wait.reset(token)


def replacing_stale(send: Callable[[], BaseHTTPResponse]) -> BaseHTTPResponse:
    """What `send` returns, which makes one request on a pool of patient connections. Raises what it raises.

    A peer may close a kept connection just as we use it again: then nobody read the request, and it is sent once more. A
    peer that closes a fresh connection without an answer did get it (RFC 9112 section 9.3.1), and is not asked twice.
    """
    until = time.monotonic() + _STALE_SECONDS
    while True:
        token = _dialled.set(False)
        try:
            return send()
        except faults.ProtocolError as error:
            closed = any(isinstance(each, ConnectionError) for each in error.args)
            if _dialled.get() or not closed or time.monotonic() > until:
                raise
        finally:
            _dialled.reset(token)


def retry_after(value: str | None, date: str | None = None) -> float | None:
    """The seconds that a `Retry-After` header asks for, from 0 to 6 hours; None when absent or unreadable.

    It reads both forms: seconds, and an HTTP date. It measures a date against the response's own `Date` where there is
    one, so that a clock that is off does not matter (RFC 9110 sections 10.2.3 and 6.6.1).
    """
    if value is None:
        return None
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", value):
        seconds = float(value)
    else:
        until = http_date(value)
        if until is None:
            return None
        now = http_date(date)
        seconds = until - (time.time() if now is None else now)
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def http_date(value: str | None) -> float | None:
    """An HTTP date as seconds since 1970 (UTC); None when absent or unreadable."""
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def host_of(url: str) -> str:
    """The host of `url`, with its port if it has one, and nothing else: safe in a message."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable address"
    if not host or not host.isprintable():
        return "an unreadable address"
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def describe(error: Exception, peer: str) -> str:
    """What urllib3's `error` means, in a sentence that starts with `peer` and holds no address or secret."""
    match error:
        case faults.NameResolutionError():
            return f"{peer} could not be found: its name does not resolve"
        case faults.NewConnectionError():
            return f"{peer} could not be reached: {_reason(error)}"
        case faults.ConnectTimeoutError():
            return f"{peer} did not accept a connection in time"
        case faults.SSLError():
            return _describe_tls(error, peer)
        case faults.ReadTimeoutError():
            return f"{peer} stopped answering: nothing came in the time allowed"
        case faults.EmptyPoolError():
            return f"{peer} was not asked: every connection allowed to it stayed in use"
        case faults.ProtocolError():
            return f"{peer} broke the connection: {_reason(error)}"
        case _:
            return f"{peer} could not be talked to ({type(error).__name__})"


def _describe_tls(error: Exception, peer: str) -> str:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{peer} showed a certificate that cannot be trusted: {cause.verify_message}"
    return f"{peer} could not be talked to over TLS: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The words of the operating system or OpenSSL, and never those of a peer, which may repeat what we sent."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return str(cause.reason).lower().replace("_", " ")
        if isinstance(cause, http.client.RemoteDisconnected):
            return "closed without an answer"
        if isinstance(cause, http.client.IncompleteRead):
            return "closed in the middle of the answer"
        if isinstance(cause, http.client.HTTPException):
            return f"its answer is not proper HTTP ({type(cause).__name__})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what led to it, innermost last. urllib3 keeps a cause as `__cause__`, `__context__` or argument."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.append(current)
        yield current
        linked = [current.__context__, current.__cause__, *current.args]
        waiting += [each for each in linked if isinstance(each, BaseException)]


class _SlicedReader(io.RawIOBase):
    """The bytes of a socket. It waits for them in slices."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # Public, and keeps the socket open until both the connection and this reader have let go of it.
        self._raw = sock.makefile("rb", buffering=0)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._called_at = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        call = _in_wait.get()
        if call is not None:
            # The caller is asked as often about a peer that sends a little now and then as about a silent one.
            if time.monotonic() - self._called_at > _SLICE_MS / 1000:
                self._called_at = time.monotonic()
                call()
            while not self._pending() and not self._poll.poll(_SLICE_MS):
                self._called_at = time.monotonic()
                call()
        return self._raw.readinto(buffer)

    def _pending(self) -> bool:
        # Bytes that TLS has already decrypted do not make the descriptor readable.
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _SlicedSocket:
    """The one method of a socket that http.client uses to read an answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_SlicedReader(self._sock))


class _Response(FinalResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_SlicedSocket(sock), *args, **kwargs)  # type: ignore[arg-type]


class PatientConnection(HTTPConnection):
    """A connection whose waits `while_waiting` can interrupt, and that `replacing_stale` can tell from a kept one."""

    response_class = _Response

    def connect(self) -> None:
        _dialled.set(True)
        super().connect()

    def _new_conn(self) -> socket.socket:
        return _look_up_and_dial(self)


class PatientTLSConnection(HTTPSConnection):
    """The same over TLS."""

    response_class = _Response

    def connect(self) -> None:
        _dialled.set(True)
        super().connect()

    def _new_conn(self) -> socket.socket:
        return _look_up_and_dial(self)


def _look_up_and_dial(connection: HTTPConnection) -> socket.socket:
    try:
        # With the dot that may end it and keeps a resolver from trying other names first; `host` is without.
        found = socket.getaddrinfo(connection._dns_host, connection.port, 0, socket.SOCK_STREAM)
    except OSError as error:
        raise name_fault(connection, error) from error
    except UnicodeError:
        raise faults.LocationParseError(f"'{connection.host}', label empty or too long") from None
    return dial(connection, found, connect_seconds_of(connection))


def connect_seconds_of(connection: HTTPConnection) -> float:
    """The connection's own connect timeout, in seconds; CONNECT_SECONDS where it has none."""
    return connection.timeout if isinstance(connection.timeout, int | float) else CONNECT_SECONDS


class _Pool(HTTPConnectionPool):
    ConnectionCls = PatientConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = PatientTLSConnection
