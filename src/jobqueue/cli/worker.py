"""`jobqueue worker`: the daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue.cli.name_completion import queue_names


def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help="Serve only this queue; may be given more than once. All that are configured otherwise.",
            autocompletion=queue_names,
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Jobs in flight, all queues together, instead of CONCURRENCY.")
    ] = None,
    app: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:APP",
            help="Serve the queues and kinds of this jobqueue.App. May be given more than once. Ours only where --queue names them.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Work on everything that is due, then exit.")] = False,
) -> None:
    """Work on the queues until SIGTERM or SIGINT, then let jobs in flight finish and exit.

    A second signal hurries: jobs in flight go back to pending at once, and none of them loses a retry.

    Example: jobqueue worker --queue publish_jobs --concurrency 4

    Example: jobqueue worker --app billing.jobs:app
    """
    # Pictures, storage and HTTP are imported only by the command that needs them.
    from jobqueue.daemon import Daemon
    from jobqueue.settings import load_settings

    settings = load_settings()
    apps = []
    if app:
        from jobqueue.hosting.app_loading import load_apps

        apps = load_apps(app)
    daemon = Daemon(settings, queue or [], concurrency=concurrency, apps=apps)
    raise typer.Exit(daemon.run_once() if once else daemon.run())
