"""Coalescing: no insert waits for another or fails over it, and of twins that are pending all the same one runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from tests.support.isolation import LEVELS

from jobqueue.kernel import Queue
from jobqueue.media import publish_status

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

INSERT = b"INSERT INTO jobs (kind, unique_key) VALUES ('x', %s)"

# More than the server's lock table has room for at its defaults.
BULK = 100_000


def twins(rig: Rig, number: int = 2, columns: dict[str, object] | None = None) -> list[Any]:
    """Jobs of the key k that are pending together, as transactions that did not see one another leave them."""
    open_ = [rig.connect(autocommit=False) for _ in range(number)]
    ids = []
    for host in open_:
        given = {"kind": "'x'", "unique_key": "'k'", **(columns or {})}
        values = ", ".join(map(str, given.values()))
        row = host.execute(f"INSERT INTO jobs ({', '.join(given)}) VALUES ({values}) RETURNING id".encode()).fetchone()
        assert row
        ids.append(row[0])
    for host in open_:
        host.commit()
    assert rig.value("SELECT count(*) FROM jobs WHERE status = 'pending' AND unique_key = 'k'") == number
    return ids


# Merging


def test_twins_that_are_claimed_one_by_one_run_once(rig: Rig) -> None:
    first, *others = twins(rig, 4)
    assert [job.id for job in rig.claim(1)] == [first]
    assert rig.claim() == []
    for id_ in others:
        row = rig.row(id_)
        assert row["status"] == "cancelled"
        assert row["error_message"] == f"coalesced into job {first}, which was claimed first for the same unique_key"
        assert row["completed_at"] is not None


def test_of_twins_that_are_claimed_together_the_first_runs_and_the_others_end_under_their_own_lease(rig: Rig) -> None:
    low, high = twins(rig)
    rig.sql.execute(b"UPDATE jobs SET priority = 9 WHERE id = %s", [high])
    [other] = rig.insert(1, unique_key="l")
    claimed = rig.claim()
    assert [job.id for job in claimed] == [high, other]
    row = rig.row(low)
    assert (row["status"], row["lease_expires_at"], row["locked_by"]) == ("cancelled", None, None)
    assert row["lease_token"] == claimed[0].token
    assert rig.store().complete(rig.link, claimed) == {high, other}
    assert rig.states() == {"completed": 2, "cancelled": 1}


@pytest.mark.parametrize(
    "columns",
    [{"run_after": "now() + interval '1 hour'"}, {"crash_count": 2, "retry_count": 2}],
    ids=["delayed", "suspect"],
)
def test_twins_without_a_position_give_way_too(rig: Rig, columns: dict[str, object]) -> None:
    first, second = twins(rig, columns=columns)
    rig.sql.execute(b"UPDATE jobs SET run_after = now(), crash_count = 0, priority = 6 WHERE id = %s", [first])
    assert [job.id for job in rig.claim()] == [first]
    assert rig.row(second)["status"] == "cancelled"


def test_a_suspect_that_is_claimed_has_its_twins_give_way(rig: Rig) -> None:
    first, second = twins(rig, columns={"crash_count": 2, "retry_count": 2})
    [suspect] = rig.store().claim_suspect(rig.link, UUID(int=1), "w", 60.0)
    assert rig.row(first + second - suspect.id)["status"] == "cancelled"


def test_a_twin_that_runs_is_left_alone(rig: Rig) -> None:
    [running] = rig.insert(1, unique_key="k")
    rig.claim()
    [second] = rig.insert(1, unique_key="k")
    assert [job.id for job in rig.claim()] == [second]
    assert rig.row(running)["status"] == "processing"


def test_a_twin_that_somebody_has_locked_is_left_for_later(rig: Rig) -> None:
    first, second = twins(rig)
    host = rig.connect(autocommit=False)
    host.execute(b"SELECT FROM jobs WHERE id = %s FOR NO KEY UPDATE", [second])
    assert [job.id for job in rig.claim()] == [first]
    host.rollback()
    assert [job.id for job in rig.claim()] == [second]


def test_jobs_without_a_key_cost_no_second_statement(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.insert(3)
    asked: list[bytes] = []
    fetch = rig.link.fetch

    def listen(query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        asked.append(query)
        return fetch(query, params)

    monkeypatch.setattr(rig.link, "fetch", listen)
    assert len(rig.claim()) == 3
    assert not [query for query in asked if b"claimed.stays" in query]


def test_what_a_twins_transaction_wrote_is_seen_by_the_one_that_runs(rig: Rig) -> None:
    rig.sql.execute(b"CREATE TABLE wishes (wish text)")
    hosts = [rig.connect(autocommit=False) for _ in range(3)]
    for number, host in enumerate(hosts):
        host.execute(INSERT, ["k"])
        host.execute("INSERT INTO wishes VALUES (%s)", [str(number)])
    for host in hosts:
        host.commit()
    seen: list[int] = []
    rig.run_once(lambda _, context: seen.append(context.read("SELECT count(*) FROM wishes", {})[0][0]))
    assert seen == [3]
    assert rig.states() == {"completed": 1, "cancelled": 2}


def test_a_merge_without_an_answer_gives_the_claim_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = twins(rig)
    engine = rig.engine(Queue("jobs", lambda *_: None))
    fetch = engine.claimer.link.fetch
    deaf = [True]

    def lose(query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        answer = fetch(query, params)
        if b"claimed.stays" in query and deaf:
            deaf.clear()
            raise psycopg.OperationalError("the answer was lost")
        return answer

    monkeypatch.setattr(engine.claimer.link, "fetch", lose)
    with pytest.raises(psycopg.OperationalError):
        engine.turn(3)
    engine.claimer.lost()
    assert [job.id for job in engine.turn(3)] == [first]
    assert rig.row(second)["status"] == "cancelled"
    engine.end_all()
    assert rig.states() == {"completed": 1, "cancelled": 1}


def test_a_hosts_trigger_that_keeps_twins_from_giving_way_has_both_run(rig: Rig) -> None:
    rig.sql.execute(b"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never cancelled'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.status = 'cancelled') EXECUTE FUNCTION refuse()""")
    both = twins(rig)
    assert [job.id for job in rig.claim()] == both


