"""Orders, and parcels: the table of parcels is a queue."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What a customer bought. `receipt` is written by the job that sends it."""

    customer: models.CharField[str, str] = models.CharField(max_length=200)
    receipt: models.TextField[str, str] = models.TextField(default="")


class Parcel(models.Model):
    """What is to be sent. jobqueue adds its own columns to this table, and works on its rows."""

    order: models.ForeignKey[Order, Order] = models.ForeignKey(Order, on_delete=models.CASCADE)
    tracking_code: models.CharField[str, str] = models.CharField(max_length=50, default="")
