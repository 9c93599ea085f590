"""What goes around handlers: its order, what it sees, and that it cannot leave a handler out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobqueue import App, Context, Job
from jobqueue.errors import Permanent, Snooze

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.kernel.helpers import Rig


def run(rig: Rig, app: App) -> None:
    rig.unstarted(*app.queues()).run_once(20.0)


def nothing(job: Any, context: Any) -> None:
    """A handler."""


def test_middleware_goes_around_in_order_and_sees_how_the_handler_ends(rig: Rig) -> None:
    said: list[object] = []
    app = App()

    def layer(name: str) -> Callable[[Callable[[], None], Job, Context], None]:
        def around(call_next: Callable[[], None], job: Job, context: Context) -> None:
            said.append(name)
            try:
                call_next()
            except Snooze as error:
                said.append((name, str(error)))
                raise

        return around

    app.around(layer("outer"))
    app.around(layer("inner"))

    @app.queue("invoices")
    def send(job: Job, context: Context) -> object:
        return Snooze("later", 60)

    rig.insert(1, "invoices", customer="Ada")
    run(rig, app)
    assert said == ["outer", "inner", ("inner", "later"), ("outer", "later")]
    assert rig.states("invoices") == {"pending": 1}


def forgets(call_next: Callable[[], None], job: Job, context: Context) -> None:
    """Call nothing."""


def repeats(call_next: Callable[[], None], job: Job, context: Context) -> None:
    call_next()
    call_next()


@pytest.mark.parametrize(
    ("middleware", "said"),
    [
        (forgets, "RuntimeError: the middleware forgets returned without having called call_next"),
        (repeats, "RuntimeError: the middleware repeats called call_next twice"),
    ],
)
def test_a_job_whose_handler_was_not_called_once_has_failed(rig: Rig, middleware: Any, said: str) -> None:
    app = App()
    app.around(middleware)
    app.queue("invoices")(nothing)
    rig.insert(1, "invoices", customer="Ada")
    run(rig, app)
    assert rig.rows("SELECT status, retry_count, error_message FROM invoices") == [("pending", 1, said)]


def test_async_middleware_goes_around_async_handlers_and_plain_around_the_others(rig: Rig) -> None:
    said: list[object] = []
    app = App()

    @app.around
    def plain(call_next: Callable[[], None], job: Job, context: Context) -> None:
        said.append("plain")
        call_next()

    @app.around
    async def awaited(call_next: Callable[[], Awaitable[None]], job: Job, context: Context) -> None:
        await context.acheckpoint()
        said.append("awaited")
        try:
            await call_next()
        except Permanent as error:
            said.append(str(error))
            raise

    @app.queue("invoices", columns=["customer"])
    def send(job: Job, context: Context) -> None:
        said.append(job.columns["customer"])

    @app.kind("pages", permanent=(LookupError,))
    async def pages(payload: dict[str, int], context: Context) -> object:
        if not payload:
            raise KeyError("pages")
        said.append(payload)
        return Permanent("no") if payload["pages"] > 1 else None

    rig.insert(1, "invoices", customer="Ada")
    run(rig, app)
    assert said == ["plain", "Ada"]
    for payload, left in {
        '{"pages": 1}': ["awaited", {"pages": 1}],
        '{"pages": 2}': ["awaited", {"pages": 2}, "no"],
        '{"pages": "x"}': [
            "awaited",
            "the payload is no dict[str, int]: pages: Input should be a valid integer, unable to parse string as an integer",
        ],
        "{}": ["awaited"],
    }.items():
        said.clear()
        rig.insert(kind="pages", payload=payload)
        run(rig, app)
        assert said == left
    assert rig.rows("SELECT status, error_message FROM jobs ORDER BY id")[3] == ("failed", "KeyError: 'pages'")


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (0, "RuntimeError: the middleware around returned without having called call_next"),
        (2, "RuntimeError: the middleware around called call_next twice"),
    ],
)
def test_an_async_handler_is_called_once_too(rig: Rig, times: int, said: str) -> None:
    app = App()

    async def around(call_next: Callable[[], Awaitable[None]], job: Job, context: Context) -> None:
        for _ in range(times):
            await call_next()

    around.__qualname__ = "around"
    app.around(around)

    @app.queue("invoices")
    async def send(job: Job, context: Context) -> None: ...

    rig.insert(1, "invoices", customer="Ada")
    run(rig, app)
    assert rig.rows("SELECT status, retry_count, error_message FROM invoices") == [("pending", 1, said)]
