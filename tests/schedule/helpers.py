"""What tests of schedules work with: a migrated database, daemons that schedule in it, and what came of ticks."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.rows import dict_row
from tests.support.daemon import DaemonProcess

from jobqueue.kernel.database.link import Link
from jobqueue.kernel.meter import Meter
from jobqueue.observe.metrics import Metrics
from jobqueue.schedule.schedules_file import ScheduleEntry
from jobqueue.schedule.schedules_table import Schedules
from jobqueue.schedule.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jobqueue.schedule.schedules_table import Schedule

Row = dict[str, Any]


def entry(name: str = "nightly", **fields: Any) -> ScheduleEntry:
    """An entry of a file: every minute, a heartbeat, unless `fields` say otherwise."""
    timing = {} if {"cron", "every_seconds"} & fields.keys() else {"every_seconds": 60}
    return ScheduleEntry(name=name, **{"kind": "heartbeat", **timing, **fields})


class Rig:
    """One database, looked at by a connection of the test's own."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(psycopg.connect(dsn, autocommit=True, row_factory=dict_row))
        self.link = Link(dsn, "test")
        self._stack.callback(self.link.close)
        self.schedules = Schedules(self.link)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Leave nothing of the test before."""
        self._connection.execute(
            b"DELETE FROM auction_files; DELETE FROM jobs; DELETE FROM schedules; DELETE FROM jobqueue.schedule_ticks; DELETE FROM jobqueue.breakers;"
            b"DELETE FROM jobqueue.workers; DELETE FROM jobqueue.backend_settings;"
            b"INSERT INTO jobqueue.backend_settings DEFAULT VALUES"
        )

    def rows(self, query: str, **params: object) -> list[Row]:
        cursor = self._connection.execute(query.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, **params: object) -> Any:
        return next(iter(self.rows(query, **params)[0].values()))

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Another connection, in a transaction, closed after the test."""
        connection = psycopg.connect(self.dsn)
        self._stack.callback(connection.close)
        return connection

    def schedule(self, name: str = "nightly") -> Schedule:
        return self.schedules.load([name])[0]

    def ticks(self, name: str = "nightly") -> list[Row]:
        """What became of a schedule's ticks, in order."""
        return self.rows("SELECT * FROM jobqueue.schedule_ticks WHERE schedule = %(n)s ORDER BY tick, slot", n=name)

    def jobs(self, name: str = "nightly") -> list[Row]:
        return self.rows("SELECT * FROM jobs WHERE schedule = %(n)s ORDER BY tick_at, id", n=name)

    def finish_jobs(self) -> None:
        """End every job as a worker would."""
        self.rows(
            "UPDATE jobs SET status = 'completed', started_at = now(), completed_at = now() WHERE status = 'pending'"
        )

    def wait_for(self, name: str, moment: datetime) -> None:
        """Have a schedule wait for this tick."""
        self.rows("UPDATE schedules SET next_tick_at = %(m)s WHERE name = %(n)s", n=name, m=moment)

    def now(self) -> datetime:
        now: datetime = self.value("SELECT clock_timestamp()")
        return now.astimezone(UTC)

    def ticker(
        self,
        *entries: ScheduleEntry,
        serves: Callable[[Schedule], bool] = lambda _schedule: True,
        fetch_settings: Callable[[], None] = lambda: None,
        primary: bool = True,
    ) -> Ticker:
        """A ticker that the test starts, or turns by hand; stopped after the test."""
        link = Link(self.dsn, "ticker", prepare=False)
        ticker = Ticker(link, Meter(Metrics(), []), entries if primary else None, serves, fetch_settings)
        self._stack.callback(_end, ticker)
        return ticker

    def daemon(self, folder: Path, name: str, **environment: str) -> DaemonProcess:
        """A worker without media, serving `jobs` alone; stopped after the test."""
        daemon = DaemonProcess(
            {"DATABASE_URL": self.dsn, "PORT": "0", "LOG_LEVEL": "info", **environment},
            folder / f"{name}.log",
            "--queue",
            "jobs",
        )
        self._stack.callback(_kill, daemon)
        return daemon


def _kill(daemon: DaemonProcess) -> None:
    """What a daemon leaves behind is of no interest: nobody waits for it to drain."""
    if daemon.running and daemon.log("worker_started"):
        daemon.kill()
    daemon.stop()


def _end(ticker: Ticker) -> None:
    ticker.stop()
    ticker.join(2.0)
    ticker.link.close()


def turn_until(ticker: Ticker, done: Callable[[], object], turns: int = 40) -> None:
    """Turn a ticker by hand until `done()`, or fail."""
    for _ in range(turns):
        ticker.turn()
        if done():
            return
    raise AssertionError("the ticker did not get there")


def every_second(rows: Sequence[Row]) -> list[int]:
    """The whole seconds that are missing between the first and the last of these ticks."""
    seconds = sorted(int(row["tick"].timestamp()) for row in rows)
    assert len(seconds) == len(set(seconds)), "a tick twice"
    return sorted(set(range(seconds[0], seconds[-1] + 1)) - set(seconds))
