"""The examples are started and used, as whoever copies them would."""

from __future__ import annotations

import psycopg
import pytest
from tests.examples.example_host import ExampleHost

pytestmark = pytest.mark.extended


def test_a_shop_on_django(database: str) -> None:
    shop = ExampleHost("django_host", database)
    shop.run("manage.py", "migrate")
    with shop.serving("manage.py", "runserver", "--noreload", "{port}"):
        status, order = shop.call("/orders", {"customer": "Ada"})
        assert status == 201
        assert shop.call("/orders", {"nobody": "Ada"})[0] == 500
        assert shop.call(f"/orders/{order['id']}") == (200, {"customer": "Ada", "receipt": "", "tracking": ""})

        shop.work("shop.worker:app")

        sent = {"customer": "Ada", "receipt": "Thank you, Ada.", "tracking": "TRACK-00001"}
        assert shop.call(f"/orders/{order['id']}") == (200, sent)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT kind, status FROM jobs").fetchall() == [("receipt", "completed")]
        assert connection.execute("SELECT status FROM shop_parcel").fetchall() == [("completed",)]
        connection.execute("DELETE FROM shop_parcel; DELETE FROM shop_order")
        connection.execute("UPDATE jobs SET status = 'pending'")
    shop.work("shop.worker:app")
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT status, error_message FROM jobs").fetchall()
    assert found == [("failed", "DoesNotExist: Order matching query does not exist.")]


def test_reports_on_fastapi(database: str) -> None:
    host = ExampleHost("fastapi_host", database)
    with psycopg.connect(database) as connection:
        connection.execute(host.read("schema.sql").encode())
    with host.serving("-m", "uvicorn", "reports.main:api", "--port", "{port}"):
        status, report = host.call("/reports", {"month": "2026-01-01"})
        assert (status, report["status"]) == (202, "pending")
        assert host.call("/reports", {"month": "1999-01-01"})[0] == 202
        assert host.call("/reports", {"month": "some"})[0] == 422
        assert host.call(f"/reports/{report['id']}")[1]["status"] == "pending"
        assert host.call("/reports/77")[0] == 404

        host.work("reports.jobs:jobs")

        found = host.call(f"/reports/{report['id']}")[1]
        assert (found["status"], found["text"]) == ("completed", "January 2026 was a good month.")
        failed = host.call(f"/reports/{report['id'] + 1}")[1]
        assert (failed["status"], failed["error"]) == ("failed", "there are no figures of 1999")
