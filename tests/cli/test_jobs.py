"""`jobqueue jobs list` and `show`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.terminal import in_terminal

from jobqueue.admin import inspector
from jobqueue.admin.inspector import list_queues
from jobqueue.admin.selection import Selection, block_source, indexed_sources
from jobqueue.kernel.database.statements import STATES

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


def _ids(jobqueue: Jobqueue, *args: object) -> list[int]:
    ran = jobqueue("jobs", "list", *args, "--json")
    assert ran.code == 0, ran.err
    return [int(job["id"]) for job in ran.document["jobs"]]


@pytest.fixture
def orders(sql: Database, own_words: str) -> str:
    """Eight orders in all states, with ids in the order in which they ought to be listed."""
    sql("INSERT INTO orders (priority, run_after) SELECT 5, now() FROM generate_series(1, 8)")
    sql("UPDATE orders SET status = 'BUSY', started_at = now() WHERE id = 1")
    sql("UPDATE orders SET priority = 9 WHERE id = 2")
    sql("UPDATE orders SET run_after = now() + interval '1 hour' WHERE id = 4")
    sql(
        "UPDATE orders SET status = 'BROKEN', error_message = 'Timed out after 5 s', retry_count = 5 WHERE id IN (5, 6)"
    )
    sql("UPDATE orders SET completed_at = now() - interval '3 hours', error_message = 'refused' WHERE id = 6")
    sql("UPDATE orders SET status = 'DONE' WHERE id = 7")
    sql("UPDATE orders SET status = 'VOID', completed_at = now() - interval '3 hours' WHERE id = 8")
    return own_words


def test_the_order_is_what_comes_first(orders: str, jobqueue: Jobqueue) -> None:
    assert _ids(jobqueue, orders) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_the_document(orders: str, jobqueue: Jobqueue) -> None:
    document = jobqueue("jobs", "list", orders, "--status", "failed", "--error", "timed out", "--json").document
    (job,) = document.pop("jobs")
    assert document == {"schema": "jobqueue.jobs/1", "queue": "orders", "whole": True}
    for name in ("run_after", "created_at", "completed_at"):
        assert job[name].endswith("Z")
        assert datetime.fromisoformat(job.pop(name)).tzinfo is not None
    assert job == {
        "id": "5",
        "status": "failed",
        "status_word": "BROKEN",
        "kind": None,
        "priority": 5,
        "retry_count": 5,
        "max_retries": 5,
        "started_at": None,
        "lease_expires_at": None,
        "locked_by": None,
        "error_message": "Timed out after 5 s",
    }


def test_filters(orders: str, jobqueue: Jobqueue) -> None:
    for args, expected in {
        "--status pending": [2, 3, 4],
        "--status NEW": [2, 3, 4],
        "--status new": [2, 3, 4],
        "--status BUSY --status Cancelled": [1, 8],
        "--status DONE,VOID": [7, 8],
        "--error TIMED": [5],
        "--error %": [],
        "--older 2h": [6, 8],
        "--older 2h --status failed": [6],
        "--limit 3": [1, 2, 3],
    }.items():
        assert _ids(jobqueue, orders, *args.split()) == expected, args


def test_a_list_that_is_cut_says_so(orders: str, jobqueue: Jobqueue) -> None:
    assert [jobqueue("jobs", "list", orders, "-l", n, "--json").document["whole"] for n in (7, 8)] == [False, True]


def test_kinds(sql: Database, orders: str, jobqueue: Jobqueue) -> None:
    sql("INSERT INTO jobs (kind) VALUES ('mail'), ('report'), ('mail')")
    assert _ids(jobqueue, "jobs", "--kind", "mail") == [1, 3]
    ran = jobqueue("jobs", "list", orders, "--kind", "mail")
    assert (ran.code, ran.err) == (2, "the queue orders has no kinds: its table has no column `kind`\n")


def test_an_unknown_queue_lists_those_that_exist(orders: str, jobqueue: Jobqueue) -> None:
    ran = jobqueue("jobs", "list", "order")
    assert ran.code == 1
    assert ran.err.startswith("there is no queue 'order'; the queues of this database are: ")
    for name in ("jobs", "orders", "publish_jobs"):
        assert name in ran.err


def test_an_unknown_state_lists_the_queues_own(orders: str, jobqueue: Jobqueue) -> None:
    ran = jobqueue("jobs", "list", orders, "--status", "READY")
    assert ran.code == 2
    assert "no state 'READY'" in ran.err
    assert "completed (DONE)" in ran.err


def test_the_queues_own_word_wins_over_the_common_one(sql: Database, jobqueue: Jobqueue) -> None:
    sql("CREATE TABLE odd (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    sql("SELECT jobqueue.adopt('odd', 'new', 'pending', 'done', 'failed', 'gone')")
    sql("INSERT INTO odd DEFAULT VALUES")
    sql("INSERT INTO odd DEFAULT VALUES")
    sql("UPDATE odd SET status = 'pending' WHERE id = 2")
    assert _ids(jobqueue, "odd", "--status", "pending") == [2]
    assert _ids(jobqueue, "odd", "--status", "processing") == [2]


def test_an_empty_filter_is_refused(orders: str, jobqueue: Jobqueue) -> None:
    assert jobqueue("jobs", "list", orders, "--error", "").code == 2


def test_of_a_large_table_the_end_is_enough(sql: Database, jobqueue: Jobqueue, monkeypatch: pytest.MonkeyPatch) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql(
        "INSERT INTO jobs (kind, status, completed_at) SELECT 'x', 'completed', now() - (3000 - n) * interval '1 minute' FROM generate_series(1, 3000) n"
    )
    monkeypatch.setattr(inspector, "BLOCKS", 8)
    document = jobqueue("jobs", "list", "jobs", "-s", "completed", "-l", "5", "--json").document
    assert [job["id"] for job in document["jobs"]] == ["3000", "2999", "2998", "2997", "2996"]
    assert not document["whole"]
    assert len(_ids(jobqueue, "jobs", "-s", "completed", "-l", "10000")) == 3000


def test_every_list_is_served_by_an_index_or_a_range_of_blocks(sql: Database) -> None:
    sql("ALTER TABLE jobs DISABLE TRIGGER USER")
    sql(
        "INSERT INTO jobs (kind, status, position, completed_at, lease_expires_at) "
        "SELECT 'x', CASE WHEN n % 50 = 0 THEN (ARRAY['pending', 'processing', 'failed'])[n / 50 % 3 + 1] ELSE 'completed' END, "
        "CASE WHEN n % 300 = 0 THEN n END, now(), now() FROM generate_series(1, 30000) n"
    )
    sql("ANALYZE jobs")
    queue = next(queue for queue in list_queues(sql.connection) if queue.name == "jobs")
    selection = Selection(STATES)
    sources = indexed_sources(queue.description, selection)
    conditions = [source.condition.as_string(None) for source in sources]
    assert len(conditions) == 4
    for condition in conditions:
        assert "Seq Scan" not in _plan(sql, condition), condition
    block = block_source(queue.description, selection.only("completed"), 0, 20)
    assert "Tid Range Scan" in _plan(sql, block.condition.as_string(None))


def _plan(sql: Database, condition: str) -> str:
    return "\n".join(str(row[0]) for row in sql(f"EXPLAIN SELECT t.id FROM jobs AS t WHERE {condition} LIMIT 1000"))


def test_show_has_every_column(sql: Database, jobqueue: Jobqueue) -> None:
    sql('INSERT INTO jobs (kind, payload) VALUES (\'mail\', \'{"to": ["é"], "n": 12345678901234567890}\')')
    document: dict[str, Any] = jobqueue("jobs", "show", "jobs", 1, "--json").document
    columns = document.pop("columns")
    assert document == {"schema": "jobqueue.job/1", "queue": "jobs", "id": "1", "status": "pending", "attempts": []}
    assert columns["id"] == "1"
    assert columns["payload"] == {"to": ["é"], "n": 12345678901234567890}
    assert columns["created_at"].endswith("Z")
    assert set(columns) == {
        name for (name,) in sql("SELECT attname FROM pg_attribute WHERE attrelid = 'jobs'::regclass AND attnum > 0")
    }
    lines = dict(row for row in jobqueue("jobs", "show", "jobs", 1).rows)
    assert (lines["kind"], lines["payload"]) == ("mail", '{"n": 12345678901234567890, "to": ["é"]}')


ATTEMPTS = """INSERT INTO jobqueue.attempts (queue, job_id, attempt, started_at, ended_at, outcome, worker, stages, error)
    VALUES ('orders', '5', 1, '2026-01-01 10:00Z', '2026-01-01 10:00:01.5Z', 'crashed', 'web-1', NULL, 'the worker died'),
           ('orders', '5', 2, '2026-01-01 11:00Z', '2026-01-01 11:00:02Z', 'failed', 'web-2', '{"decode": 250.5}', 'no picture'),
           ('orders', '55', 1, NULL, now(), 'failed', NULL, NULL, 'another job'),
           ('jobs', '5', 1, NULL, now(), 'failed', NULL, NULL, 'another queue')"""


def test_show_has_the_jobs_attempts_in_their_order(sql: Database, orders: str, jobqueue: Jobqueue) -> None:
    sql(ATTEMPTS)
    first, second = jobqueue("jobs", "show", orders, 5, "--json").document["attempts"]
    assert (first["outcome"], first["stages"]) == ("crashed", {})
    assert second == {
        "attempt": 2,
        "outcome": "failed",
        "started_at": "2026-01-01T11:00:00.000Z",
        "ended_at": "2026-01-01T11:00:02.000Z",
        "worker": "web-2",
        "stages": {"decode": 250.5},
        "error": "no picture",
    }
    rows = [row for row in jobqueue("jobs", "show", orders, 5).rows if row[0] == "attempt"]
    assert [row[1:3] for row in rows] == [["number", "outcome"], ["1", "crashed"], ["2", "failed"]]
    assert rows[2][5:] == ["web-2", '{"decode": 250.5}', "no picture"]


def test_of_very_many_attempts_the_last_are_shown(sql: Database, orders: str, jobqueue: Jobqueue) -> None:
    sql(
        "INSERT INTO jobqueue.attempts (queue, job_id, attempt, ended_at, outcome) "
        "SELECT 'orders', '5', n, now(), 'retried' FROM generate_series(1, 300) AS n"
    )
    attempts = jobqueue("jobs", "show", orders, 5, "--json").document["attempts"]
    assert [attempt["attempt"] for attempt in attempts] == list(range(201, 301))


def test_show_maps_the_queues_own_words(orders: str, jobqueue: Jobqueue) -> None:
    document = jobqueue("jobs", "show", orders, 5, "--json").document
    assert (document["status"], document["columns"]["status"]) == ("failed", "BROKEN")


def test_show_of_what_is_not_there(jobqueue: Jobqueue) -> None:
    absent = "00000000-0000-4000-8000-000000000000"
    for queue, id_, code, said in (
        ("jobs", "77", 1, "there is no job 77 in jobs"),
        ("jobs", "x", 2, "'x' cannot be a job of jobs, whose ids are each a whole number"),
        ("jobs", "9" * 20, 2, f"'{'9' * 20}' cannot be a job of jobs, whose ids are each a whole number"),
        ("publish_jobs", "7", 2, "'7' cannot be a job of publish_jobs, whose ids are each a uuid"),
        ("publish_jobs", absent, 1, f"there is no job {absent} in publish_jobs"),
    ):
        ran = jobqueue("jobs", "show", queue, id_)
        assert (ran.code, ran.out, ran.err) == (code, "", f"{said}\n")


_FAR = ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "10000-01-01 00:00:00+00"]


@pytest.mark.parametrize("moment", _FAR)
def test_times_beyond_those_of_python(sql: Database, jobqueue: Jobqueue, moment: str) -> None:
    far = "-infinity" if moment.startswith(("-", "0")) else "infinity"
    sql(
        "INSERT INTO jobs (kind, run_after, created_at, started_at, completed_at) VALUES ('x', %s, %s, %s, %s)",
        *[moment] * 4,
    )
    sql("INSERT INTO jobs (kind, status, started_at, completed_at) VALUES ('x', 'completed', %s, %s)", *[moment] * 2)
    listed = jobqueue("jobs", "list", "jobs", "--json")
    assert listed.code == 0, listed.err
    # A job that enters the queue has not been completed.
    names = ("run_after", "created_at", "started_at")
    pending, completed = listed.document["jobs"]
    assert {pending[name] for name in names} == {far}
    assert {completed[name] for name in ("started_at", "completed_at")} == {far}
    assert far in jobqueue("jobs", "list", "jobs").rows[0]
    shown = jobqueue("jobs", "show", "jobs", 1, "--json").document["columns"]
    assert {shown[name] for name in names} == {far}


def test_a_host_s_own_column_may_hold_anything(sql: Database, orders: str, jobqueue: Jobqueue) -> None:
    sql("ALTER TABLE orders ADD local timestamp, ADD day date, ADD at time, ADD length interval, ADD days date[]")
    sql(
        "UPDATE orders SET local = 'infinity', day = '-infinity', at = '24:00', length = '99999999 years',"
        " days = '{infinity,2026-11-28}' WHERE id = 1"
    )
    shown = jobqueue("jobs", "show", orders, 1, "--json")
    assert shown.code == 0, shown.err
    columns = shown.document["columns"]
    assert columns["local"] == "infinity"
    assert (columns["day"], columns["at"]) == ("0001-01-01", "23:59:59.999999")
    assert columns["days"] == ["9999-12-31", "2026-11-28"]


def test_a_person_reads_never_and_now(sql: Database, jobqueue: Jobqueue, environment: dict[str, str]) -> None:
    sql("INSERT INTO jobs (kind, run_after) VALUES ('x', 'infinity'), ('x', '-infinity')")
    listed = in_terminal(["jobs", "list", "jobs"], environment).text
    assert [word for word in listed.split() if word in ("now", "never")] == ["now", "never"]
    assert "-infinity  now" in in_terminal(["jobs", "show", "jobs", "2"], environment).text
