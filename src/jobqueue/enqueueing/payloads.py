"""The payload of a job as JSON, or a sentence that says which value of it JSON does not have."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# How a value that JSON does not have is usually written.
_WRITTEN: Final[tuple[tuple[type, str], ...]] = (
    (datetime, "value.isoformat()"),
    (date, "value.isoformat()"),
    (time, "value.isoformat()"),
    (timedelta, "value.total_seconds()"),
    (Decimal, "str(value)"),
    (UUID, "str(value)"),
    (bytes, "base64.b64encode(value).decode()"),
    (Enum, "value.value"),
    (set, "sorted(value)"),
    (frozenset, "sorted(value)"),
)


def encode(payload: object) -> str:
    """The payload as JSON text. It is a dict, a dataclass or a pydantic model; None is an empty one.

    A dataclass and a model are written as pydantic writes their types: the handler reads them with the same type. In a dict
    nothing is converted, because nothing would convert it back: whatever JSON does not have is refused.

    Raises TypeError for a value of a type that JSON does not have, and ValueError for NaN, an infinity, a NUL or half a
    surrogate pair; the message names the place in the payload.
    """
    if payload is None:
        return "{}"
    plain = _dumped(payload)
    if not isinstance(plain, Mapping):
        raise TypeError(f"the payload is a {_named(payload)}: give a dict, a dataclass or a pydantic model")
    try:
        return json.dumps(_checked(plain, "payload"), ensure_ascii=False)
    except RecursionError:
        raise ValueError("the payload is nested too deeply, or contains itself") from None


def _dumped(payload: object) -> object:
    dump = getattr(payload, "model_dump", None)
    if callable(dump) and not isinstance(payload, type):
        return dump(mode="json", by_alias=True)
    if is_dataclass(payload) and not isinstance(payload, type):
        return _adapter(type(payload)).dump_python(payload, mode="json", by_alias=True)
    return payload


@lru_cache(maxsize=256)
def _adapter(of: type) -> TypeAdapter[Any]:
    # A host that gives dicts does not wait for this import.
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(of)


def _checked(value: object, place: str) -> object:
    """The value in types that the encoder knows, with nothing in it that JSON or PostgreSQL would not take."""
    match value:
        case Enum():
            raise _refused(value, place)
        case None | bool() | int():
            return value
        case str():
            return _checked_text(value, place)
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{place} is {value}, which JSON does not have: give None or a string")
            return value
        case Mapping():
            return {_key(key, place): _checked(inner, f"{place}[{key!r}]") for key, inner in value.items()}
        case list() | tuple():
            return [_checked(inner, f"{place}[{index}]") for index, inner in enumerate(value)]
        case _:
            raise _refused(value, place)


def _key(key: object, place: str) -> str:
    if not isinstance(key, str) or isinstance(key, Enum):
        raise TypeError(f"a key of {place} is a {_named(key)}: the keys of JSON are strings")
    return _checked_text(key, f"a key of {place}")


def _checked_text(text: str, place: str) -> str:
    if "\0" in text:
        raise ValueError(f"{place} contains a NUL, which PostgreSQL does not take")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place} contains half a surrogate pair, which is no Unicode") from None
    return text


def _refused(value: object, place: str) -> TypeError:
    written = next((f", for example {how}" for kind, how in _WRITTEN if isinstance(value, kind)), "")
    return TypeError(
        f"{place} is a {_named(value)}, which JSON does not have: give what it is to be written as{written}"
    )


def _named(value: object) -> str:
    return type(value).__qualname__
