"""Whatever a host has set its database or its role to, a day of the product is a day like any other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql
from tests.faults.pooler import Pooler, program
from tests.hostile_settings.day import Day
from tests.support.daemon import launching

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3 import Bucket

pytestmark = pytest.mark.extended

SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "datestyle-german": {"datestyle": "German"},
    "datestyle-sql": {"datestyle": "SQL, DMY", "timezone": "Asia/Kolkata"},
    "datestyle-postgres": {"datestyle": "Postgres, DMY", "intervalstyle": "sql_standard"},
    "intervalstyle-iso": {"intervalstyle": "iso_8601", "timezone": "<-03>+3"},
    "strings": {"standard_conforming_strings": "off", "backslash_quote": "off", "escape_string_warning": "off"},
    "serializable": {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    "path-empty": {"search_path": ""},
    "path-hostile": {"search_path": "hostile, public"},
    "short-statements": {"statement_timeout": "1s"},
    "short-locks": {"lock_timeout": "10ms"},
    "short-idling": {"idle_in_transaction_session_timeout": "100ms", "idle_session_timeout": "1s"},
    "short-transactions": {"transaction_timeout": "1s"},
    "values": {"bytea_output": "escape", "extra_float_digits": "-15", "array_nulls": "off", "transform_null_equals": "on"},
    "encoding": {"client_encoding": "LATIN1", "quote_all_identifiers": "on", "row_security": "off"},
    "compiling": {"jit_above_cost": "0", "jit_optimize_above_cost": "0", "jit_inline_above_cost": "0"},
    "planning": {"plan_cache_mode": "force_generic_plan", "enable_indexscan": "off", "enable_nestloop": "off"},
    "messages": {"client_min_messages": "debug1"},
}  # fmt: skip

# What an unqualified name of ours would find instead.
_HOSTILE = b"""
CREATE SCHEMA hostile;
CREATE TABLE hostile.jobs (id text, status int);
CREATE TABLE hostile.publish_jobs (LIKE hostile.jobs);
CREATE TABLE hostile.download_artifacts (LIKE hostile.jobs);
CREATE TABLE hostile.webhook_deliveries (LIKE hostile.jobs);
CREATE TABLE hostile.auction_files (LIKE hostile.jobs);
CREATE TABLE hostile.schedules (LIKE hostile.jobs);
CREATE TABLE hostile.projects (LIKE hostile.jobs);
CREATE TABLE hostile.project_media (LIKE hostile.jobs);
CREATE TABLE hostile.app_webhooks (LIKE hostile.jobs);
CREATE TABLE hostile.platform_events (LIKE hostile.jobs);
CREATE TABLE hostile.platform_notifications (LIKE hostile.jobs);
CREATE TABLE hostile.notification_state (LIKE hostile.jobs);
CREATE TABLE hostile.migrations (LIKE hostile.jobs);
CREATE TABLE hostile.workers (LIKE hostile.jobs);
CREATE TABLE hostile.queues (LIKE hostile.jobs)"""


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooled"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_day_under_settings_of_a_host(
    database: str, server_folder: Path, bucket: Bucket, tmp_path: Path, settings: dict[str, str], pooled: bool
) -> None:
    if pooled and program() is None:
        assert "CI" not in os.environ, "CI must have pgbouncer"
        pytest.skip("pgbouncer is not installed")
    _alter(database, settings)
    with launching(tmp_path) as launch:
        if not pooled:
            Day(database, database, bucket, launch, tmp_path).pass_()
            return
        with Pooler(server_folder / f"hostile-{database.rpartition('/')[2]}", database) as pooler:
            Day(database, pooler.dsn, bucket, launch, tmp_path).pass_()


def _alter(dsn: str, settings: dict[str, str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_HOSTILE)
        for name, value in settings.items():
            if connection.execute(b"SELECT current_setting(%s, true)", [name]).fetchone() == (None,):
                continue
            statement = "ALTER DATABASE {} SET {} = {}"
            # What a list of names is set to, is written without quotes.
            literal = sql.SQL(value) if name == "search_path" and value else sql.Literal(value)
            database, setting = sql.Identifier(connection.info.dbname), sql.Identifier(name)
            connection.execute(sql.SQL(statement).format(database, setting, literal))
