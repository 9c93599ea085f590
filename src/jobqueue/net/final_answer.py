"""Reads over interim answers, such as 103 Early Hints, to the one that a request waits for (RFC 9110 section 15.2)."""

from __future__ import annotations

import http.client
from http import HTTPStatus
from typing import Final

# Nobody is known to send more than two or three. They count against no limit of ours but that of time.
_MOST: Final = 20


class FinalResponse(http.client.HTTPResponse):
    """An answer that is no interim one. http.client itself reads over 100 Continue alone, and takes any other for the answer."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not HTTPStatus.CONTINUE <= status < HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MOST} interim answers")
