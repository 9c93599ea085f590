"""What JSON has is written, and what it does not have is refused with its place."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from jobqueue.enqueueing.payloads import encode


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 2


@dataclass
class Line:
    amount: Decimal
    due: date


@dataclass
class Invoice:
    number: int
    lines: list[Line]
    sent: datetime | None = None


class Report(BaseModel):
    number: int
    from_: datetime = Field(alias="from")


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20
)


@pytest.mark.extended
@given(st.dictionaries(NAMES, VALUES))
def test_what_json_has_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    assert json.loads(encode(payload)) == payload


def test_none_is_an_empty_payload() -> None:
    assert encode(None) == "{}"


def test_other_mappings_and_tuples_are_taken_for_what_they_are() -> None:
    assert encode(MappingProxyType({"a": (1, OrderedDict(b=None))})) == '{"a": [1, {"b": null}]}'


def test_a_dataclass_is_written_as_its_types_say() -> None:
    invoice = Invoice(7, [Line(Decimal("1.50"), date(2026, 1, 31))], datetime(2026, 2, 1, tzinfo=UTC))
    assert json.loads(encode(invoice)) == {
        "number": 7,
        "lines": [{"amount": "1.50", "due": "2026-01-31"}],
        "sent": "2026-02-01T00:00:00Z",
    }


def test_a_model_is_written_under_the_names_that_it_is_read_by() -> None:
    report = Report.model_validate({"number": 1, "from": "2026-02-01T00:00:00Z"})
    assert Report.model_validate_json(encode(report)) == report
    assert json.loads(encode(report)) == {"number": 1, "from": "2026-02-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (datetime(2026, 1, 1, tzinfo=UTC), "value.isoformat()"),
        (date(2026, 1, 1), "value.isoformat()"),
        (timedelta(1), "value.total_seconds()"),
        (Decimal("1.5"), "str(value)"),
        (UUID(int=1), "str(value)"),
        (b"x", "base64.b64encode(value).decode()"),
        (Colour.RED, "value.value"),
        (Level.HIGH, "value.value"),
        ({1}, "sorted(value)"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_json_does_not_have_is_refused_with_its_place_and_a_way_out(value: object, advice: str) -> None:
    place = re.escape(f"payload['lines'][1] is a {type(value).__qualname__}, which JSON does not have")
    with pytest.raises(TypeError, match=f"^{place}.*, for example {re.escape(advice)}$"):
        encode({"lines": [0, value]})


def test_a_type_that_nobody_knows_is_refused_too() -> None:
    with pytest.raises(TypeError, match=r"^payload\['x'\] is a object, which JSON does not have: give what it is"):
        encode({"x": object()})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^payload\['x'\] is -?(nan|inf), which JSON does not have"):
        encode({"x": value})


@pytest.mark.parametrize(("text", "what"), [("a\0", "a NUL"), ("\ud800", "half a surrogate pair")])
def test_text_that_the_database_does_not_take_is_refused(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=rf"^payload\['x'\] contains {what}"):
        encode({"x": text})
    with pytest.raises(ValueError, match=rf"^a key of payload\['x'\] contains {what}"):
        encode({"x": {text: 1}})


def test_a_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^a key of payload\['x'\] is a int: the keys of JSON are strings$"):
        encode({"x": {1: 1}})


@pytest.mark.parametrize("payload", [[1], "x", 1, Line, Report], ids=str)
def test_what_is_no_object_is_refused(payload: object) -> None:
    with pytest.raises(TypeError, match=r"^the payload is a .*: give a dict, a dataclass or a pydantic model$"):
        encode(payload)


def test_a_payload_that_contains_itself_is_refused() -> None:
    payload: dict[str, Any] = {}
    payload["x"] = payload
    with pytest.raises(ValueError, match="nested too deeply, or contains itself"):
        encode(payload)
