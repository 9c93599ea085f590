"""Queues over Postgres: claim, lease, renew, record, rescue. The kernel knows nothing of media, HTTP or the environment.

The public names are `Worker` and `WorkerOptions`, `Queue`, `Chore`, `Backoff`, `Rate`, `Job` and `Context`. A handler is a function
of a job and its context. Returning completes the job; an exception decides otherwise (see `jobqueue.errors`). The queue
`jobs` is shared by many programs, this one's schedules among them: there `jobqueue.kinds` gives a handler its own kind.

    def greet(job: Job, context: Context) -> None:
        print("hello", job.columns["payload"]["name"])

    kinds = Kinds()
    kinds.register("greet", greet)
    worker = Worker(WorkerOptions("postgresql:///app"), [kinds.queue()])
    worker.run_once()

A table of one's own has one handler for all of its jobs: `Queue("invoices", send, columns=("customer",))`.
"""

from jobqueue.backoff import Backoff
from jobqueue.kernel.job import Job
from jobqueue.kernel.queue import Chore, Handler, Queue
from jobqueue.kernel.rate import Rate
from jobqueue.kernel.running.context import Context
from jobqueue.kernel.worker import Worker
from jobqueue.kernel.worker_options import WorkerOptions

__all__ = ["Backoff", "Chore", "Context", "Handler", "Job", "Queue", "Rate", "Worker", "WorkerOptions"]
