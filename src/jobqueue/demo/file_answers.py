"""HTTP answers from files: validators, ranges, and no way out of the folder."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from jobqueue.demo.loopback import Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 256 * 1024
_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def inside(folder: Path, name: str) -> Path | None:
    """Find the file called `name` in `folder`; None when there is none, or when `..` or a link leads outside."""
    try:
        path = (folder / name).resolve(strict=True)
    except (OSError, ValueError):
        return None
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None


def _slice(header: str | None, size: int) -> tuple[int, int] | None:
    """Read the one range that `header` asks for, as start and end (exclusive); None for the whole file.

    A range that cannot be satisfied is empty. Anything but one well-formed range is ignored, as RFC 9110 section 14.2
    allows.
    """
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        return max(size - int(last), 0), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


def _chunks(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (chunk := file.read(min(_CHUNK, end - start))):
            yield chunk
            start += len(chunk)


def file_response(path: Path, request: Request, *, kind: str = "application/octet-stream") -> Response:
    """Answer with a file: 200, 206 for one range (it honours If-Range), 304 for a matching ETag, 416 past the end."""
    status = path.stat()
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    headers = {"Content-Type": kind, "Accept-Ranges": "bytes", "ETag": etag}
    if request.headers.get("If-None-Match") == etag:
        return Response(HTTPStatus.NOT_MODIFIED, headers)
    start, end = 0, status.st_size
    code = HTTPStatus.OK
    if request.headers.get("If-Range") in {None, etag}:
        wanted = _slice(request.headers.get("Range"), status.st_size)
        if wanted is not None:
            start, end = wanted
            if start >= end:
                headers["Content-Range"] = f"bytes */{status.st_size}"
                return Response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
            code = HTTPStatus.PARTIAL_CONTENT
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{status.st_size}"
    return Response(code, headers, end - start, _chunks(path, start, end))
