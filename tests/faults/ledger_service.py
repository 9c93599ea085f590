"""The daemon on a ledger's jobs as its surroundings see it: started, asked for its health, and watched at its work."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from jobqueue.demo.launch import HOST

if TYPE_CHECKING:
    from tests.support.daemon import DaemonProcess, Launch


def start(launch: Launch, dsn: str, *, port: int = 0, **more: str) -> DaemonProcess:
    """Start a daemon and wait until all of it works; `more` are variables of its environment."""
    environment = {
        "DATABASE_URL": f"{dsn}{'&' if '?' in dsn else '?'}connect_timeout=2",
        "PORT": str(port),
        "HTTP_HOST": HOST,
        "WORKER_POLL_INTERVAL": "1000",
        "LEASE_SECONDS": "60",
        "CONCURRENCY": "4",
        **more,
    }
    worker = launch(environment, command=("-m", "tests.faults.ledger_daemon"))
    worker.wait_for("schedules_loaded")
    return worker


def reason(port: int) -> str:
    """What /readyz says of the database."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=10) as answer:
            return str(json.load(answer)["checks"]["database"])
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["checks"]["database"])


def used(worker: DaemonProcess) -> float:
    """Seconds of a processor that the process has used."""
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
