"""`jobqueue migrate`: brings the database to this version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.cli.console import Json, note, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobqueue.migrations import Migration


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Change nothing; print the SQL of what is pending.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the database to this version. Safe to run again, and with several at once.

    Each migration is a transaction of its own. The roles of `jobqueue roles`, where they are there, get their rights. With --dry-run standard output carries only SQL.

    Example: jobqueue migrate --dry-run > pending.sql
    """
    from jobqueue import migrations
    from jobqueue.roles.database_roles import grant_roles
    from jobqueue.settings import load_settings

    conninfo = load_settings().direct_conninfo
    if dry_run:
        pending = migrations.pending(conninfo)
        if as_json:
            _print([], pending)
        for migration in [] if as_json else pending:
            typer.echo(f"-- {_name(migration)}\n\n{migration.sql.rstrip()}\n")
        note(f"{len(pending)} pending" if pending else "nothing is pending: the database is at this version")
        return
    applied = migrations.migrate(conninfo)
    for problem in grant_roles(conninfo):
        note(problem)
    if as_json:
        _print(applied, [])
        return
    for migration in applied:
        typer.echo(f"applied {_name(migration)}")
    if not applied:
        typer.echo("nothing to apply: the database is at this version")


def _name(migration: Migration) -> str:
    return f"{migration.version:04d}_{migration.name}"


def _print(applied: Iterable[Migration], pending: Iterable[Migration]) -> None:
    print_json({"schema": "jobqueue.migrations/1", "applied": _described(applied), "pending": _described(pending)})


def _described(migrations: Iterable[Migration]) -> list[dict[str, Any]]:
    return [{"version": each.version, "name": each.name, "checksum": each.checksum} for each in migrations]
