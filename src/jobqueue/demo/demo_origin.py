"""The origin of source files: `GET /?key=...` with a bearer secret. It only reads its folder."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING

from jobqueue.demo.file_answers import file_response, inside
from jobqueue.demo.loopback import LoopbackServer, Request, Response

if TYPE_CHECKING:
    from pathlib import Path


class DemoOrigin(LoopbackServer):
    """Serves the files of `folder`, by their path in it, for requests with `Authorization: Bearer {secret}`.

    Answers 401 without the secret, and 404 for a key that names no file inside the folder. It supports ranges and ETag,
    so that a download can be resumed.
    """

    def __init__(self, folder: Path, secret: str) -> None:
        super().__init__(self._serve)
        self._folder = folder
        self.secret = secret

    @property
    def endpoint(self) -> str:
        """The URL that `?key=` is appended to."""
        return f"{self.url}/"

    def _serve(self, request: Request) -> Response:
        carried = request.headers.get("Authorization", "")
        if not hmac.compare_digest(carried.encode(), f"Bearer {self.secret}".encode()):
            return Response.of(HTTPStatus.UNAUTHORIZED, www_authenticate="Bearer")
        key = request.query.get("key", "")
        path = inside(self._folder, key) if request.path == "/" and key else None
        if path is None:
            return Response.of(HTTPStatus.NOT_FOUND)
        return file_response(path, request)
