"""What goes around handlers: its order, what it sees, and that it cannot leave a handler out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobqueue import App, Context, Job
from jobqueue.errors import Snooze

if TYPE_CHECKING:
    from collections.abc import Callable

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
