"""The examination finds each thing that was planted, and says what to do; where nothing was, it warns of nothing."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.doctor.helpers import DURABLE, Healthy, troubles
from tests.structure.helpers import ROOT
from tests.support.s3 import strict_store, without_list_right

from jobqueue.demo.launch import free_port
from jobqueue.doctor.checkup import Checkup, Thresholds, Verdict
from jobqueue.doctor.examination import CHECKS, Check, examine
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Planted:
    """One thing that is wrong: how it comes about, and the check, status, words and remedy by which it is found."""

    plant: Callable[[Healthy], object]
    check: str
    status: str
    says: str
    remedy: str


def env(**variables: str) -> Callable[[Healthy], object]:
    """Set variables; one that is empty counts as unset."""
    return lambda system: system.environ.update(variables)


def sql(query: str) -> Callable[[Healthy], object]:
    return lambda system: system.sql(query)


def unreachable(variable: str, form: str) -> Callable[[Healthy], object]:
    """Have a variable lead to a port on which nobody listens."""
    return lambda system: system.environ.update({variable: form.format(port=free_port())})


def taken_port(system: Healthy) -> None:
    listener = system.cleanup.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    system.environ["PORT"] = str(listener.getsockname()[1])


def open_transaction(system: Healthy) -> None:
    system.limits = Thresholds(transaction_seconds=0.0)
    session = system.cleanup.enter_context(psycopg.connect(system.environ["DATABASE_URL"], application_name="report"))
    session.execute("SELECT count(*) FROM publish_jobs")


def dead_rows(system: Healthy) -> None:
    system.limits = Thresholds(dead_rows=10)
    system.sql("INSERT INTO jobs (kind, status) SELECT 'x', 'completed' FROM generate_series(1, 50)")
    system.sql("UPDATE jobs SET payload = '[]'")
    system.sql("DELETE FROM jobs")
    system.sql("SELECT pg_stat_force_next_flush()")
    system.sql("SELECT 1")


def broken_schedules(system: Healthy) -> None:
    path = system.folder / "schedules.toml"
    path.write_text('[schedules.nightly]\ncron = "0 3 * * *"\n')
    system.environ["SCHEDULES_FILE"] = str(path)


def slow_clock(system: Healthy) -> None:
    system.clock = lambda: time.time() - 60


def open_bucket(system: Healthy, *, expires: bool) -> None:
    """A bucket that everybody may read, perhaps with a rule that deletes what is old."""
    endpoint = system.cleanup.enter_context(strict_store())
    objects = system.cleanup.enter_context(closing(Objects(endpoint, "key", "secret-key", "open", "us-east-1")))
    objects.client.create_bucket(Bucket="open")
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}
    policy = {"Version": "2012-10-17", "Statement": [everybody]}
    objects.client.put_bucket_policy(Bucket="open", Policy=json.dumps(policy))
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 90}}
    if expires:
        objects.client.put_bucket_lifecycle_configuration(Bucket="open", LifecycleConfiguration={"Rules": [rule]})  # type: ignore[list-item]
        system.environ["ARCHIVE_BEFORE_DELETE"] = "false"
    system.environ |= {"B2_ENDPOINT": endpoint, "B2_BUCKET": "open", "B2_REGION": "us-east-1"}
    system.environ["CDN_BASE_URL"] = f"{endpoint}/open"


def key_that_may_not_list(system: Healthy) -> None:
    system.environ["B2_ENDPOINT"] = system.cleanup.enter_context(without_list_right(system.store.endpoint)).url


WEBHOOK = "INSERT INTO app_webhooks (app_id, webhook_url, webhook_secret, is_active, disabled_reason) VALUES "

TABLE = {
    "a malformed variable": Planted(
        env(CONCURRENCY="lots"), "environment", "failure", "CONCURRENCY must be a whole number", "CONCURRENCY=3"
    ),
    "a missing variable": Planted(
        env(B2_REGION=""), "environment", "failure", "B2_REGION is not set", "for example B2_REGION="
    ),
    "half of publishing": Planted(
        env(RAID_PUB_ENDPOINT="", RAID_PUBLISHER_SECRET=""), "environment", "failure", "lack RAID_PUB_ENDPOINT", "set "
    ),
    "a misspelt variable": Planted(
        env(DRAIN_TIMOUT="60"), "unknown-variables", "warning", "DRAIN_TIMOUT is not read", "call it DRAIN_TIMEOUT"
    ),
    "a variable of ours that is none": Planted(
        env(B2_ACL="public"), "unknown-variables", "warning", "B2_ACL is not read", "remove B2_ACL"
    ),
    "a short secret": Planted(
        env(CRON_SECRET="hunter-22"), "secrets", "warning", "CRON_SECRET has 9 characters", "openssl rand"
    ),
    "an example's secret": Planted(
        env(CRON_SECRET="a-long-random-text"), "secrets", "failure", "is the example's", "random text"
    ),
    "one secret twice": Planted(
        env(CRON_SECRET="x" * 32, CRON_JOB_API_KEY="x" * 32), "secrets", "warning", "same secret as CRON_SECRET", "own"
    ),
    "a file of schedules with a mistake": Planted(
        broken_schedules, "schedules-file", "failure", "[schedules.nightly] needs either kind or post", "mend it"
    ),
    "a platform that does not wait": Planted(
        env(RAILWAY_ENVIRONMENT="production"), "drain", "warning", "Railway gives a stop 0 s", "DRAINING_SECONDS=35"
    ),
    "a proxy": Planted(
        env(HTTPS_PROXY="http://127.0.0.1:3128"), "proxies", "warning", "HTTPS_PROXY is set", "unset HTTPS_PROXY"
    ),
    "too large a memory budget": Planted(
        env(MEMORY_BUDGET="15TiB"), "memory", "warning", "MEMORY_BUDGET is 15728640 MiB", "set MEMORY_BUDGET="
    ),
    "too small a disk": Planted(env(MAX_SOURCE_BYTES="1TiB"), "disk", "warning", "MiB free, and 3 originals", "TMPDIR"),
    "a temporary folder that is not there": Planted(
        env(TMPDIR="/nowhere"), "disk", "failure", "/nowhere cannot take temporary files", "set TMPDIR"
    ),
    "a port that somebody has": Planted(taken_port, "port", "failure", "cannot be had", "set PORT to a free one"),
    "nobody at the database's address": Planted(
        unreachable("DATABASE_URL", "postgresql://app@127.0.0.1:{port}/app"),
        "database", "failure", "cannot be reached", "check the host",
    ),
    "a wrong password": Planted(
        lambda system: system.environ.update(
            DATABASE_URL=system.environ["DATABASE_URL"].replace("password-of-the-worker", "guessed-password")
        ),
        "database", "failure", "refused by its server: password authentication failed", "check the role",
    ),
    "a superuser": Planted(
        lambda system: system.environ.update(DATABASE_URL=system.admin_url),
        "role", "warning", "is a superuser", "a role of its own",
    ),
    "a database that is read-only": Planted(
        sql("""DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$"""),
        "writable", "failure", "default_transaction_read_only is on", "RESET",
    ),
    "no autovacuum": Planted(
        lambda system: system.set_on_server("autovacuum", "off"), "server-settings", "warning", "autovacuum is off", "ALTER SYSTEM SET autovacuum = on"
    ),
    "triggers that are off for the database": Planted(
        sql("""DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$"""),
        "server-settings", "failure", "no trigger of a queue fires", "RESET session_replication_role",
    ),
    "nobody at the direct address": Planted(
        unreachable("DATABASE_DIRECT_URL", "postgresql://app@127.0.0.1:{port}/app"),
        "direct-connection", "failure", "DATABASE_DIRECT_URL cannot be reached", "check the host",
    ),
    "a direct address of another database": Planted(
        lambda system: system.environ.update(
            DATABASE_DIRECT_URL=system.environ["DATABASE_URL"].rpartition("/")[0] + "/postgres"
        ),
        "direct-connection", "failure", "another database than DATABASE_URL", "the same one",
    ),
    "a clock that is off": Planted(slow_clock, "clock", "warning", "clock is 60 s behind the database's", "NTP"),
    "a transaction left open": Planted(
        open_transaction, "oldest-transaction", "warning", "doctors_worker, report) has had a transaction open", "SELECT pg_terminate_backend("
    ),
    "a migration that is missing": Planted(
        sql("DELETE FROM jobqueue.migrations WHERE version = (SELECT max(version) FROM jobqueue.migrations)"),
        "migrations", "failure", "1 migration is missing, from 0", "jobqueue migrate",
    ),
    "a migration of another version": Planted(
        sql("INSERT INTO jobqueue.migrations (version, name, checksum) VALUES (9999, 'future', '')"),
        "migrations", "failure", "9999_future, which this version of jobqueue does not know", "",
    ),
    "a queue without its table": Planted(
        sql("CREATE TABLE orders (); SELECT jobqueue.adopt('public.orders'); DROP TABLE orders"),
        "queues", "warning", "the queue orders is registered, and its table is gone", "DELETE FROM jobqueue.queues WHERE name = 'orders';",
    ),
    "a right that is missing": Planted(
        sql("REVOKE UPDATE, DELETE ON publish_jobs FROM doctors_worker"),
        "table-rights", "failure", "the role lacks 2 of the rights", "GRANT DELETE ON public.publish_jobs TO doctors_worker; GRANT UPDATE (",
    ),
    "rows that a policy hides": Planted(
        sql("ALTER TABLE auction_files ENABLE ROW LEVEL SECURITY; ALTER TABLE auction_files FORCE ROW LEVEL SECURITY"),
        "row-security", "failure", "hides every row of auction_files", "CREATE POLICY jobqueue_worker ON auction_files TO doctors_worker",
    ),
    "an index that was dropped": Planted(
        sql("DROP INDEX jobs_claim"), "drift", "failure", "public.jobs lacks the index claim", "SELECT jobqueue.adopt('public.jobs');"
    ),
    "a trigger that was dropped": Planted(
        sql("DROP TRIGGER jobqueue_5_wake_insert ON publish_jobs"),
        "drift", "failure", "public.publish_jobs lacks the trigger jobqueue_5_wake_insert", "SELECT jobqueue.adopt(",
    ),
    "a trigger that is disabled": Planted(
        sql("ALTER TABLE jobs DISABLE TRIGGER jobqueue_4_end"),
        "triggers", "failure", "the trigger jobqueue_4_end of public.jobs is disabled", "ENABLE TRIGGER jobqueue_4_end;",
    ),
    "an index left half built": Planted(
        sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jobs_delayed'::regclass"),
        "indexes", "warning", "public.jobs_delayed was left half built", "REINDEX INDEX CONCURRENTLY public.jobs_delayed;",
    ),
    "a table without autovacuum": Planted(
        sql("ALTER TABLE jobs SET (autovacuum_enabled = off)"),
        "dead-rows", "warning", "autovacuum is switched off for public.jobs", "RESET (autovacuum_enabled);",
    ),
    "dead rows": Planted(dead_rows, "dead-rows", "warning", "dead rows, more than live ones", "VACUUM public.jobs;"),
    "nobody who works": Planted(
        sql("INSERT INTO jobs (kind) VALUES ('heartbeat')"),
        "workers", "warning", "no worker is alive that serves jobs (1)", "start `jobqueue worker`",
    ),
    "a worker of another version": Planted(
        sql("INSERT INTO jobqueue.workers (name, version, queues, concurrency) VALUES ('w', '0.0.1', '{jobs}', 1)"),
        "workers", "warning", "workers of version 0.0.1", "complete",
    ),
    "a kind that nobody serves": Planted(
        sql("""INSERT INTO jobs (kind, created_at, run_after, error_message) VALUES
               ('invoice', now() - interval '1 hour', now() + interval '1 minute', 'no process has been found that serves the kind ''invoice''; this one does not')"""),
        "kinds", "warning", "no worker serves the kind 'invoice': 1 job waits", "jobqueue jobs cancel jobs --kind invoice",
    ),
    "a job that failed": Planted(
        sql("INSERT INTO jobs (kind, status, completed_at, error_message) VALUES ('x', 'failed', now(), 'no such file')"),
        "failures", "warning", "the last because: no such file", "jobqueue jobs requeue jobs --status failed",
    ),
    "a queue that is paused": Planted(
        sql("INSERT INTO jobqueue.pauses (queue) VALUES ('jobs')"),
        "paused-queues", "warning", "the queue jobs is paused since", "jobqueue queues resume jobs",
    ),
    "a schedule that is paused": Planted(
        sql("INSERT INTO schedules (name, kind, every_seconds, paused_at, paused_by) VALUES ('nightly', 'x', 60, now(), 'maria')"),
        "schedules", "warning", "the schedule nightly is paused since", "jobqueue schedules resume nightly",
    ),
    "a schedule that nobody ticks": Planted(
        sql("INSERT INTO schedules (name, kind, every_seconds, next_tick_at) VALUES ('nightly', 'x', 60, now() - interval '1 day')"),
        "schedules", "warning", "the schedule nightly should have ticked", "SCHEDULER_IS_PRIMARY=true",
    ),
    "a webhook that was disabled": Planted(
        sql(f"{WEBHOOK} ('a', 'https://127.0.0.1/', 'whsec_MTIzNDU2Nzg=', false, 'it was away')"),
        "webhooks", "warning", "was disabled: it was away", "jobqueue webhooks enable ",
    ),
    "a receiver inside": Planted(
        sql(f"{WEBHOOK} ('a', 'https://10.1.2.3/in', 'whsec_MTIzNDU2Nzg=', true, NULL)"),
        "webhook-targets", "warning", "10.1.2.3 is a private address", "mend its webhook_url",
    ),
    "a receiver without TLS": Planted(
        sql(f"{WEBHOOK} ('a', 'http://8.8.8.8/in', 'whsec_MTIzNDU2Nzg=', true, NULL)"),
        "webhook-targets", "warning", "it must be https", "mend its webhook_url",
    ),
    "a secret that cannot sign": Planted(
        sql(f"{WEBHOOK} ('a', 'https://8.8.8.8/in', 'whsec_*', true, NULL)"),
        "webhook-secrets", "warning", "not base64 after whsec_", "mend its webhook_secret",
    ),
    "a wrong secret of the origin": Planted(
        env(RAID_PUBLISHER_SECRET="wrong-secret-of-it"), "origin", "failure", "refused our secret (401)", "check RAID_PUBLISHER_SECRET"
    ),
    "nobody at the origin's address": Planted(
        unreachable("RAID_PUB_ENDPOINT", "http://127.0.0.1:{port}/"), "origin", "failure", "could not be reached", "check RAID_PUB_ENDPOINT"
    ),
    "nobody at the backend's address": Planted(
        lambda system: system.environ.update(BACKEND_URL=f"http://127.0.0.1:{free_port()}", WORKER_API_KEY="key-of-the-backend"),
        "backend", "failure", "the last good settings are used", "check BACKEND_URL",
    ),
    "a wrong key of the store": Planted(
        env(B2_APP_KEY="wrong-key-of-the-store"), "store-write", "failure", "does not accept our signature", "check B2_APP_KEY"
    ),
    "a bucket that is not there": Planted(
        env(B2_BUCKET="no-such-bucket"), "store-write", "failure", "has no bucket no-such-bucket", "check B2_BUCKET"
    ),
    "a key that may not list": Planted(
        key_that_may_not_list, "store-list", "warning", "refused access", "give the key the right to list"
    ),
    "a CDN of another bucket": Planted(
        lambda system: system.environ.update(CDN_BASE_URL=system.environ["CDN_BASE_URL"] + "/elsewhere"),
        "cdn", "failure", "answered 404 for an object that is in the bucket", "check that CDN_BASE_URL serves this bucket",
    ),
    "nobody at the CDN's address": Planted(
        unreachable("CDN_BASE_URL", "http://127.0.0.1:{port}"), "cdn", "failure", "could not be reached", "check CDN_BASE_URL"
    ),
    "archives in a public bucket": Planted(
        lambda system: open_bucket(system, expires=False),
        "store-privacy", "warning", "is public, and old events are archived in it", "ARCHIVE_BUCKET",
    ),
    "a rule that deletes pictures": Planted(
        lambda system: open_bucket(system, expires=True),
        "store-lifecycle", "warning", "deletes objects (old)", "limit it",
    ),
}  # fmt: skip


MENDED_BY_SQL = (
    "a queue without its table",
    "a right that is missing",
    "rows that a policy hides",
    "an index that was dropped",
    "a trigger that was dropped",
    "a trigger that is disabled",
    "a table without autovacuum",
)


def test_a_clean_system_shows_no_warning(healthy: Healthy) -> None:
    for name in DURABLE:
        healthy.set_on_server(name, "on")
    examination = healthy.examine()

    assert troubles(examination) == []
    assert examination.left_out == []
    assert {"store-write", "cdn", "store-delete", "drift", "direct-connection"} <= {
        f.name for f in examination.findings
    }
    assert healthy.own_objects() == []


@pytest.mark.extended
@pytest.mark.parametrize("case", TABLE)
def test_what_was_planted_is_found(case: str, healthy: Healthy) -> None:
    planted = TABLE[case]
    planted.plant(healthy)
    check = planted.check if planted.check in {check.name for check in CHECKS} else "object-store"
    found = [finding for finding in troubles(healthy.examine(check)) if finding.name == planted.check]

    assert found, "nothing was found"
    assert planted.says in found[0].says
    assert found[0].status == planted.status
    assert planted.remedy in (found[0].remedy or "")
    assert healthy.own_objects() == []


def test_the_remedies_of_the_database_mend_it(healthy: Healthy) -> None:
    """As they stand, and then nothing is left to say."""
    planted = [TABLE[case] for case in MENDED_BY_SQL]
    for each in planted:
        each.plant(healthy)
    for _ in planted:
        for finding in troubles(healthy.examine(*(each.check for each in planted))):
            healthy.sql((finding.remedy or "").removeprefix("create the table again, or "))

    assert troubles(healthy.examine(*(each.check for each in planted))) == []


def test_the_examination_leaves_the_database_as_it_was(healthy: Healthy) -> None:
    before = healthy.admin.execute("SELECT count(*), max(oid::bigint) FROM pg_class").fetchone()
    healthy.examine()

    assert healthy.admin.execute("SELECT count(*), max(oid::bigint) FROM pg_class").fetchone() == before


def test_a_check_that_fails_itself_hides_no_other() -> None:
    def broken(_checkup: Checkup) -> Verdict:
        raise RuntimeError("hunter-22")

    checks = [Check("broken", broken, None), *(check for check in CHECKS if check.name == "proxies")]
    first, second = examine(Checkup({}), checks=checks).findings

    assert (first.status, first.says) == ("failure", "the check itself failed with RuntimeError")
    assert (second.name, second.status) == ("proxies", "ok")


def test_the_reference_has_every_check_in_its_own_words() -> None:
    text = (ROOT / "docs/reference/doctor.md").read_text()
    rows = [f"| `{check.name}` | {(check.look.__doc__ or '').rstrip('.')} |" for check in CHECKS]

    assert [line for line in text.splitlines() if line.startswith("| `")] == rows