def test_a_file_follows_the_job_that_stays(rig: Rig) -> None:
    row = rig.sql.execute(b"INSERT INTO auction_files (source_key) VALUES ('f') RETURNING id").fetchone()
    assert row
    hosts = [rig.connect(autocommit=False) for _ in range(2)]
    for host in hosts:
        host.execute(b"INSERT INTO publish_jobs (file_id) VALUES (%s)", row)
    for host in hosts:
        host.commit()
    assert len(rig.claim(queue="publish_jobs")) == 1
    assert rig.states("publish_jobs") == {"processing": 1, "cancelled": 1}
    assert rig.row(row[0], "auction_files")["publish_status"] == "processing"


# Enqueuing


def test_opposite_orders_never_deadlock(rig: Rig) -> None:
    """New keys, and then keys whose jobs are pending already."""
    for round_ in range(2):
        one, other = rig.connect(autocommit=False), rig.connect(autocommit=False)
        for host in (one, other):
            host.execute(b"SET lock_timeout = 1000; SET deadlock_timeout = 100")
        for n in range(20):
            one.execute(INSERT, [f"k{n}"])
            other.execute(INSERT, [f"k{19 - n}"])
        one.commit()
        other.commit()
        assert rig.value("SELECT count(DISTINCT unique_key) FROM jobs") == 20, round_
    ran: list[Any] = []
    rig.run_once(lambda job, _: ran.append(job.columns["unique_key"]), columns=("unique_key",), concurrency=8)
    assert set(ran) == {f"k{n}" for n in range(20)}


@pytest.mark.parametrize("level", LEVELS)
def test_a_snapshot_that_is_older_than_the_twin_keeps_no_insert_from_succeeding(rig: Rig, level: str) -> None:
    host = rig.connect(autocommit=False)
    host.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
    host.execute(b"SELECT 1 FROM jobqueue.webhook_limits")
    rig.insert(1, unique_key="k")
    host.execute(INSERT, ["k"])
    host.commit()
    rig.run_once(lambda *_: None)
    assert rig.states() == {"completed": 1, "cancelled": 1}


