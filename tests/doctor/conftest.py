"""A system in which all is well: a server with a role for the worker, an origin, a store and a CDN."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.doctor.helpers import DURABLE, Healthy, set_on_server
from tests.support.servers import make_server

from jobqueue.demo.cdn import Cdn
from jobqueue.demo.demo_origin import DemoOrigin
from jobqueue.demo.launch import free_port
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.demo.object_store import ObjectStore

_numbers = itertools.count(1)
_ROLE, _PASSWORD = "doctors_worker", "password-of-the-worker"
_SECRET = "secret-of-the-origin"


@pytest.fixture(scope="module")
def server(server_folder: Path) -> Iterator[Postgres]:
    """A server of our own, whose settings may be changed. It does not wait for the disk until `careful` has it do so."""
    with make_server(server_folder / f"doctor-{os.getpid()}-{next(_numbers)}", careless=False) as server:
        for name in DURABLE:
            set_on_server(server.dsn, name, "off")
        yield server


@pytest.fixture(scope="module")
def migrated(server: Postgres) -> str:
    """The name of a database whose tables belong to the worker's own role."""
    admin = server.create_database("healthy")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{_PASSWORD}'".encode())
        connection.execute(f"GRANT pg_read_all_stats TO {_ROLE}".encode())
        connection.execute(f"GRANT CREATE ON DATABASE healthy TO {_ROLE}".encode())
        connection.execute(f"ALTER SCHEMA public OWNER TO {_ROLE}".encode())
    migrate(_as_worker(server, "healthy"))
    return "healthy"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoOrigin]:
    origin = DemoOrigin(tmp_path_factory.mktemp("originals"), _SECRET)
    origin.start()
    yield origin
    origin.stop()


@pytest.fixture(scope="module")
def cdn(object_store: ObjectStore) -> Iterator[Cdn]:
    cdn = Cdn(object_store)
    cdn.start()
    yield cdn
    cdn.stop()


@pytest.fixture
def healthy(
    server: Postgres,
    migrated: str,
    origin: DemoOrigin,
    cdn: Cdn,
    object_store: ObjectStore,
    tmp_path: Path,
) -> Iterator[Healthy]:
    """A system in which nothing is wrong, with a database of the test's own."""
    name = f"doctor_{next(_numbers)}"
    admin = server.create_database(name, template=migrated)
    environ = {
        "DATABASE_URL": _as_worker(server, name),
        "RAID_PUB_ENDPOINT": origin.endpoint,
        "RAID_PUBLISHER_SECRET": _SECRET,
        "B2_ENDPOINT": object_store.endpoint,
        "B2_KEY_ID": object_store.key_id,
        "B2_APP_KEY": object_store.app_key,
        "B2_BUCKET": object_store.bucket,
        "B2_REGION": object_store.region,
        "CDN_BASE_URL": cdn.url,
        "MAX_SOURCE_BYTES": "1MiB",
        "MEMORY_BUDGET": "64MiB",
        "TMPDIR": str(tmp_path),
        "HTTP_HOST": "127.0.0.1",
        "PORT": str(free_port()),
    }
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"GRANT CREATE ON DATABASE {name} TO {_ROLE}".encode())
        yield Healthy(environ, connection, object_store, tmp_path, server.dsn_of(name))
    server.drop_database(name)


def _as_worker(server: Postgres, database: str) -> str:
    return f"postgresql://{_ROLE}:{_PASSWORD}@127.0.0.1:{server.port}/{database}"
