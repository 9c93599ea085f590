"""A handler is called as a worker calls it, and what it does is written down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from pydantic import BaseModel

import jobqueue
from jobqueue import App, Context, Job, Permanent, Snooze
from jobqueue.errors import ConfigurationError, LeaseLost
from jobqueue.testing import Statement, perform, perform_async

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Invoice:
    id: int
    customer: str


class Report(BaseModel):
    month: str
    pages: int = 1


app = App()

SENT = "UPDATE invoices SET sent_at = now() WHERE id = %s"


@app.queue("invoices")
def send(invoice: Invoice, context: Context) -> None:
    with context.stage("mail"):
        context.checkpoint()
    context.commit(lambda cursor: cursor.execute(SENT, [invoice.id]))


@app.kind("report")
def report(payload: Report, context: Context) -> object:
    if payload.pages == 0:
        return Snooze("no pages yet", 60)
    [(number,)] = context.read("SELECT count(*) FROM invoices WHERE month = %(month)s", {"month": payload.month})
    context.write(lambda cursor: jobqueue.enqueue(cursor, "mail", {"number": number, "pages": payload.pages}))
    return None


@pytest.mark.parametrize(
    "row", [Invoice(7, "Ada"), {"id": "7", "customer": "Ada", "more": 1}], ids=["instance", "dict"]
)
def test_what_a_handler_commits_is_written_down(row: object) -> None:
    done = perform(send, row)

    assert done.committed
    assert done.statements == [Statement(SENT, [7])]
    assert (done.checkpoints, list(done.stages)) == (1, ["mail"])


def test_a_dict_that_does_not_fit_ends_as_in_a_worker() -> None:
    with pytest.raises(Permanent, match=r"^the row is no Invoice: id: Input should be a valid integer"):
        perform(send, {"id": "seven", "customer": "Ada"})


def test_reads_get_the_rows_that_the_test_gives() -> None:
    def answer(query: str, params: Any) -> list[tuple[int]] | None:
        return [(3,)] if "count" in query else None

    done = perform(report, {"month": "2026-01"}, answer=answer)

    assert not done.committed
    read, insert = done.statements
    assert read.params == {"month": "2026-01"}
    assert insert.query.startswith("INSERT INTO public.jobs (kind, payload)")
    assert insert.params == {"kind": "mail", "payload": '{"number": 3, "pages": 1}'}


def test_a_verdict_that_is_returned_is_raised() -> None:
    with pytest.raises(Snooze, match="no pages yet"):
        perform(report, Report(month="2026-01", pages=0))


def test_a_handler_that_takes_a_job_finds_the_columns() -> None:
    seen: list[Any] = []

    def plain(job: Job, context: Context) -> None:
        seen.append((job.columns, job.attempt, job.retry_count, context.job is job, context.draining))

    perform(plain, {"customer": "Ada"}, attempt=3, draining=True)
    assert seen == [({"customer": "Ada"}, 3, 2, True, True)]


async def ask(invoice: Invoice, context: Context) -> object:
    await context.acheckpoint()
    found = await context.aread("SELECT paid FROM invoices WHERE id = %(id)s", {"id": invoice.id})
    if not found:
        return Snooze("not yet", 60)
    await context.awrite(lambda cursor: cursor.execute("UPDATE invoices SET asked = true"))
    await context.acommit(lambda cursor: cursor.execute(SENT, [invoice.id]))
    return None


def test_an_async_handler_is_run_to_its_end() -> None:
    done = perform(
        ask, {"id": 7, "customer": "Ada"}, answer=lambda query, _params: [(True,)] if "paid" in query else None
    )

    assert done.committed
    assert done.checkpoints == 1
    assert [statement.query.split()[0] for statement in done.statements] == ["SELECT", "UPDATE", "UPDATE"]
    with pytest.raises(Snooze, match="not yet"):
        perform(ask, Invoice(7, "Ada"))


def test_a_test_on_an_event_loop_awaits_it() -> None:
    async def test() -> None:
        assert (await perform_async(send, Invoice(7, "Ada"))).committed
        with pytest.raises(Snooze, match="not yet"):
            await perform_async(ask, Invoice(7, "Ada"))

    asyncio.run(test())


@pytest.mark.parametrize("name", ["checkpoint", "read", "write", "commit"])
def test_each_sort_of_handler_has_its_own_steps(name: str) -> None:
    steps: dict[str, tuple[Any, ...]] = {"checkpoint": (), "read": ("SELECT 1", {}), "write": (len,), "commit": (len,)}
    arguments = steps[name]

    async def blocks(job: Job, context: Context) -> None:
        getattr(context, name)(*arguments)

    def awaits(job: Job, context: Context) -> None:
        getattr(context, f"a{name}")(*arguments)

    with pytest.raises(RuntimeError, match="an async handler awaits"):
        perform(blocks)
    with pytest.raises(RuntimeError, match="only an async def handler awaits"):
        perform(awaits)


def test_a_handler_that_goes_on_after_its_commit_has_lost_the_job() -> None:
    def greedy(job: Job, context: Context) -> None:
        context.commit(lambda cursor: None)
        context.write(lambda cursor: None)

    with pytest.raises(LeaseLost, match="must return after that"):
        perform(greedy)


def test_what_a_handler_raises_is_raised() -> None:
    def fail(job: Job, context: Context) -> None:
        raise ValueError("no such customer")

    with pytest.raises(ValueError, match="no such customer"):
        perform(fail)


def test_what_no_worker_would_take_is_refused() -> None:
    def generated(job: Job, context: Context) -> Iterator[int]:
        yield 1

    with pytest.raises(ConfigurationError, match="generated is a generator"):
        perform(generated)


def test_effects_run_on_a_cursor_that_is_given(database: str) -> None:
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        connection.execute("CREATE TABLE invoices (id int, month text)")
        connection.execute("INSERT INTO invoices VALUES (1, '2026-01'), (2, '2026-01')")
        done = perform(report, {"month": "2026-01", "pages": 2}, cursor=cursor)
        assert done.statements == []
        found = connection.execute("SELECT kind, payload FROM jobs").fetchall()
        assert found == [("mail", {"number": 2, "pages": 2})]
        connection.rollback()


def test_a_recording_cursor_is_read_as_a_drivers() -> None:
    def walk(job: Job, context: Context) -> None:
        def effects(cursor: psycopg.Cursor[Any]) -> None:
            assert cursor.execute(b"SELECT 1").fetchone() == (1,)
            assert cursor.fetchone() == (2,)
            assert cursor.execute(sql.SQL("SELECT {}").format(sql.Literal(1))).fetchmany(2) == [(1,), (2,)]
            assert cursor.fetchall() == [(3,)]
            assert list(cursor.execute("SELECT 1")) == [(1,), (2,), (3,)]
            assert cursor.rowcount == 3
            cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])

        context.write(effects)

    done = perform(walk, answer=lambda query, _params: [(1,), (2,), (3,)] if query.startswith("SELECT") else [])
    assert [statement.query for statement in done.statements] == [
        *["SELECT 1"] * 3,
        *["INSERT INTO t VALUES (%s)"] * 2,
    ]
