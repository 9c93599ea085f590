"""What a handler can be called with, and what is refused before any job suffers from it."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import pytest

from jobqueue import App
from jobqueue.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def nothing(job: Any, context: Any) -> None:
    """A handler."""


def generated(job: Any, context: Any) -> Iterator[int]:
    yield 1


async def generated_asynchronously(job: Any, context: Any) -> AsyncIterator[int]:
    yield 1


def by_name(job: Any, *, context: Any) -> None:
    """Nobody gives it a context."""


def of_unknown(invoice: Nothing, context: Any) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Its type is nowhere."""


def of_number(number: int, context: Any) -> None:
    """It takes no row."""


WRONG: list[tuple[Any, str]] = [
    (generated, "generated is a generator"),
    (generated_asynchronously, "generated_asynchronously is a generator"),
    (App, "App is a class"),
    (None, "NoneType, which cannot be called"),
    (lambda job: None, r"<lambda> cannot be called with a job and a context: too many positional arguments"),
    (lambda a, b, c: None, r"<lambda> cannot be called .*: missing a required argument: 'c'"),
    (by_name, "by_name cannot be called with a job and a context"),
    (functools.partial(nothing, 1), r"cannot be called with a job and a context: too many positional arguments"),
    (of_unknown, "the type Nothing of its first parameter is not there while the program runs .*import or define it"),
    (of_number, "it takes int, whose fields are no columns; give it a dataclass"),
]


@pytest.mark.parametrize(("handler", "reason"), WRONG)
def test_what_cannot_take_the_call_is_refused(handler: Any, reason: str) -> None:
    app = App()
    app.queue("invoices")(handler)
    with pytest.raises(ConfigurationError) as refused:
        app.queues()
    [problem] = refused.value.problems
    assert re.match(f"the queue invoices cannot use its handler: .*{reason}", problem), problem