@pytest.mark.parametrize("level", LEVELS)
def test_a_twin_that_was_changed_since_the_snapshot_keeps_no_insert_from_succeeding(rig: Rig, level: str) -> None:
    """It is being run: the job that is inserted waits for itself."""
    rig.insert(1, unique_key="k")
    host = rig.connect(autocommit=False)
    host.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
    host.execute(b"SELECT 1 FROM jobqueue.webhook_limits")
    [running] = rig.claim()
    host.execute(INSERT, ["k"])
    host.commit()
    assert rig.store().complete(rig.link, [running]) == {running.id}
    rig.run_once(lambda *_: None)
    assert rig.states() == {"completed": 2}


@pytest.mark.parametrize("level", LEVELS)
def test_in_any_isolation_the_second_becomes_the_first(rig: Rig, level: str) -> None:
    rig.insert(1, unique_key="k", priority=3)
    host = rig.connect(autocommit=False)
    host.execute(f"SET TRANSACTION ISOLATION LEVEL {level}".encode())
    for _ in range(3):
        host.execute(INSERT, ["k"])
    host.commit()
    assert rig.rows("SELECT status, priority FROM jobs") == [("pending", 5)]


# Many at once


@pytest.mark.extended
@pytest.mark.slow
def test_a_bulk_fits_into_the_lock_table_and_harms_nobody(rig: Rig) -> None:
    """The plan of the look was made while the table was tiny, and is kept through the bulk."""
    rig.insert(5, unique_key="tiny")
    rig.sql.execute(b"ANALYZE jobs")
    for n in range(8):
        rig.insert(1, unique_key=f"before {n}")
    bulk = rig.connect(autocommit=False)
    bulk.execute(
        f"INSERT INTO jobs (kind, unique_key) SELECT 'x', 'k' || n FROM generate_series(1, {BULK}) AS n".encode()
    )
    assert bulk.execute(b"SELECT count(*) < 100 FROM pg_locks WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with ThreadPoolExecutor(1) as threads:
        small = rig.connect(options="-c lock_timeout=1000")
        threads.submit(small.execute, INSERT, ["another"]).result(5.0)
        threads.submit(small.execute, INSERT, ["k1"]).result(5.0)
    # All of them are twins now.
    bulk.execute(
        f"INSERT INTO jobs (kind, unique_key) SELECT 'y', 'k' || n FROM generate_series(1, {BULK}) AS n".encode()
    )
    bulk.commit()
    assert rig.value("SELECT count(*) FROM jobs WHERE unique_key LIKE 'k%%'") == BULK + 1


@pytest.mark.extended
@pytest.mark.slow
def test_the_runbooks_statement_revives_any_number_of_failed_jobs(rig: Rig) -> None:
    files = f"INSERT INTO auction_files (source_key) SELECT 'f' || n FROM generate_series(1, {BULK}) AS n"
    rig.sql.execute(files.encode())
    rig.sql.execute(b"INSERT INTO publish_jobs (file_id) SELECT id FROM auction_files")
    rig.sql.execute(b"UPDATE publish_jobs SET status = 'failed', retry_count = 5")
    rig.sql.execute(b"UPDATE publish_jobs SET max_retries = 10 WHERE status = 'failed'")
    assert rig.states("publish_jobs") == {"pending": BULK}


def test_a_file_that_fell_behind_is_not_taken_for_the_twin_that_gave_way(rig: Rig) -> None:
    """The merge changed the twin last; the job that stays is what the file follows."""
    row = rig.sql.execute(b"INSERT INTO auction_files (source_key) VALUES ('f') RETURNING id").fetchone()
    assert row
    rig.sql.execute(
        b"""INSERT INTO publish_jobs (file_id, status, error_message, updated_at)
            VALUES (%(id)s, 'processing', NULL, now() - interval '1 s'), (%(id)s, 'cancelled', 'coalesced into job 1, which', now())""",
        {"id": row[0]},
    )
    rig.sql.execute(b"UPDATE auction_files SET publish_status = 'processing'")
    publish_status.follow(rig.link)
    assert rig.row(row[0], "auction_files")["publish_status"] == "processing"
