"""`jobqueue roles`: makes the roles in whose name hosts, workers and people come to the database."""

from __future__ import annotations

from typing import Annotated

import typer

from jobqueue.cli.console import note


def roles(
    apply: Annotated[bool, typer.Option("--apply", help="Run it on DATABASE_URL instead of printing it.")] = False,
) -> None:
    """Print the SQL that makes jobqueue_migrate, jobqueue_worker, jobqueue_host and jobqueue_reader. Safe to run again.

    It is for a role that may create roles and owns the database. `jobqueue migrate` and `jobqueue.adopt()` give the roles
    their rights, and so does this where the database has been migrated. What somebody else has to do is said on standard error.

    Example: jobqueue roles | psql "$ADMIN_URL"
    """
    from jobqueue.roles.database_roles import make_roles, make_roles_sql
    from jobqueue.settings import load_settings

    if not apply:
        typer.echo(make_roles_sql().rstrip())
        return
    for problem in make_roles(load_settings().direct_conninfo):
        note(problem)
    typer.echo("the roles are there")
