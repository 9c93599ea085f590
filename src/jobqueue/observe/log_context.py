"""The fields that every line logged in one context carries. Code binds them once; a line reads them when it is made."""

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
    """Add what `fields()` gives, in place of what was bound, to everything that this thread or task logs from now on.

    This is for a loop that has no time to `bind`: `fields` is called only when something is logged.
    """
    _bound.set(fields)


def detach() -> None:
    """Undo `attach`."""
    _bound.set(_NOTHING)


def bound_fields() -> Mapping[str, object]:
    """Give the fields of the context that calls this."""
    bound = _bound.get(_NOTHING)
    return bound() if callable(bound) else bound
