"""Everything the worker needs, on this machine: PostgreSQL, an object store, the origin and the CDN."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from jobqueue.demo.cdn import Cdn
from jobqueue.demo.demo_origin import DemoOrigin
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.launch import HOST, free_port
from jobqueue.demo.leash import Leash, reachable_folder, unprivileged_user
from jobqueue.demo.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

# What a Python program needs to run at all, and nothing else: the caller's environment may hold the settings of a real
# deployment, and PG* and AWS_* variables and proxies, which libraries read by themselves.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "SYSTEMROOT")


class Stopped(SystemExit):
    """SIGTERM or SIGHUP arrived: the demo ends in order. The exit code is 128 + the signal's number."""


@contextmanager
def stopping_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise Stopped in the main thread within the block, as SIGINT raises KeyboardInterrupt.

    In another thread this does nothing: only the main thread receives signals.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stack:
    """The four servers over a folder of pictures, which they only read; without one, over an empty folder of their own.

    `start` makes a temporary folder and starts the servers side by side (about a second). `stop` stops them and removes
    the folder. A context manager does both, whatever is raised in between. A process that is killed outright leaves the
    folder behind but no server.
    """

    def __init__(self, pictures: Path | None = None) -> None:
        self._given = pictures
        self._cleanup = ExitStack()
        self.worker_port = 0
        self.folder: Path
        self.pictures: Path
        self.postgres: Postgres
        self.object_store: ObjectStore
        self.origin: DemoOrigin
        self.cdn: Cdn

    @property
    def worker_url(self) -> str:
        """Where the worker's HTTP will be."""
        return f"http://{HOST}:{self.worker_port}"

    def start(self) -> None:
        """Start everything. When one server cannot start, stops the others and raises ServerError."""
        with ExitStack() as undo:
            self.folder = reachable_folder("jobqueue-demo-", unprivileged_user())
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.pictures = self._given or self.folder / "pictures"
            self.pictures.mkdir(exist_ok=True)
            self.postgres = Postgres(self.folder / "postgres")
            undo.callback(self.postgres.close)
            self.object_store = ObjectStore(self.folder / "store")
            undo.callback(self.object_store.stop)
            self.cdn = Cdn(self.object_store)
            undo.callback(self.cdn.stop)
            self.origin = DemoOrigin(self.pictures, secrets.token_urlsafe(24))
            undo.callback(self.origin.stop)
            with ThreadPoolExecutor(2) as pool:
                started = [pool.submit(self.postgres.start), pool.submit(self._start_serving)]
            for server in started:
                server.result()
            self.worker_port = free_port()
            self._cleanup = undo.pop_all()

    def stop(self) -> None:
        """Stop everything and remove the temporary folder."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_serving(self) -> None:
        self.origin.start()
        self.object_store.start()
        self.cdn.start()

    def environment(self) -> dict[str, str]:
        """The worker's whole environment: the contract's variables, and what a Python program needs to run."""
        passed_on = {
            name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("PYTHON")
        }
        return {
            **passed_on,
            "DATABASE_URL": self.postgres.dsn,
            "RAID_PUB_ENDPOINT": self.origin.endpoint,
            "RAID_PUBLISHER_SECRET": self.origin.secret,
            "B2_ENDPOINT": self.object_store.endpoint,
            "B2_KEY_ID": self.object_store.key_id,
            "B2_APP_KEY": self.object_store.app_key,
            "B2_BUCKET": self.object_store.bucket,
            "B2_REGION": self.object_store.region,
            "CDN_BASE_URL": self.cdn.url,
            "HTTP_HOST": HOST,
            "PORT": str(self.worker_port),
            "LOG_FORMAT": "json",
        }

    def run(self, *arguments: str, log: Path) -> Leash:
        """Start `jobqueue ARGUMENTS` with this environment; read its standard output from the result, its standard error from `log`."""
        command = [sys.executable, "-m", "jobqueue", *arguments]
        return Leash(command, log=None, error_log=log, env=self.environment())
