"""`jobqueue demo`: the whole system on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(exists=True, file_okay=False, help="Publish the pictures in this folder instead of made ones."),
    ] = None,
    exit_after: Annotated[
        bool, typer.Option("--exit", help="End after the table instead of showing the result as a page.")
    ] = False,
) -> None:
    """Publish real pictures with a database, an object store and an origin that live only while this runs.

    Example: jobqueue demo ~/Pictures
    """
    from rich.console import Console

    from jobqueue.demo.demo_run import run_demo

    raise typer.Exit(run_demo(folder, exit_after=exit_after, console=Console()))
