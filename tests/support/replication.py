"""Servers that follow each other: real streaming replication between two on this machine, and a server that stands still."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import psycopg
from tests.support.servers import find_programs
from tests.support.waiting import eventually

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.launch import HOST
from jobqueue.demo.leash import ServerError, identity

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the demo's own server goes without.
_REPLICATING: Final = {
    "wal_level": "replica",
    "max_wal_senders": "8",
    "wal_keep_size": "256MB",
    # A standby whose primary was restarted does not stay away for long.
    "wal_retrieve_retry_interval": "200ms",
}

# Where postmaster.pid says what the server does.
_STATE: Final = 7

# A standby that lets nobody in.
_SHUT: Final = "standby"


class Node(Postgres):
    """A server that can be followed. With a `source` it begins as a copy of that one and follows it until it is promoted.

    `port` is one to take again: that of a server that is gone.
    """

    def __init__(self, directory: Path, *, source: Node | None = None, port: int | None = None) -> None:
        super().__init__(directory, settings=_REPLICATING, programs=find_programs())
        self._source = source
        self._answers = True
        self._port = port
        if source is not None:
            self._password = source._password

    def promote(self) -> None:
        """Have it take writes; returns when it does."""
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_promote()")
        eventually(lambda: not self.asked("SELECT pg_is_in_recovery()"))

    def demote(self, *, answers: bool = True) -> None:
        """Restart it as a standby, of nobody. It answers and takes no writes; or lets nobody in, as one that starts up."""
        if not answers:
            self.set("hot_standby", "off")
        self._answers = answers
        self.stop()
        signal_file = self._data() / "standby.signal"
        signal_file.touch()
        if self._user is not None:
            os.chown(signal_file, self._user.uid, self._user.gid)
        self.start()

    def take_writes_again(self) -> None:
        """Undo what `demote` did: restart it as it was."""
        self.stop()
        (self._data() / "standby.signal").unlink()
        self._answers = True
        self.start()
        self.set("hot_standby", "on")

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server, for the sessions that there are as well."""
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            admin.execute("SET default_transaction_read_only = off")
            admin.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            admin.execute("SELECT pg_reload_conf()")
        seen = f"SELECT setting = '{value}' OR pending_restart FROM pg_settings WHERE name = '{name}'"
        eventually(lambda: self.asked(seen))

    def asked(self, query: str) -> object:
        """What a new session answers: the first column of the first row, None where there is none."""
        with psycopg.connect(self.dsn, autocommit=True) as admin:
            row = admin.execute(query.encode()).fetchone()
            return None if row is None else row[0]

    def processes(self) -> list[int]:
        """The ids of the postmaster and of all processes that it has made, itself first."""
        found = [self.pid]
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(FileNotFoundError):
                found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def _accepts_connections(self, _port: int) -> bool:
        if self._answers:
            return super()._accepts_connections(_port)
        with suppress(FileNotFoundError):
            lines = self._pid_file().read_text().splitlines()
            return len(lines) > _STATE and lines[_STATE].strip() == _SHUT
        return False

    def _initdb(self, data: Path, password_file: Path) -> None:
        if self._source is None:
            super()._initdb(data, password_file)
            return
        command = [str(self._bin / "pg_basebackup"), "-D", str(data), "-d", self._source.dsn, "-R"]
        command += ["--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        with self.log.open("ab") as log:
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment(),
                check=False, timeout=120, **identity(self._user),
            )  # fmt: skip
        if done.returncode != 0:
            raise ServerError(f"pg_basebackup failed; the end of its log:\n{self.log.read_text()[-2000:]}")


class Pair:
    """A primary and the standby that follows it; used as a context manager.

    `dsn` names both, as a client's URL does that finds the one that takes writes. With `synchronous` a commit waits for the standby.
    """

    def __init__(self, folder: Path, *, synchronous: bool = False) -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._made = 0
        self._ports: list[int] = []
        self.primary = Node(self._place())
        self.standby: Node | None = None

    def __enter__(self) -> Self:
        self.primary.start()
        try:
            self._follow(None)
        except BaseException:
            self.__exit__()
            raise
        self._ports = sorted(node.port for node in (self.primary, self.standby) if node is not None)
        return self

    def __exit__(self, *_: object) -> None:
        for node in (self.primary, self.standby):
            if node is not None:
                node.close()

    @property
    def dsn(self) -> str:
        """Leads to whichever of the two takes writes. It stays the same over all failovers."""
        user = self.primary.dsn.partition("@")[0]
        hosts = ",".join(f"{HOST}:{port}" for port in self._ports)
        return f"{user}@{hosts}/postgres?target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The primary is killed, and the standby takes its place. There is no standby afterwards."""
        self.lose_primary()
        self.take_over()

    def lose_primary(self) -> None:
        """Kill the primary, as a machine that loses its power."""
        for process in self.primary.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.primary.close()

    def take_over(self) -> None:
        """Have the standby take the place of the primary that is gone. Nobody follows it yet, and its commits wait for nobody."""
        assert self.standby is not None
        self.standby.promote()
        self.primary, self.standby = self.standby, None

    def rebuild(self) -> None:
        """Make a standby again, at the address of the primary that is gone."""
        [free] = {*self._ports} - {self.primary.port}
        self._follow(free)

    def _follow(self, port: int | None) -> None:
        """Make a standby of the primary, and wait until it follows; from then on commits wait for it where they are to.

        The copy does not have that setting: when it takes over it has no standby itself.
        """
        self.standby = Node(self._place(), source=self.primary, port=port)
        self.standby.start()
        follows = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        eventually(lambda: self.primary.asked(follows) == 1, 30)
        if self._synchronous:
            self.primary.set("synchronous_standby_names", "*")

    def _place(self) -> Path:
        self._made += 1
        return self._folder / f"node-{self._made}"


@contextmanager
def frozen(node: Node) -> Iterator[None]:
    """Within, every process of the server stands still: it takes connections and answers nothing."""
    stopped = node.processes()
    try:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
