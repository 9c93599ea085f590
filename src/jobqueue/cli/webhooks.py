"""`jobqueue webhooks`: lists webhooks, switches them on again, sends what they missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from jobqueue.cli.command_database import open_database
from jobqueue.cli.command_failures import failed, misused
from jobqueue.cli.console import (
    Json,
    at_terminal,
    draw,
    duration,
    jobs_of,
    note,
    print_json,
    print_rows,
    say,
    span,
    table,
)
from jobqueue.cli.jobs_selection import DryRun, Yes, must_not_ask
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.webhooks.webhook_admin import ListedWebhook, WebhookAdmin

app = typer.Typer(no_args_is_help=True, help="Look at webhooks, switch them on again, send what they missed.")

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="The webhooks, by id.")]

_FIELDS = (
    "id", "app_id", "url", "events", "active", "consecutive_failures", "total_deliveries", "total_failures", "last_success_at",
    "last_failure_at", "disabled_reason",
)  # fmt: skip

_REPLAYABLE = ("failed", "cancelled", "completed")


@app.command("list")
def list_webhooks(
    disabled: Annotated[bool, typer.Option("--disabled", help="Only those that are switched off.")] = False,
    as_json: Json = False,
) -> None:
    """List webhooks: the disabled and the failing ones first. URLs are shown without their query.

    Piped, a line of headings comes first, and tabs separate the values.

    Example: jobqueue webhooks list --disabled
    """
    from jobqueue.webhooks.webhook_admin import WebhookAdmin

    with open_database() as connection:
        found = [each for each in WebhookAdmin(connection).find() if not (disabled and each.active)]
    if as_json:
        print_json({"schema": "jobqueue.webhooks/1", "webhooks": [each.document() for each in found]})
    elif not at_terminal():
        print_rows(
            _FIELDS,
            ((
                each.id, each.app_id, each.url, ",".join(each.events), "yes" if each.active else "no",
                each.consecutive_failures, each.total_deliveries, each.total_failures, each.last_success_at,
                each.last_failure_at, each.disabled_reason,
            )
            for each in found),
        )  # fmt: skip
    elif found:
        _show(found)
    else:
        note("there are no disabled webhooks" if disabled else "there are no webhooks: insert into app_webhooks")


@app.command()
def enable(ids: Ids, as_json: Json = False) -> None:
    """Switch webhooks on again and forget their failures in a row. Exit code 1 when one does not exist.

    Events of the time in between made no deliveries. `replay` sends deliveries again that failed or were cancelled.

    Example: jobqueue webhooks enable 0b3f6f0e-5a0c-4a47-9a0e-0d7d7c3a8f11
    """
    from jobqueue.admin.audit_trail import audited
    from jobqueue.webhooks.webhook_admin import WebhookAdmin

    with open_database() as connection:
        endpoints = WebhookAdmin(connection)
        known = _find(endpoints, ids)
        with audited(connection, "enable", "app_webhooks", {"ids": [each.id for each in known]}) as entry:
            enabled = endpoints.enable([each.id for each in known])
            entry.count(len(enabled))
    if as_json:
        print_json({"schema": "jobqueue.webhooks.enable/1", "enabled": sorted(enabled)})
    else:
        for each in known:
            say(f"{each.id} {'is enabled' if each.id in enabled else 'was enabled already'}: {each.url}")


@app.command()
def replay(
    ids: Ids,
    since: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="AGE", help="Only deliveries created within this time: 2h, 7d."),
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", "-s", help="failed, cancelled or completed; failed and cancelled ones otherwise."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send deliveries again that failed or were cancelled, each under the webhook-id that it had.

    One delivery alone: jobqueue jobs requeue webhook_deliveries ID.

    Example: jobqueue webhooks replay 0b3f6f0e-5a0c-4a47-9a0e-0d7d7c3a8f11 --since 2d --dry-run
    """
    from jobqueue.admin.audit_trail import audited
    from jobqueue.webhooks.webhook_admin import WebhookAdmin

    states = tuple(status or ("failed", "cancelled"))
    if unknown := [state for state in states if state not in _REPLAYABLE]:
        raise misused(f"--status {unknown[0]} cannot be replayed; it is one of {', '.join(_REPLAYABLE)}")
    if must_not_ask(dry_run=dry_run, yes=yes):
        raise misused("nobody is there to confirm this: add --yes, or --dry-run to see what it would send again")
    moment = None if since is None else datetime.now(UTC) - since
    with open_database() as connection:
        endpoints = WebhookAdmin(connection)
        known = _find(endpoints, ids)
        for each in known:
            if not each.active:
                raise failed(f"{each.id} is disabled: run `jobqueue webhooks enable {each.id}` first")
        counts = {each.id: endpoints.count(each.id, states, moment) for each in known} if dry_run or not yes else {}
        if dry_run:
            _report(counts, "would send again", as_json=as_json, dry_run=True)
            return
        total = sum(counts.values())
        if not yes and total and not typer.confirm(f"Send {jobs_of(total, 'webhook_deliveries')} again?", err=True):
            raise failed("nothing was changed")
        done = {}
        for each in known:
            with audited(connection, "replay", each.id, {"states": states, "since": moment}) as entry:
                done[each.id] = endpoints.replay(each.id, states, moment, on_progress=entry.count)
    _report(done, "sends again", as_json=as_json, dry_run=False)


def _report(numbers: dict[str, int], verb: str, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json({"schema": "jobqueue.webhooks.replay/1", "dry_run": dry_run, "deliveries": numbers})
        return
    for id_, number in numbers.items():
        say(f"{id_} {verb} {number:,} {'delivery' if number == 1 else 'deliveries'}")


def _find(endpoints: WebhookAdmin, ids: Sequence[str]) -> list[ListedWebhook]:
    wanted = list(dict.fromkeys(id_.strip().lower() for id_ in ids))
    found = {each.id: each for each in endpoints.find(wanted)}
    if missing := [id_ for id_ in wanted if id_ not in found]:
        raise failed(
            *(f"there is no webhook {id_}: `jobqueue webhooks list` shows those that exist" for id_ in missing)
        )
    return [found[id_] for id_ in wanted]


def _show(found: Sequence[ListedWebhook]) -> None:
    from rich.text import Text

    now = datetime.now(UTC)
    drawn = table("ID", "APP", "URL", "EVENTS", "STATE", ">IN A ROW", ">FAILED", ">ATTEMPTS", "LAST SUCCESS", "!REASON")
    for each in found:
        state, style = ("active", "green") if each.active else ("disabled", "red")
        if each.active and each.consecutive_failures:
            state, style = "failing", "yellow"
        last = each.last_success_at
        drawn.add_row(
            each.id,
            Text(printable(each.app_id or "")),
            Text(printable(each.url)),
            Text(printable(", ".join(each.events))),
            Text(state, style=style),
            f"{each.consecutive_failures:,}",
            f"{each.total_failures:,}",
            f"{each.total_deliveries:,}",
            "never" if last is None else f"{span((now - last).total_seconds())} ago",
            Text(printable(each.disabled_reason or "")),
        )
    draw(drawn)
