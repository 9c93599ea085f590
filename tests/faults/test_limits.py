"""Limits over four processes, one of which is killed again and again: neither is ever exceeded, and all work is done."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.waiting import eventually

from jobqueue.kernel import Rate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.extended]

MOST = 3
RATE = Rate(50)
PROCESSES = 4
KILLS = 10

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
    name = f"{template}_limits"
    yield postgres.create_database(name, template=template)
    postgres.drop_database(name)


def start(stack: ExitStack, dsn: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DATABASE_URL": dsn, "MOST": str(MOST), "RATE": str(RATE)}
    process = subprocess.Popen([sys.executable, "-m", "tests.faults.limited_worker"], env=environment)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def value(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def has_more(connection: Connection, runs: int) -> bool:
    return bool(value(connection, "SELECT count(*) FROM runs") > runs)


def test_limits_hold_while_processes_are_killed(database: str) -> None:
    with ExitStack() as stack:
        sql = stack.enter_context(psycopg.connect(database, autocommit=True))
        sql.execute(b"""
            CREATE TABLE runs (job_id text, attempt int, began_at timestamptz, ended_at timestamptz);
            CREATE TABLE paced (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
            SELECT jobqueue.adopt('paced');
            ALTER TABLE jobs ALTER COLUMN max_retries SET DEFAULT 1000;
            ALTER TABLE paced ALTER COLUMN max_retries SET DEFAULT 1000""")
        processes = [start(stack, database) for _ in range(PROCESSES)]
        eventually(lambda: value(sql, "SELECT count(*) FROM jobqueue.workers") == PROCESSES, 60.0)
        chance = random.Random(14)
        for _ in range(KILLS):
            sql.execute(b"INSERT INTO jobs (kind) SELECT 'x' FROM generate_series(1, 60)")
            sql.execute(b"INSERT INTO paced SELECT FROM generate_series(1, 80)")
            before = value(sql, "SELECT count(*) FROM runs")
            eventually(partial(has_more, sql, before + 20), 60.0)
            victim = chance.randrange(PROCESSES)
            processes[victim].kill()
            processes[victim].wait()
            processes[victim] = start(stack, database)
        unfinished = "SELECT (SELECT count(*) FROM jobs WHERE status <> 'completed') + (SELECT count(*) FROM paced WHERE status <> 'completed')"
        eventually(lambda: value(sql, unfinished) == 0, 120.0)
        check_number(sql)
        check_rate(sql)


def check_number(sql: Connection) -> None:
    """No more than MOST handlers at once. One that was killed lasted until its job was taken back."""
    runs = sql.execute(b"""
        SELECT extract(epoch FROM r.began_at), extract(epoch FROM coalesce(r.ended_at, a.ended_at))
        FROM runs AS r LEFT JOIN jobqueue.attempts AS a ON a.queue = 'jobs' AND a.job_id = r.job_id AND a.attempt = r.attempt
        ORDER BY 1""").fetchall()
    assert len(runs) >= 60 * KILLS
    assert all(end is not None for _, end in runs)
    changes = sorted([(began, 1) for began, _ in runs] + [(end, -1) for _, end in runs])
    now, most = 0, 0
    for _, change in changes:
        now += change
        most = max(most, now)
    assert most == MOST


def check_rate(sql: Connection) -> None:
    """In any time no more jobs start than the burst and what the rate allows in it."""
    rows = sql.execute(
        b"SELECT extract(epoch FROM started_at)::float8 FROM jobqueue.attempts WHERE queue = 'paced' ORDER BY started_at"
    ).fetchall()
    assert len(rows) >= 80 * KILLS
    interval = RATE.interval / 1e9
    # The n-th start, less what the rate allows for n: from the highest before to any later one it may fall by the burst, less one.
    highest = float("-inf")
    for n, (start_at,) in enumerate(rows):
        level = start_at - n * interval
        highest = max(highest, level)
        assert highest - level <= (RATE.burst - 1) * interval + 2e-6, f"start {n} is too early"


def test_the_checks_see_what_exceeds_a_limit(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as sql:
        sql.execute(b"CREATE TABLE runs (job_id text, attempt int, began_at timestamptz, ended_at timestamptz)")
        sql.execute(
            b"INSERT INTO runs SELECT n, 1, now() + n / 4 * interval '1 s', now() + (n / 4 + 0.5) * interval '1 s' FROM generate_series(0, 799) AS n"
        )
        with pytest.raises(AssertionError):
            check_number(sql)
        sql.execute(
            b"INSERT INTO jobqueue.attempts (queue, job_id, attempt, started_at, ended_at, outcome) "
            b"SELECT 'paced', n, 1, now() + n * interval '19 ms', now(), 'completed' FROM generate_series(1, 1000) AS n"
        )
        with pytest.raises(AssertionError, match="is too early"):
            check_rate(sql)
