"""The fields of everything that is logged in one context: bound by whoever began it, read when a line is made."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NOTHING: Final[Mapping[str, object]] = {}

_bound: ContextVar[Mapping[str, object] | Callable[[], Mapping[str, object]]] = ContextVar("jobqueue_log_fields")


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Add `fields` to everything logged in this context, by libraries too, until the block ends."""
    token = _bound.set({**bound_fields(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def attach(fields: Callable[[], Mapping[str, object]]) -> None:
    """Have what `fields()` gives, in place of what was bound, in everything that this thread or task logs from now on.

    For a loop that is in too much of a hurry to `bind`: nothing is called before something is logged.
    """
    _bound.set(fields)


def detach() -> None:
    """Undo `attach`."""
    _bound.set(_NOTHING)


def bound_fields() -> Mapping[str, object]:
    """The fields that hold where this is called."""
    bound = _bound.get(_NOTHING)
    return bound() if callable(bound) else bound
