"""A PostgreSQL with TLS: `sslmode=verify-full` knows an authority of one's own, by a file or as one of the system's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.servers

CONNECT = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).pgconn.ssl_in_use)"


def openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(server_folder: Path) -> Path:
    """An authority, and a server's certificate by it."""
    folder = server_folder / "tls"
    folder.mkdir(mode=0o755)
    openssl(folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority")
    openssl(folder, "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    )
    (folder / "server.key").chmod(0o600)
    if (user := unprivileged_user()) is not None:
        os.chown(folder / "server.key", user.uid, user.gid)
    return folder


@pytest.fixture(scope="module")
def dsn(folder: Path) -> Iterator[str]:
    """A database by its server's name. The embedded server knows no TLS, the distribution's does."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("no PostgreSQL of the distribution is installed")
    settings = {"ssl": "on", "ssl_cert_file": str(folder / "server.pem"), "ssl_key_file": str(folder / "server.key")}
    with Postgres(folder / "data", programs=programs[-1], settings=settings) as server:
        yield server.dsn.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize(
    ("root", "bundle", "connects"),
    [("{folder}/ca.pem", None, True), ("system", "ca.pem", True), ("system", None, False)],
)
def test_only_a_known_authority_is_believed(
    root: str, bundle: str | None, connects: bool, dsn: str, folder: Path
) -> None:
    url = f"{dsn}?sslmode=verify-full&sslrootcert={root.format(folder=folder)}"
    environment = {"PATH": os.environ["PATH"], **({"SSL_CERT_FILE": str(folder / bundle)} if bundle else {})}
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, url], env=environment, capture_output=True, text=True, check=False
    )

    assert (done.stdout == "True\n") is connects, done.stderr
    assert connects or "certificate verify failed" in done.stderr
