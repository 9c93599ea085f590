"""`jobqueue schedules`: look at schedules, run one now, pause and resume."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.cli.command_database import open_database
from jobqueue.cli.command_failures import failed
from jobqueue.cli.console import Json, at_terminal, note, print_json, say
from jobqueue.cli.name_completion import schedule_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.kernel.database.limited import Connection
    from jobqueue.schedule.schedules_table import Schedule, Schedules

app = typer.Typer(no_args_is_help=True, help="Look at schedules, run one now, pause and resume.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.", autocompletion=schedule_names)]
By = Annotated[str | None, typer.Option("--by", help="Who says so; by default you, on this machine.")]

# Seconds that one statement may take.
_LIMIT = 10.0


@app.command("list")
def list_schedules(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this one.", autocompletion=schedule_names)
    ] = None,
    upcoming: Annotated[int, typer.Option("--next", "-n", min=0, max=100, help="Show so many ticks to come.")] = 5,
    everything: Annotated[bool, typer.Option("--all", help="Also those that the file no longer has.")] = False,
    as_json: Json = False,
) -> None:
    """List schedules: what they say, their last runs, and when they tick next, in their own zone and in UTC.

    Piped, a line of headings comes first, and tabs separate the values.

    Example: jobqueue schedules list data-archival --next 10
    """
    from jobqueue.cli.schedules_view import describe, print_schedules, show_schedules

    with _open() as schedules:
        found = schedules.load(None if name is None else [name])
        if name is None and not everything:
            found = [schedule for schedule in found if schedule.removed_at is None]
        if name is not None and not found:
            raise failed(_unknown(schedules, name))
        glance, settings = schedules.look(), schedules.settings()
        runs = schedules.last_runs([schedule.name for schedule in found])
        feed = schedules.feed()
    described = [describe(each, settings, glance.now, upcoming, runs.get(each.name, [])) for each in found]
    if as_json:
        backend = {"settings": None if settings is None else settings.document(), **feed.document()}
        documents = [each.document() for each in described]
        print_json({"schema": "jobqueue.schedules/1", "schedules": documents, "backend_settings": backend})
    elif not at_terminal():
        print_schedules(described)
    elif described:
        show_schedules(described)
    else:
        note("there are no schedules: a worker brings in those of its file when it starts")
    if feed.last_error is not None and not as_json:
        note(f"the backend's settings could not be fetched ({feed.failures} times in a row): {feed.last_error}")


@app.command()
def run(name: Name, by: By = None, as_json: Json = False) -> None:
    """Run a schedule now, besides its ticks, also while it is paused. Exit code 1 when its last run has not ended.

    Example: jobqueue schedules run media-purge
    """
    from jobqueue.schedule.schedule_rules import previous

    with _open() as schedules:
        said = "changed"
        for _ in range(3):
            schedule = _find(schedules, name)
            now = schedules.look().now
            rule = _rule(schedule, schedules)
            at = now if rule is None else previous(rule, now) or now
            ends = (None if rule is None else rule.next(now)) or now + timedelta(days=1)
            said = schedules.call(schedule, at, ends, by or _me())
            if said != "changed":
                break
    if as_json:
        print_json(
            {"schema": "jobqueue.schedule_run/1", "schedule": name, "started": said == "enqueued", "outcome": said}
        )
    elif said == "enqueued":
        say(f"{name} was started")
    if said == "overlapped":
        raise failed(f"{name} was not started: its last run has not ended, and it forbids overlap")
    if said != "enqueued":
        raise failed(f"{name} was not started ({said}): try again")


@app.command()
def pause(name: Name, by: By = None, as_json: Json = False) -> None:
    """Stop a schedule from ticking until it is resumed. A run that has begun goes on.

    Example: jobqueue schedules pause feed-rank --by maria
    """
    who = by or _me()
    with _open() as schedules:
        _find(schedules, name)
        changed = schedules.pause(name, who)
        schedule = _find(schedules, name)
    _report(
        name, changed, f"{name} is paused", f"{name} was paused already, by {schedule.paused_by or 'somebody'}", as_json
    )


@app.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Let a schedule tick again, from now on. Ticks that fell into the pause are not made up for.

    Example: jobqueue schedules resume feed-rank
    """
    with _open() as schedules:
        _find(schedules, name)
        changed = schedules.resume(name)
    _report(name, changed, f"{name} ticks again", f"{name} was not paused", as_json)


class _LimitedDatabase:
    """What `Schedules` runs its statements on: each has a limit on its time and on its wait for locks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fetch(self, query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        from jobqueue.kernel.database.limited import fetch_named

        return fetch_named(self._connection, query, params, seconds=_LIMIT)[1]


@contextmanager
def _open() -> Iterator[Schedules]:
    with open_database() as connection:
        from jobqueue.schedule.schedules_table import Schedules

        yield Schedules(_LimitedDatabase(connection))


def _find(schedules: Schedules, name: str) -> Schedule:
    found = schedules.load([name])
    if not found:
        raise failed(_unknown(schedules, name))
    return found[0]


def _rule(schedule: Schedule, schedules: Schedules) -> Any:
    try:
        return schedule.rule(schedules.settings())
    except ValueError as error:
        raise failed(f"{schedule.name} is malformed: {error}") from None


def _unknown(schedules: Schedules, name: str) -> str:
    names = ", ".join(schedule.name for schedule in schedules.load() if schedule.removed_at is None)
    return f"there is no schedule {name!r}; there are: {names or 'none; a worker brings them in when it starts'}"


def _report(name: str, changed: bool, done: str, otherwise: str, as_json: bool) -> None:
    if as_json:
        print_json({"schema": "jobqueue.schedule_change/1", "schedule": name, "changed": changed})
    elif changed:
        say(done)
    else:
        note(otherwise)


def _me() -> str:
    from jobqueue.admin.audit_trail import operator

    return operator()
