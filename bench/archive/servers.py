"""The two ends of a transfer, each a process of its own: an origin of files, and a store that keeps nothing but sizes.

Both are as cheap as Python allows (sendfile, recv_into), so that what is measured is the worker.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


def serve(handle: object, port: int) -> None:
    """Give each connection to `handle(socket)` in a thread, for ever; says on standard output when it listens."""
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    print("ready", flush=True)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_guarded, args=(handle, sock), daemon=True).start()


def _guarded(handle: object, sock: socket.socket) -> None:
    try:
        with sock:
            handle(sock)  # type: ignore[operator]
    except OSError:
        pass


def head(sock: socket.socket, pending: bytearray) -> bytes | None:
    """The next request's head; what came after it stays in `pending`."""
    while (end := pending.find(b"\r\n\r\n")) < 0:
        data = sock.recv(65536)
        if not data:
            return None
        pending += data
    found = bytes(pending[: end + 4])
    del pending[: end + 4]
    return found


class Origin:
    """Serves the files of `folder` in turn: key "7" is file 7 modulo their number."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.iterdir(), key=lambda path: int(path.name))
        self._files = [os.open(path, os.O_RDONLY) for path in paths]
        self._sizes = [path.stat().st_size for path in paths]

    def __call__(self, sock: socket.socket) -> None:
        pending = bytearray()
        while (request := head(sock, pending)) is not None:
            number = int(parse_qs(urlsplit(request.split()[1].decode()).query)["key"][0]) % len(self._files)
            size = self._sizes[number]
            found = _RANGE.search(request)
            start = int(found[1]) if found else 0
            end = min(size, int(found[2]) + 1) if found and found[2] else size
            status = b"206 Partial Content" if found else b"200 OK"
            where = b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, size) if found else b""
            sock.sendall(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, where, end - start))
            while start < end:
                start += os.sendfile(sock.fileno(), self._files[number], start, end - start)


class Sink:
    """Takes multipart uploads; with a folder, the last object's parts of `part_bytes` are written to the file `object` in it."""

    def __init__(self, folder: Path | None = None, part_bytes: int = 5 << 20) -> None:
        self._file = None if folder is None else os.open(folder / "object", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._part_bytes = part_bytes
        self._parts: dict[int, int] = {}
        self._objects: dict[str, int] = {}

    def __call__(self, sock: socket.socket) -> None:
        pending = bytearray()
        buffer = bytearray(1 << 20)
        while (request := head(sock, pending)) is not None:
            method, target = request.split()[:2]
            parts = urlsplit(target.decode())
            key, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
            found = _LENGTH.search(request)
            if b"100-continue" in request:
                sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            number = int(query.get("partNumber", ["1"])[0])
            size = self._take(
                sock, pending, buffer, int(found[1]) if found else 0, number if method == b"PUT" else None
            )
            self._answer(sock, method.decode(), key, query, number, size)

    def _take(self, sock: socket.socket, pending: bytearray, buffer: bytearray, size: int, number: int | None) -> int:
        at = ((number or 1) - 1) * self._part_bytes
        left = size
        view = memoryview(buffer)
        if pending:
            data = bytes(pending[:left])
            del pending[:left]
            left -= len(data)
            at = self._write(data, at, number)
        while left:
            count = sock.recv_into(view[: min(left, len(buffer))])
            if not count:
                raise ConnectionError
            at = self._write(view[:count], at, number)
            left -= count
        return size

    def _write(self, data: bytes | memoryview, at: int, number: int | None) -> int:
        if self._file is not None and number is not None:
            os.pwrite(self._file, data, at)
        return at + len(data)

    def _answer(
        self, sock: socket.socket, method: str, key: str, query: dict[str, list[str]], number: int, size: int
    ) -> None:
        body, status, extra = "", "200 OK", ""
        match method:
            case "POST" if "uploads" in query:
                self._parts = {}
                body = f"<InitiateMultipartUploadResult><Key>{key}</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            case "POST":
                self._objects[key] = sum(self._parts.values())
                body = "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
            case "PUT":
                self._parts[number] = size
                extra = 'ETag: "e"\r\n'
            case "HEAD" if key in self._objects:
                modified = "Last-Modified: Sat, 22 Nov 2026 00:00:00 GMT\r\n"
                head_of = f'HTTP/1.1 200 OK\r\nContent-Length: {self._objects[key]}\r\nETag: "e"\r\n{modified}\r\n'
                sock.sendall(head_of.encode())
                return
            case "HEAD":
                status = "404 Not Found"
            case "DELETE":
                self._objects.pop(key, None)
                status = "204 No Content"
            case _:
                body = "<ListMultipartUploadsResult></ListMultipartUploadsResult>"
        sock.sendall(f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}".encode())


if __name__ == "__main__":
    kind, port, *rest = sys.argv[1:]
    folder = Path(rest[0]) if rest else None
    if kind == "origin":
        assert folder is not None
        serve(Origin(folder), int(port))
    else:
        serve(Sink(folder), int(port))
