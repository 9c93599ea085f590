"""An HTTP server on loopback that misbehaves as it is told: each request gets the next of the answers it was given.

    with FaultyServer(reply(503), reply(200, b"fine")) as server:
        ...
        assert len(server.requests) == 2

An answer is any callable that takes the request and the wire; the last one is given again and again.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from http.client import responses
from pathlib import Path
from typing import BinaryIO, Self


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]
    """Names are in lower case."""
    body: bytes = b""


class Wire:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock = sock
        self._stopping = stopping
        self.left = threading.Event()
        self.open = True

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Whatever')}", *(f"{k}: {v}" for k, v in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def close(self) -> None:
        """End the connection in good order."""
        self.open = False

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()
        self.open = False

    def hang(self) -> None:
        """Send nothing until the client has left, which sets `left`, or the server stops."""
        with suppress(OSError):
            while self._sock.recv(1024):
                pass
        self.left.set()
        self.open = False

    def drip(self, data: bytes, every: float) -> None:
        """Send `data` a byte at a time, `every` that many seconds, until the server stops."""
        for byte in data:
            self.send(bytes([byte]))
            if self._stopping.wait(every):
                break


Answer = Callable[[Request, Wire], None]


def reply(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """A whole answer, without its body to HEAD; a Content-Length among `headers` replaces the true one."""

    def answer(request: Request, wire: Wire) -> None:
        wire.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if request.method != "HEAD":
            wire.send(body)

    return answer


def unsized(body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """A body that ends with the connection."""

    def answer(_request: Request, wire: Wire) -> None:
        wire.head(200, headers or {})
        wire.send(body)
        wire.close()

    return answer


def chunked(*pieces: bytes, end: bool = True, headers: Mapping[str, str] | None = None) -> Answer:
    """A body in chunks; without `end` the connection closes where the last chunk should stand."""

    def answer(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Transfer-Encoding": "chunked", **(headers or {})})
        for piece in pieces:
            wire.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        if end:
            wire.send(b"0\r\n\r\n")
        else:
            wire.close()

    return answer


def file(
    body: bytes, *, etag: str | None = '"v1"', cut: int | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """A file with ranges as RFC 9110 has them; with `cut` the connection closes after that many bytes of an answer."""

    def answer(request: Request, wire: Wire) -> None:
        given = {"Accept-Ranges": "bytes", "Date": formatdate(usegmt=True), **({"ETag": etag} if etag else {})}
        given |= headers or {}
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        unchanged = request.headers.get("if-range") in (None, given.get("ETag"), given.get("Last-Modified"))
        start = int(wanted[1]) if wanted and unchanged else 0
        if start and start >= len(body):
            wire.head(416, {**given, "Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        if start:
            given["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        part = body[start:]
        wire.head(206 if start else 200, {"Content-Length": str(len(part)), **given})
        wire.send(part if cut is None else part[:cut])
        if cut is not None and cut < len(part):
            wire.close()

    return answer


def hang(_request: Request, wire: Wire) -> None:
    """No answer at all."""
    wire.hang()


def reset(_request: Request, wire: Wire) -> None:
    """The connection is reset instead of an answer."""
    wire.reset()


class FaultyServer:
    """Serves while used as a context manager; `requests` are those that came, in order, and `wires` their connections."""

    def __init__(self, *answers: Answer, tls: bool = False) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.wires: list[Wire] = []
        self.connections = 0
        self._tls = tls
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def script(self, *answers: Answer) -> None:
        """Start over with other answers; the requests so far are forgotten."""
        with self._lock:
            self.answers = answers
            self.requests.clear()
            self.wires.clear()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        self._context = _server_context() if self._tls else None
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="faulty-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            if self._context is None:
                self._converse(sock)
            else:
                with self._context.wrap_socket(sock, server_side=True) as secured:
                    self._converse(secured)

    def _converse(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as reader:
            while not self._stopping.is_set():
                request = _read(reader, sock)
                if request is None:
                    return
                wire = Wire(sock, self._stopping)
                with self._lock:
                    answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
                    self.requests.append(request)
                    self.wires.append(wire)
                answer(request, wire)
                if not wire.open:
                    return


def _read(reader: BinaryIO, sock: socket.socket) -> Request | None:
    first = reader.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := reader.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("expect", "").lower() == "100-continue":
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = reader.read(int(headers.get("content-length", "0")))
    return Request(first[0], first[1], headers, body)


# A certificate for localhost and 127.0.0.1 that nobody vouches for, and its key; they protect nothing.
_CERTIFICATE = base64.b64decode(
    "MIIBdjCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAx"
    "MDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKe/fpBzFy2Wf0KXrgoFZLJE"
    "nL1CsoO5cR4i5ou6b5Xjb7ZTz+CzMDdjoVMk8lfn87tqH5NmTF6vhOigX2OZ7BujXjBcMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcE"
    "fwAAATAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUcjrqxSOBFUwSb5fYQzbXxODsPE0wCgYIKoZI"
    "zj0EAwIDRwAwRAIgHlTunSUt+bd9suxzlGkAUzr1wGbfec7z2FgeQfO6W6wCIF/nITGPI/tlFOfGvcwlgDHLwNnP9KOWSwnJc6Dn"
    "DaJq"
)
_KEY = (
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcVzR8W9VHYRG1ZcB\n"
    "MLsTYaq7rFQRjR+XR4t2xBObLOChRANCAASnv36Qcxctln9Cl64KBWSyRJy9QrKD\n"
    "uXEeIuaLum+V42+2U8/gszA3Y6FTJPJX5/O7ah+TZkxer4TooF9jmewb\n"
)


def certificate_pem() -> str:
    """The server's certificate, for a client that is to trust it."""
    return ssl.DER_cert_to_PEM_cert(_CERTIFICATE)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    kind = "PRIVATE KEY"
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "server.pem"
        pem.write_text(f"-----BEGIN {kind}-----\n{_KEY}-----END {kind}-----\n{certificate_pem()}")
        context.load_cert_chain(pem)
    return context
