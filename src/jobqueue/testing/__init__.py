"""For a host's test suite: a handler without a database, everything that is due done in process, what was enqueued, a server.

    def test_an_invoice_is_sent() -> None:
        done = jobqueue.testing.perform(send, Invoice(id=7, customer="Ada"))
        assert done.committed

    def test_an_order_sends_its_invoice(jobqueue_database: str) -> None:
        place_order(jobqueue_database)
        assert jobqueue.testing.drain(app, jobqueue_database) == {"completed": 1}

The fixtures are in `testing/fixtures.py`: `pytest_plugins = ["jobqueue.testing.fixtures"]` at the root of the tests makes them
known. No entry point does: that would be imported by every pytest that has jobqueue installed.
"""

from jobqueue.testing.draining import JobsFailed, drain
from jobqueue.testing.enqueued import assert_enqueued
from jobqueue.testing.performing import Performed, Statement, perform, perform_async

__all__ = ["JobsFailed", "Performed", "Statement", "assert_enqueued", "drain", "perform", "perform_async"]
