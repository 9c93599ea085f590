"""What tests of webhooks work with: webhooks, their deliveries, and a worker."""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg.rows

from jobqueue.kernel import Worker, WorkerOptions
from jobqueue.net.address_guard import Guard
from jobqueue.observe.metrics import Metrics
from jobqueue.webhooks.webhook_delivery import Webhooks

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Row = dict[str, Any]


class Yard:
    """Webhooks, their deliveries, and a worker."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.metrics = Metrics()

    def sql(self, query: str, **params: object) -> list[tuple[Any, ...]]:
        """Run one statement, in a transaction of its own; its rows."""
        cursor = self.connection.execute(query.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def webhook(self, url: str, secret: str | None = SECRET, **columns: object) -> Any:
        given = {"webhook_url": url, "webhook_secret": secret, **columns}
        names, marks = ", ".join(given), ", ".join(f"%({name})s" for name in given)
        return self.sql(f"INSERT INTO app_webhooks ({names}) VALUES ({marks}) RETURNING id", **given)[0][0]

    def deliver(
        self, webhook: object, number: int = 1, payload: str | None = '{"type": "made"}', **columns: object
    ) -> None:
        extra = "".join(f", {name}" for name in columns)
        marks = "".join(f", %({name})s" for name in columns)
        self.sql(
            f"INSERT INTO webhook_deliveries (webhook_id, payload{extra})"
            f" SELECT %(webhook)s, %(payload)s{marks} FROM generate_series(1, %(number)s)",
            webhook=webhook, payload=payload, number=number, **columns,
        )  # fmt: skip

    def rows(self, table: str = "webhook_deliveries") -> list[Row]:
        with psycopg.connect(self.dsn, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(f"SELECT * FROM {table} ORDER BY created_at".encode()).fetchall()

    def row(self, table: str = "webhook_deliveries") -> Row:
        [row] = self.rows(table)
        return row

    @contextmanager
    def working(self, *networks: str, slots: int = 8, max_retries: int = 5, base: float = 1.0) -> Iterator[Worker]:
        """A worker at work; when left, drained, with all attempts added up."""
        webhooks = Webhooks(
            Guard([ip_network(network) for network in networks or ("127.0.0.0/8",)], allow_http=True),
            self.metrics,
            conninfo=self.dsn, slots=slots, max_retries=max_retries, backoff_base=base,
        )  # fmt: skip
        worker = Worker(
            WorkerOptions(self.dsn, concurrency=slots, poll_seconds=0.2), [webhooks.queue()], metrics=self.metrics
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.drain(5.0)
            webhooks.close()

    def ended(self, number: int = 1) -> bool:
        ended = self.sql("SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('pending', 'processing')")
        return bool(ended[0][0] >= number)

    def clear(self) -> None:
        """Empty what a test has filled."""
        self.sql("TRUNCATE app_webhooks, webhook_deliveries, platform_events, jobqueue.webhook_attempts")
        self.sql("UPDATE jobqueue.webhook_limits SET max_retries = 5")
        self.connection.close()

    def counted(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("jobqueue_webhook_deliveries_total", {"outcome": outcome}) or 0.0
