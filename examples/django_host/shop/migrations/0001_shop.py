"""The tables, one of which becomes a queue. `jobqueue migrate` comes first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models
from django.db.migrations.operations.base import Operation


class Migration(migrations.Migration):
    """Make orders and parcels; adopt the parcels."""

    initial = True
    dependencies: ClassVar[Sequence[tuple[str, str]]] = []
    operations: ClassVar[Sequence[Operation]] = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=200)),
                ("receipt", models.TextField(default="")),
            ],
        ),
        migrations.CreateModel(
            "Parcel",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("order", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="shop.order")),
                ("tracking_code", models.CharField(default="", max_length=50)),
            ],
        ),
        migrations.RunSQL("SELECT jobqueue.adopt('shop_parcel')", migrations.RunSQL.noop),
    ]
