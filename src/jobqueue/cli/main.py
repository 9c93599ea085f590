"""The command `jobqueue`: its commands, and how their failures end.

This imports nothing heavy: pictures, storage and HTTP come with the commands that need them.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobqueue.cli import jobs, queues, schedules, webhooks
from jobqueue.cli.artifact import artifact
from jobqueue.cli.command_failures import explain, misused
from jobqueue.cli.console import note
from jobqueue.cli.demo import demo
from jobqueue.cli.doctor import doctor
from jobqueue.cli.migrate import migrate
from jobqueue.cli.publish import publish
from jobqueue.cli.roles import roles
from jobqueue.cli.stats import stats
from jobqueue.cli.worker import worker
from jobqueue.version import __version__

_INTERRUPTED = 130
_ENV_FILE = "--env-file"


class Commands(TyperGroup):
    """When the outside world makes a command fail, ends it with a line and an exit code instead of a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--env-file FILE` out of the line, wherever it stands, and its variables in. The environment's own win."""
        try:
            for name, value in _read_env_files(args).items():
                os.environ.setdefault(name, value)
        except Exception as error:
            stop = explain(error)
            if stop is None:
                raise
            for line in stop.lines:
                note(line)
            raise typer.Exit(stop.code) from None
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises typer.Exit with its exit code when it ends early or fails for a known reason."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            stop = explain(error)
            if stop is None:
                raise
            for line in stop.lines:
                note(line)
            raise typer.Exit(stop.code) from None


def _read_env_files(args: list[str]) -> dict[str, str]:
    """The variables of every --env-file in `args`, which loses them. Of a variable in two files the last value counts."""
    found: dict[str, str] = {}
    place = 0
    while place < len(args) and args[place] != "--":
        option, sign, path = args[place].partition("=")
        if option != _ENV_FILE:
            place += 1
            continue
        del args[place]
        if not sign:
            if place == len(args):
                raise misused(f"{_ENV_FILE} needs a file")
            path = args.pop(place)
        from jobqueue.settings.env_file import read_env_file

        found |= read_env_file(Path(path))
    return found


app = typer.Typer(
    name="jobqueue",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobqueue {__version__}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(_ENV_FILE, help="Read variables from this file, NAME=value a line; after any command, too."),
    ] = None,
) -> None:
    """Your Postgres table is the queue: publish pictures, work on jobs, look after them.

    Exit codes: 0 done; 1 it ran, and the answer is no or something failed; 2 wrong usage or configuration.

    Configuration comes from the environment, or from --env-file: DATABASE_URL at the least.

    Example: jobqueue demo
    """


app.command()(demo)
app.command()(worker)
app.command()(migrate)
app.command()(roles)
app.command()(doctor)
app.command()(stats)
app.add_typer(jobs.app, name="jobs")
app.add_typer(queues.app, name="queues")
app.add_typer(schedules.app, name="schedules")
app.add_typer(webhooks.app, name="webhooks")
app.command()(publish)
app.command()(artifact)


def main() -> None:
    """Run the command line of this process and exit with its code. No traceback reaches the person who typed it."""
    code, trouble = 0, ""
    try:
        app(prog_name="jobqueue")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except OSError as error:
        code, trouble = 1, f"the system refused: {error.strerror or type(error).__name__}"
    except Exception as error:
        # Where logging has been set up, it logs the whole of it, without secrets.
        if sys.excepthook is not sys.__excepthook__ or "JOBQUEUE_TRACEBACK" in os.environ:
            raise
        trouble = f"this is a fault of jobqueue: {type(error).__name__}; JOBQUEUE_TRACEBACK=1 shows where, for a report"
        code = 1
    try:
        sys.stdout.flush()
    except OSError as error:
        # A reader that has seen enough is no fault.
        trouble = "" if isinstance(error, BrokenPipeError) else f"standard output cannot be written: {error.strerror}"
        code = 1 if trouble else code
        # Python would try again when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if trouble:
        with suppress(OSError):
            note(trouble)
    sys.exit(code)
