"""The handlers: jobqueue worker --app reports.jobs:jobs."""

from __future__ import annotations

import jobqueue
from reports.payloads import WriteReport

jobs = jobqueue.App()


@jobs.kind("report")
def write(wanted: WriteReport, context: jobqueue.Context) -> None:
    """Write the report, in the transaction that completes the job."""
    if wanted.month.year < 2000:
        raise jobqueue.Permanent(f"there are no figures of {wanted.month:%Y}")
    with context.stage("write"):
        text = f"{wanted.month:%B %Y} was a good month."
    context.commit(
        lambda cursor: cursor.execute("UPDATE reports SET text = %s WHERE id = %s", [text, wanted.report_id])
    )
