"""All that is due is done in process, and no failure is passed over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from jobqueue import App, Context, Job, Permanent, Retry, enqueue
from jobqueue.errors import ConfigurationError
from jobqueue.kernel import Queue
from jobqueue.testing import JobsFailed, drain

LINKS = 40

app = App()


@app.kind("chain")
def chain(payload: dict[str, int], context: Context) -> None:
    """Enqueue the next link with the completion of this one."""
    if left := payload["left"]:
        context.commit(lambda cursor: enqueue(cursor, "chain", {"left": left - 1}))


@app.kind("end")
def end(payload: dict[str, str], context: Context) -> None:
    match payload.get("by"):
        case "permanent":
            raise Permanent("no such customer")
        case "retry":
            raise Retry("later", after=60)
        case "bug":
            raise KeyError("customer")
        case "exit":
            raise SystemExit(3)


@app.kind("wait")
async def wait(payload: dict[str, str], context: Context) -> object:
    if by := payload.get("by"):
        raise KeyError(by)
    if payload.get("no"):
        return Permanent("no")
    await context.acommit(lambda cursor: enqueue(cursor, "end"))
    return None


def put(dsn: str, kind: str, *payloads: dict[str, Any], **columns: Any) -> None:
    with psycopg.connect(dsn) as connection:
        for payload in payloads:
            enqueue(connection, kind, payload, **columns)


def test_what_a_job_enqueues_is_done_too(database: str) -> None:
    put(database, "chain", {"left": LINKS})

    assert drain(app, database) == {"completed": LINKS + 1}


def test_what_is_due_later_is_left(database: str) -> None:
    put(database, "end", {}, run_after=timedelta(hours=1))
    put(database, "end", {"by": "retry"}, {})

    assert drain(app, database) == {"completed": 1, "retried": 1}
    assert drain(app, database) == {}


def test_failures_are_raised_with_their_jobs(database: str) -> None:
    put(database, "end", {"by": "permanent"}, {"by": "bug"}, {"by": "exit"}, {})

    with pytest.raises(JobsFailed, match="3 attempts failed") as raised:
        drain(app, database)

    by_type = {type(error): error for error in raised.value.exceptions}
    assert by_type.keys() == {Permanent, KeyError, RuntimeError}
    assert by_type[KeyError].__notes__ == ["attempt 1 at job 2 of jobs"]
    assert isinstance(by_type[RuntimeError].__cause__, SystemExit)
    assert raised.value.subgroup(KeyError) is not None


def test_failures_that_are_expected_are_counted(database: str) -> None:
    put(database, "end", {"by": "permanent"}, {"by": "bug"})

    assert drain(app, database, failing=True) == {"failed": 1, "retried": 1}


def test_async_handlers_are_drained_and_their_failures_raised(database: str) -> None:
    put(database, "wait", {})
    assert drain(app, database) == {"completed": 2}

    put(database, "wait", {"by": "customer"}, {"no": "1"})
    with pytest.raises(JobsFailed, match="2 attempts failed") as raised:
        drain(app, database)
    assert {type(error) for error in raised.value.exceptions} == {KeyError, Permanent}


def test_a_queue_with_an_async_handler(database: str) -> None:
    async def fail(job: Job, context: Context) -> None:
        raise ValueError("no")

    put(database, "a", {})
    with pytest.raises(JobsFailed, match="1 attempt failed"):
        drain([Queue("jobs", fail)], database)


def test_queues_without_an_app(database: str) -> None:
    def returns(job: Job, context: Context) -> None:
        return Permanent("no") if job.id == 1 else None  # type: ignore[return-value]

    put(database, "a", {}, {})
    with pytest.raises(JobsFailed, match="1 attempt failed"):
        drain([Queue("jobs", returns)], database)


def test_a_program_that_is_wrong_is_told(database: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no queue 'invoices'"):
        drain([Queue("invoices", lambda job, context: None)], database)
