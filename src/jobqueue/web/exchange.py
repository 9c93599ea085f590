"""One HTTP exchange: who calls, with which key, and with which headers it is answered."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from jobqueue.settings.secret import Secret

if TYPE_CHECKING:
    from starlette.requests import Request

HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""On every answer of an endpoint: no cache keeps it, and no browser guesses what it is."""


def answer(status: int, document: dict[str, Any]) -> Response:
    """An answer in JSON."""
    return JSONResponse(document, status, HEADERS)


def client_of(request: Request) -> str:
    """The address of the socket's other end, for logs and limits; what headers claim does not count."""
    return request.client.host if request.client is not None else "unknown"


def bearer_of(request: Request) -> bytes:
    """The key after `Authorization: Bearer`; nothing when there is none, or more than one header to choose from."""
    values = request.headers.getlist("authorization")
    scheme, _, key = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def header_of(request: Request, name: str) -> bytes:
    """The value of a header that holds a key; nothing when there is none."""
    return request.headers.get(name, "").encode("latin-1")


def expected(key: Secret | None) -> Secret:
    """The key that callers must send. For one that is not set a key that nobody knows: the check takes as long, and fails."""
    return key or Secret(secrets.token_urlsafe(32))
