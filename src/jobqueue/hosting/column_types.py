"""Which Python types a column's values can be read as."""

from __future__ import annotations

import datetime
import types
import typing
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

# What each type of PostgreSQL can become, of the types that are judged here. Types that are not named may become anything.
_BECOMES: Final[dict[str, frozenset[type]]] = {
    "bool": frozenset({bool}),
    **dict.fromkeys(("int2", "int4", "int8"), frozenset({int, float, Decimal})),
    **dict.fromkeys(("float4", "float8"), frozenset({float, Decimal})),
    "numeric": frozenset({Decimal, float, int}),
    **dict.fromkeys(
        ("text", "varchar", "bpchar", "citext", "name"), frozenset({str, bytes, UUID, Decimal, int, float, bool})
    ),
    "uuid": frozenset({UUID}),
    "timestamptz": frozenset({datetime.datetime}),
    "timestamp": frozenset({datetime.datetime}),
    "date": frozenset({datetime.date}),
    "time": frozenset({datetime.time}),
    "interval": frozenset({datetime.timedelta}),
    "bytea": frozenset({bytes}),
}

_JUDGED: Final = frozenset(
    {*(kind for kinds in _BECOMES.values() for kind in kinds), list, dict, tuple, set, frozenset}
)

_UNIONS: Final = (typing.Union, types.UnionType)


def can_become(column_type: str, wanted: Any) -> bool:
    """Whether values of a column of the type `column_type` (`int4`, `_text`, ...) can be read as `wanted`.

    It says no only where no value could: what it does not know may pass, and each row is checked when it is read.
    """
    origin = typing.get_origin(wanted)
    if origin in _UNIONS:
        members = [member for member in typing.get_args(wanted) if member is not type(None)]
        return any(can_become(column_type, member) for member in members)
    if origin is typing.Annotated:
        return can_become(column_type, typing.get_args(wanted)[0])
    plain = origin or wanted
    if plain not in _JUDGED:
        return True
    if column_type.startswith("_"):
        return plain in (list, tuple, set, frozenset)
    becomes = _BECOMES.get(column_type)
    return becomes is None or plain in becomes


def name_of(wanted: Any) -> str:
    """How a person writes the type."""
    return wanted.__name__ if isinstance(wanted, type) and not typing.get_args(wanted) else str(wanted)
