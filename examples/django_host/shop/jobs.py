"""The shop's handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import close_old_connections

import jobqueue
from shop.models import Order

app = jobqueue.App()


@app.around
def with_django(call_next: Callable[[], None], job: jobqueue.Job, context: jobqueue.Context) -> None:
    """Give back Django's connection of this thread when it is too old, as Django does around a request."""
    close_old_connections()
    try:
        call_next()
    finally:
        close_old_connections()


@dataclass
class Receipt:
    """The payload of a receipt's job."""

    order_id: int


@app.kind("receipt", permanent=(Order.DoesNotExist,))
def send_receipt(receipt: Receipt, context: jobqueue.Context) -> None:
    """Write the receipt, in the transaction that completes the job."""
    order = Order.objects.get(pk=receipt.order_id)
    text = f"Thank you, {order.customer}."
    context.commit(lambda cursor: cursor.execute("UPDATE shop_order SET receipt = %s WHERE id = %s", [text, order.pk]))


@dataclass
class ParcelRow:
    """The columns of a parcel that its handler reads."""

    id: int
    order_id: int


@app.queue("shop_parcel", concurrency=4)
def send_parcel(parcel: ParcelRow, context: jobqueue.Context) -> None:
    """Have the parcel collected, and note its tracking code."""
    with context.stage("carrier"):
        context.checkpoint()
        code = f"TRACK-{parcel.order_id:05}"
    context.commit(
        lambda cursor: cursor.execute("UPDATE shop_parcel SET tracking_code = %s WHERE id = %s", [code, parcel.id])
    )
