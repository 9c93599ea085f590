"""Queues over Postgres: claim, lease, renew, record, rescue. The kernel knows nothing of media, HTTP or the environment.

The public names are `Worker` and `WorkerOptions`, `Queue`, `Chore`, `Backoff`, `Job` and `Context`. A handler is a function
of a job and its context. Returning completes the job; an exception decides otherwise (see `jobqueue.errors`):

    def greet(job: Job, context: Context) -> None:
        print("hello", job.columns["payload"]["name"])

    worker = Worker(WorkerOptions("postgresql:///app"), [Queue("jobs", greet, columns=("payload",))])
    worker.run_once()
"""

from jobqueue.backoff import Backoff
from jobqueue.kernel.job import Job
from jobqueue.kernel.queue import Chore, Handler, Queue
from jobqueue.kernel.running.context import Context
from jobqueue.kernel.worker import Worker
from jobqueue.kernel.worker_options import WorkerOptions

__all__ = ["Backoff", "Chore", "Context", "Handler", "Job", "Queue", "Worker", "WorkerOptions"]
