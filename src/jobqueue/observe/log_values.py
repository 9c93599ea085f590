"""What a log line can hold: any value, record or exception as plain JSON. Nothing here raises."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    import logging

_FRAMES: Final = 20
_DEPTH: Final = 4
_HIDDEN: Final = re.compile(
    r"(?i)^(authorization|cookie|token|dsn|signature)$|(^|[_-])(password|passwd|secret|api_?key|app_?key|conninfo|database_url)$"
)


def timestamp(created: float) -> str:
    """A moment, in seconds since 1970, in UTC as RFC 3339 has it, to the millisecond."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(record: logging.LogRecord) -> str:
    """The record's text with its arguments filled in."""
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a format that does not fit its arguments still names the place
        return str(record.msg)


def _describe(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def stack(error: BaseException) -> str:
    """The innermost frames of where `error` was raised, and of what caused it."""
    return "".join(traceback.format_exception(error, limit=-_FRAMES)).rstrip()


def plain(key: str, value: object, depth: int = _DEPTH) -> object:
    """The value of field `key` as JSON can hold it.

    An unknown thing is given by its text, and so is what lies deeper than `depth`; a key that names a secret is given
    without its value.
    """
    if value is None or isinstance(value, bool):
        return value
    if _HIDDEN.search(key):
        return "***"
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, BaseException):
        return _describe(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping) and depth:
        return {str(inner): plain(str(inner), item, depth - 1) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        items: Iterable[object] = value
        return [plain(key, item, depth - 1) for item in items]
    with suppress(Exception):
        return str(value)
    return f"<{type(value).__name__}>"
