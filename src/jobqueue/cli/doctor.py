"""`jobqueue doctor`: looks at everything a worker needs, and says what to do."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobqueue.cli.console import Json, at_terminal, note, print_json, print_rows, say
from jobqueue.version import __version__

if TYPE_CHECKING:
    from jobqueue.doctor.checkup import Checkup
    from jobqueue.doctor.examination import Examination, Finding
    from jobqueue.observe.redact import Redactor

_SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failure": ("failure", "red")}


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for a warning, too.")] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration, the database, the origin, the object store, the CDN, receivers and this machine.

    Each line is ok, a warning or a failure, and says the one thing to do. It changes nothing that stays: an object that it
    writes under jobqueue-check/ is removed again. With --json it prints a bundle for support: the same lines, the settings,
    versions, queues and workers, without any secret.

    Exit codes: 0 nothing failed; 1 something did; 2 the configuration is wrong.

    Piped, a line of headings comes first, and tabs separate the values.

    Example: jobqueue doctor --json > bundle.json
    """
    from jobqueue.doctor.checkup import Checkup
    from jobqueue.doctor.examination import examine
    from jobqueue.observe.redact import Redactor

    checkup = Checkup(dict(os.environ))
    try:
        if not as_json and not at_terminal():
            print_rows(("status", "check", "finding", "remedy"), ())
        examination = examine(checkup, lambda finding: None if as_json else _show(finding, Redactor(checkup.secrets)))
        if as_json:
            text = json.dumps(_bundle(checkup, examination), default=str)
            print_json(json.loads(Redactor(checkup.secrets).redact(text)))
        else:
            _sum_up(examination)
    finally:
        checkup.close()
    if checkup.problems:
        raise typer.Exit(2)
    if examination.count("failure") or (strict and examination.count("warning")):
        raise typer.Exit(1)


def _show(finding: Finding, redactor: Redactor) -> None:
    says, remedy = redactor.redact(finding.says), redactor.redact(finding.remedy or "")
    if not at_terminal():
        print_rows((), [(finding.status, finding.name, says, remedy)])
        return
    sign, colour = _SIGNS[finding.status]
    typer.secho(f"{sign:9}", fg=colour, bold=finding.status != "ok", nl=False)
    say(f"{finding.name:20}{says}")
    if remedy:
        say(f"{'':11}do: {remedy}")


def _sum_up(examination: Examination) -> None:
    ok, warnings, failures = (examination.count(status) for status in ("ok", "warning", "failure"))
    left = f"; {len(examination.left_out)} checks could not be made before that is mended" if failures else ""
    note(f"{ok} ok, {warnings} {'warning' if warnings == 1 else 'warnings'}, {failures} failed{left}")


def _bundle(checkup: Checkup, examination: Examination) -> dict[str, Any]:
    return {
        "schema": "jobqueue.doctor/1",
        "at": datetime.now(UTC),
        "version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "checks": [finding.document() for finding in examination.findings],
        "left_out": examination.left_out,
        "settings": None if checkup.problems else checkup.settings.model_dump(mode="json"),
        "stats": _stats(checkup),
    }


def _stats(checkup: Checkup) -> dict[str, Any] | None:
    """Queues and workers, as `jobqueue stats --json` has them; None where the database is not at this version."""
    if "schema" not in checkup.facts:
        return None
    from jobqueue.admin.queue_snapshot import take_snapshot
    from jobqueue.cli.stats_view import document

    return document(take_snapshot(checkup.connection))
