"""A host's test suite needs nothing but what jobqueue.testing gives it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.docs.page import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
from dataclasses import dataclass

import jobqueue

app = jobqueue.App()


@dataclass
class Invoice:
    id: int
    customer: str


@app.queue("invoices")
def send(invoice: Invoice, context: jobqueue.Context) -> None:
    context.commit(lambda cursor: cursor.execute("UPDATE invoices SET sent = true WHERE id = %s", [invoice.id]))
"""

CONFTEST = """
import psycopg
import pytest

pytest_plugins = ["jobqueue.testing.fixtures"]


@pytest.fixture(scope="session")
def jobqueue_schema():
    def create(dsn):
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE invoices (customer text, sent boolean NOT NULL DEFAULT false)")
            connection.execute("SELECT jobqueue.adopt('invoices')")

    return create
"""

TESTS = """
import psycopg
import pytest

import jobqueue
from billing import Invoice, app, send
from jobqueue.testing import JobsFailed, assert_enqueued, drain, perform


def test_the_handler_alone():
    assert perform(send, Invoice(7, "Ada")).statements[0].params == [7]


@pytest.mark.parametrize("customer", ["Ada", "Grace"])
def test_an_invoice_is_sent(jobqueue_database, customer):
    with psycopg.connect(jobqueue_database) as connection:
        connection.execute("INSERT INTO invoices (customer) VALUES (%s)", [customer])
        jobqueue.enqueue(connection, "thank", {"customer": customer})
    assert drain(app, jobqueue_database) == {"completed": 1}
    with psycopg.connect(jobqueue_database) as connection:
        assert connection.execute("SELECT customer, sent FROM invoices").fetchall() == [(customer, True)]
        assert_enqueued(connection, "thank", {"customer": customer})


def test_a_failure_is_seen(jobqueue_database):
    with psycopg.connect(jobqueue_database) as connection:
        connection.execute("INSERT INTO invoices DEFAULT VALUES")
    with pytest.raises(JobsFailed, match="1 attempt failed"):
        drain(app, jobqueue_database)
"""


@pytest.mark.extended
@pytest.mark.slow
def test_a_hosts_own_suite_passes_with_nothing_else(tmp_path: Path) -> None:
    for name, text in {"billing.py": PROGRAM, "conftest.py": CONFTEST, "test_billing.py": TESTS}.items():
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
