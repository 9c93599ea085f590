"""Tables of artifacts that a host has already are completed in place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = pytest.mark.slow


@pytest.fixture
def dsn(postgres: Postgres) -> Iterator[str]:
    """An empty database."""
    name = f"hosts_artifacts_{os.getpid()}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


HOSTS_OWN = """
    CREATE TABLE projects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(80) NOT NULL, owner text);
    CREATE TYPE media_kind AS ENUM ('PHOTO', 'VIDEO', 'OTHER');
    CREATE TABLE project_media (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project_id bigint REFERENCES projects ON DELETE CASCADE, kind media_kind NOT NULL, source_key text);
    CREATE TABLE download_artifacts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), project_id bigint REFERENCES projects,
        type text NOT NULL, status text NOT NULL DEFAULT 'PENDING'
            CHECK (status IN ('PENDING', 'GENERATING', 'READY', 'FAILED')), cdn_url text);
    INSERT INTO projects (name) VALUES ('old');
    INSERT INTO project_media (project_id, kind, source_key) VALUES (1, 'PHOTO', 'a'), (1, 'VIDEO', 'b');
    INSERT INTO download_artifacts (project_id, type, status, cdn_url) VALUES
        (1, 'ALL', 'READY', 'https://old.example/a.zip'), (1, 'ALL', 'PENDING', NULL), (1, 'ALL', 'GENERATING', NULL);
    ALTER TABLE project_media ENABLE ROW LEVEL SECURITY;
"""


def test_a_hosts_tables_are_completed_and_lose_nothing(dsn: str) -> None:
    rows(dsn, HOSTS_OWN)
    migrate(dsn)
    assert migrate(dsn) == []
    assert rows(dsn, "SELECT status, cdn_url FROM download_artifacts ORDER BY status") == [
        ("GENERATING", None),
        ("PENDING", None),
        ("READY", "https://old.example/a.zip"),
    ]
    assert rows(
        dsn, "SELECT kind::text, source_key, filename, bytes, measured_bytes FROM project_media ORDER BY id"
    ) == [
        ("PHOTO", "a", None, None, None),
        ("VIDEO", "b", None, None, None),
    ]
    rows(dsn, "UPDATE download_artifacts SET status = 'CANCELLED'")


def test_without_any_tables_they_are_made_with_the_contracts_columns(dsn: str) -> None:
    migrate(dsn)
    found = rows(dsn, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'")
    wanted = {
        "projects": "id name",
        "project_media": "id project_id kind source_key filename bytes created_at",
        "download_artifacts": "id status priority run_after retry_count max_retries error_message lease_token"
        " lease_expires_at locked_by started_at completed_at created_at updated_at project_id type storage_key cdn_url"
        " filename size_bytes file_count manifest",
    }
    for table, columns in wanted.items():
        assert {(table, column) for column in columns.split()} <= set(found)
    (words,) = rows(
        dsn,
        "SELECT pending, processing, completed, failed, cancelled FROM jobqueue.queues WHERE name = 'download_artifacts'",
    )
    assert words == ("PENDING", "GENERATING", "READY", "FAILED", "CANCELLED")


def test_a_hosts_bigint_keys_and_enum_kinds_are_worked_with(dsn: str, request: pytest.FixtureRequest) -> None:
    from tests.artifacts.helpers import MediaOrigin, Projects, Yard

    rows(dsn, HOSTS_OWN)
    migrate(dsn)
    bucket = request.getfixturevalue("shared_bucket")
    with Projects(dsn) as host, MediaOrigin({"a": b"photo", "b": b"video"}) as origin:
        yard = Yard(host, origin, bucket.objects)
        (artifact,) = host.rows(
            "INSERT INTO download_artifacts (project_id, type) VALUES (1, 'VIDEOS_ONLY') RETURNING id"
        )
        yard.work()
        row = host.artifact(artifact["id"])
        assert yard.read(row) == {"b": b"video"}
        assert row["storage_key"].startswith("artifacts/1/")
        assert host.rows("SELECT measured_bytes AS size FROM project_media WHERE source_key = 'b'") == [{"size": 5}]
    bucket.clear()
