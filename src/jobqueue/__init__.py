"""Your Postgres table is the queue: a worker daemon for media publishing and delivery, and for a host's own tables.

A host's Python program needs these names and no others:

    app = jobqueue.App()

    @app.queue("invoices", concurrency=4)
    def send(invoice: Invoice, context: jobqueue.Context) -> None: ...

`jobqueue worker --app billing.jobs:app` works on them. What a name stands for is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobqueue.version import __version__

if TYPE_CHECKING:
    from jobqueue import testing
    from jobqueue.enqueueing.job_insert import enqueue
    from jobqueue.enqueueing.outcome_wait import JobEnd, wait, wait_async
    from jobqueue.errors import Cancelled, Permanent, Retry, Snooze
    from jobqueue.hosting.host_app import App
    from jobqueue.kernel.job import Job
    from jobqueue.kernel.running.context import Context

__all__ = [
    "App",
    "Cancelled",
    "Context",
    "Job",
    "JobEnd",
    "Permanent",
    "Retry",
    "Snooze",
    "__version__",
    "enqueue",
    "testing",
    "wait",
    "wait_async",
]

_WHERE = {
    "App": "jobqueue.hosting.host_app",
    "Cancelled": "jobqueue.errors",
    "Context": "jobqueue.kernel.running.context",
    "Job": "jobqueue.kernel.job",
    "JobEnd": "jobqueue.enqueueing.outcome_wait",
    "Permanent": "jobqueue.errors",
    "Retry": "jobqueue.errors",
    "Snooze": "jobqueue.errors",
    "enqueue": "jobqueue.enqueueing.job_insert",
    "wait": "jobqueue.enqueueing.outcome_wait",
    "wait_async": "jobqueue.enqueueing.outcome_wait",
}


def __getattr__(name: str) -> Any:
    """Import what `name` stands for. Raises AttributeError when it stands for nothing."""
    if name == "testing":
        return import_module("jobqueue.testing")
    if name not in _WHERE:
        raise AttributeError(f"module 'jobqueue' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
