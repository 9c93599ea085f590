"""A database that takes no writes is away: what was delivered stays delivered, and nobody pays."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.support.http_server import FaultyServer, Request, Wire, reply
from tests.support.read_only import set_read_only
from tests.support.waiting import eventually

if TYPE_CHECKING:
    import pytest
    from tests.webhooks.helpers import Yard


def test_an_answer_that_comes_while_nothing_can_be_written_is_kept(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    answered = threading.Event()

    def answer(request: Request, wire: Wire) -> None:
        set_read_only(yard.dsn, True)
        reply(200, b"thanks")(request, wire)
        answered.set()

    caplog.set_level("INFO")
    try:
        with FaultyServer(answer) as server:
            yard.deliver(yard.webhook(server.url))
            with yard.working():
                assert answered.wait(10.0)
                eventually(lambda: "database_away" in caplog.text, 10.0)
                assert not yard.ended()
                set_read_only(yard.dsn, False)
                assert eventually(yard.ended, 15.0)
    finally:
        set_read_only(yard.dsn, False)
    row = yard.row()
    assert (row["status"], row["status_code"], row["error_message"]) == ("completed", 200, None)
    assert (row["retry_count"], row["crash_count"]) == (0, 0)
    assert len(server.requests) == 1
    assert "loop_failed" not in caplog.text
    assert "handler_raised" not in caplog.text
