"""A host's program, as `jobqueue worker --app tests.hosting.billing:app` finds it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal  # noqa: TC003 - the handler's type is read while the program runs

import jobqueue


@dataclass
class Invoice:
    id: int
    customer: str
    amount: Decimal


@dataclass
class Report:
    project: str
    pages: int = 1


app = jobqueue.App()

spoilt = jobqueue.App()

number = 7


@app.queue("invoices", concurrency=2)
def send(invoice: Invoice, context: jobqueue.Context) -> None:
    """Double the amount."""
    context.commit(
        lambda cursor: cursor.execute("UPDATE invoices SET amount = %s WHERE id = %s", [2 * invoice.amount, invoice.id])
    )


@app.kind("report")
def report(payload: Report, context: jobqueue.Context) -> None:
    """Insert as many invoices as the report has pages."""
    context.commit(
        lambda cursor: cursor.execute(
            "INSERT INTO invoices (customer) SELECT %s FROM generate_series(1, %s)", [payload.project, payload.pages]
        )
    )


@spoilt.queue("invoices", columns=["amuont"])
def misspelt(job: jobqueue.Job, context: jobqueue.Context) -> None:
    """Ask for a column that there is not."""


@spoilt.queue("drafts")
def unadopted(job: jobqueue.Job, context: jobqueue.Context) -> None:
    """Take jobs of a table that is no queue."""
