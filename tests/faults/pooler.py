"""pgbouncer in transaction mode, in front of a test's database."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict

from jobqueue.demo.launch import HOST, launch
from jobqueue.demo.leash import Leash, unprivileged_user

if TYPE_CHECKING:
    from pathlib import Path


def program() -> str | None:
    """Where pgbouncer is; Debian keeps it where only root looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


class Pooler:
    """Used as a context manager; `dsn` leads to the database behind `direct`, over few connections shared by all clients."""

    def __init__(self, folder: Path, direct: str) -> None:
        self._folder = folder
        self._direct = conninfo_to_dict(direct)
        self._process: Leash | None = None
        self.dsn = ""

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o755)
        user = unprivileged_user()
        self._process, port = launch(
            "pgbouncer",
            lambda port: Leash([str(program()), str(self._configured(port))], log=self._log, user=user),
            lambda _port: self._log.exists() and "process up" in self._log.read_text(),
            log=self._log,
            port=None,
        )
        self.dsn = f"postgresql://{self._direct['user']}@{HOST}:{port}/{self._direct['dbname']}"
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    @property
    def _log(self) -> Path:
        return self._folder / "pgbouncer.log"

    def _configured(self, port: int) -> Path:
        direct = self._direct
        file = self._folder / "pgbouncer.ini"
        file.write_text(f"""
[databases]
{direct["dbname"]} = host={HOST} port={direct["port"]} user={direct["user"]} password={direct["password"]}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
server_idle_timeout = 5
""")
        return file
