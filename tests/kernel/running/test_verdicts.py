"""What a queue says of failures: how many attempts a job has, and which exceptions end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobqueue.backoff import Backoff
from jobqueue.errors import ConfigurationError, Retry, Snooze
from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

AT_ONCE = Backoff(first=0.0)


def raising(error: BaseException) -> Any:
    def handler(*_: Any) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyError("customer"), "failed", "KeyError: 'customer'"),
        (IndexError(7), "failed", "IndexError: 7"),
        (ValueError("no number"), "pending", "ValueError: no number"),
        (Retry("busy"), "pending", "busy"),
        (Snooze("not now", 600), "pending", "not now"),
    ],
)
def test_a_class_of_exceptions_is_permanent(rig: Rig, error: BaseException, status: str, message: str) -> None:
    [id_] = rig.insert(1)
    rig.run_once(raising(error), permanent=(LookupError,), backoff=Backoff(first=600.0))
    row = rig.row(id_)
    assert (row["status"], row["error_message"]) == (status, message)
    assert (row["retry_count"] == row["max_retries"]) is (status == "failed")


def test_a_queue_says_how_many_attempts_a_job_has_that_does_not(rig: Rig) -> None:
    [silent], [explicit] = rig.insert(1), rig.insert(1, max_retries=3)
    [started] = rig.insert(1, retry_count=1)
    rig.run_once(raising(ValueError()), retries=2, backoff=AT_ONCE)
    assert [(rig.row(id_)["retry_count"], rig.row(id_)["max_retries"]) for id_ in (silent, explicit, started)] == [
        (2, 2), (3, 3), (5, 5)
    ]  # fmt: skip
    assert rig.states() == {"failed": 3}


def test_more_attempts_than_the_table_has(rig: Rig) -> None:
    [id_] = rig.insert(1)
    rig.run_once(raising(ValueError()), retries=7, backoff=AT_ONCE)
    assert rig.row(id_)["retry_count"] == 7


def test_a_suspect_has_as_many_attempts(rig: Rig) -> None:
    [id_] = rig.insert(1, crash_count=2)
    rig.run_once(raising(ValueError()), retries=1)
    assert rig.row(id_)["status"] == "failed"


def test_attempts_that_nobody_can_tell_from_the_tables_own_are_refused(rig: Rig) -> None:
    rig.table("work")
    rig.sql.execute(b"ALTER TABLE work ALTER COLUMN max_retries SET DEFAULT (random() * 5)::int")
    with pytest.raises(ConfigurationError, match=r"public\.work has no number as the default of max_retries"):
        rig.unstarted(Queue("work", raising(ValueError()), retries=3)).start()
