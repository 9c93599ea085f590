"""Archival: what is old is in the object store, once, before it is out of its table; whoever dies, and whoever writes beside it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from tests.retention.dying_archival import STEPS
from tests.support.daemon import clean_environment
from tests.support.host import Host, migrated
from tests.support.isolation import LEVELS, default_isolation
from tests.support.s3 import without_list_right
from tests.support.waiting import eventually

from jobqueue.errors import Retry
from jobqueue.observe.metrics import Metrics
from jobqueue.retention import archive_batch
from jobqueue.retention.archival import Archival, Archived
from jobqueue.retention.archive_format import Damaged, object_key, read_content
from jobqueue.retention.archive_session import Session
from jobqueue.retention.archive_store import ArchiveStore
from jobqueue.retention.archive_tables import Place, Table
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from tests.support.s3 import Bucket

    from jobqueue.demo.embedded_postgres import Postgres
    from jobqueue.retention.archive_format import Content

Row = dict[str, Any]


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    return migrated(postgres)


@pytest.fixture
def host(database: str) -> Iterator[Host]:
    with Host(database) as host:
        yield host


def always() -> bool:
    return True


def times(number: int) -> Callable[[], bool]:
    """Says yes this often."""
    left = iter(range(number))
    return lambda: next(left, None) is not None


def archival(host: Host, bucket: Bucket | None, *, store: ArchiveStore | None = None, **options: Any) -> Archival:
    if store is None and bucket is not None:
        store = ArchiveStore(bucket.objects)
    return Archival(host.dsn, store, Metrics(), **{"days": 90, "batch_size": 20, "lease_seconds": 0.2, **options})


def events(host: Host, count: int, *, days: float = 100, name: str = "old") -> None:
    host.execute(
        """
        INSERT INTO platform_events (event_type, entity_id, event_data, created_at)
        SELECT 'user.created', %(name)s || n, jsonb_build_object('text', E'a\nb\\"é', 'n', 0.10),
               now() - make_interval(secs => %(secs)s - n)
        FROM generate_series(1, %(count)s) AS n
        """,
        count=count, secs=days * 86_400, name=name,
    )  # fmt: skip


def notifications(host: Host, count: int, *, states: int = 1, days: float = 100) -> None:
    host.execute(
        """
        WITH made AS (
            INSERT INTO platform_notifications (title, created_at)
            SELECT 'n' || n, now() - make_interval(secs => %(secs)s - n) FROM generate_series(1, %(count)s) AS n RETURNING id)
        INSERT INTO notification_state (notification_id, user_id) SELECT id, 'u' || n FROM made, generate_series(1, %(states)s) AS n
        """,
        count=count, states=states, secs=days * 86_400,
    )  # fmt: skip


def table(host: Host, name: str = "platform_events") -> list[Row]:
    """A table's rows as archives write them, in any order."""
    with psycopg.connect(host.dsn) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return [row for (row,) in connection.execute(f"SELECT row_to_json(t) FROM {name} AS t".encode()).fetchall()]


def lines(bucket: Bucket) -> list[tuple[str, Row]]:
    """Every line of every archive: its table and its row."""
    found = []
    for key in sorted(bucket.contents()):
        found += [json.loads(line) for line in gzip.decompress(bucket.objects.get(key)).splitlines()]
    return [(line["table"], line["row"]) for line in found]


def archived(bucket: Bucket, name: str = "platform_events") -> list[Row]:
    return [row for of, row in lines(bucket) if of == name]


def same(left: list[Row], right: list[Row]) -> bool:
    """Whether these are the same rows, each as often."""
    return sorted(json.dumps(row) for row in left) == sorted(json.dumps(row) for row in right)


def unfinished(host: Host) -> int:
    return int(host.rows("SELECT count(*) AS n FROM jobqueue.archives WHERE deleted_at IS NULL")[0]["n"])


class TestARun:
    def test_moves_what_is_old_and_nothing_else(self, host: Host, bucket: Bucket) -> None:
        events(host, 50)
        events(host, 10, days=89, name="young")
        notifications(host, 30, states=2)
        notifications(host, 5, days=1)
        before = {
            name: table(host, name) for name in ("platform_events", "platform_notifications", "notification_state")
        }
        done = archival(host, bucket).run(always)
        assert done.rows == {"platform_events": 50, "platform_notifications": 30}
        assert (done.more, done.busy, done.blocked, done.refused) == (False, False, 0, None)
        assert done.message == "Archived 50 events and 30 notifications older than 90 days"
        assert [len(table(host, name)) for name in before] == [10, 5, 5 * 1]
        for name, rows in before.items():
            assert same(archived(bucket, name) + table(host, name), rows)
        assert archival(host, bucket).run(always).rows == {"platform_events": 0, "platform_notifications": 0}

    def test_rows_come_back_from_an_archive_as_they_were(self, host: Host, bucket: Bucket) -> None:
        host.execute(
            """
            ALTER TABLE platform_events ADD raw json, ADD bits bytea, ADD span interval, ADD sum numeric, ADD real_one float8,
                ADD archived text, ADD "50%% 'off'" text, ADD day timestamptz
            """
        )
        host.execute(
            """
            INSERT INTO platform_events (event_type, created_at, raw, bits, span, sum, real_one, archived, "50%% 'off'", day)
            VALUES ('a', now() - interval '1 year', %(raw)s, '\\xdeadbeef', '1 mon 2 days 03:04:05.6', 12.3400, 0.1::float8 + 0.2,
                    E'line\nfeed', '%%s', '-infinity'),
                   ('b', '-infinity', '[]', NULL, NULL, 'NaN', 'infinity', NULL, NULL, now())
            """,
            raw='{"a": 1,\n\r\n  "a": "\\u00e9"}',
        )
        for setting in (
            "TimeZone = 'Asia/Tokyo'",
            "IntervalStyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "extra_float_digits = -5",
        ):
            host.execute(f"ALTER DATABASE {host.dsn.rpartition('/')[2].partition('?')[0]} SET {setting}")
        host.execute("CREATE TABLE original AS TABLE platform_events")
        assert archival(host, bucket).run(always).rows["platform_events"] == 2
        for key in bucket.contents():
            for line in gzip.decompress(bucket.objects.get(key)).decode().splitlines():
                host.execute(
                    """
                    INSERT INTO platform_events
                    SELECT (json_populate_record(NULL::platform_events, %(line)s::json -> 'row')).*
                    """,
                    line=line,
                )
        shown = """SELECT id, event_data, created_at, bits, span, sum, real_one, archived, "50%% 'off'", day,
                          translate(raw::text, E'\\n\\r', '  ') FROM"""
        assert host.rows(f"SELECT t::text FROM ({shown} original EXCEPT {shown} platform_events) AS t") == []
        assert len(table(host)) == 2

    def test_archives_are_named_by_their_content_and_listed(self, host: Host, bucket: Bucket) -> None:
        events(host, 45)
        archival(host, bucket).run(always)
        listed = host.rows("SELECT * FROM jobqueue.archives ORDER BY id")
        assert [row["row_count"] for row in listed] == [20, 20, 5]
        assert {row["object_key"] for row in listed} == bucket.contents()
        for row in listed:
            unpacked = gzip.decompress(bucket.objects.get(row["object_key"]))
            assert hashlib.sha256(unpacked).hexdigest() == row["sha256"]
            assert len(unpacked) == row["size_bytes"]
            day = row["first_at"].strftime("%Y/%m/%d")
            assert row["object_key"] == f"archives/platform_events/{day}/{row['sha256']}.ndjson.gz"
            assert row["sealed_at"] <= row["stored_at"] <= row["deleted_at"]

    def test_ends_when_its_time_is_up_and_the_tables_take_turns(self, host: Host, bucket: Bucket) -> None:
        events(host, 100)
        notifications(host, 100, states=0)
        # One of the turns of each table looks for what earlier runs left.
        done = archival(host, bucket).run(times(4))
        assert done.rows == {"platform_events": 40, "platform_notifications": 40}
        assert done.more
        assert done.message.endswith("; more are left for the next run")
        assert archival(host, bucket).run(always).rows == {"platform_events": 60, "platform_notifications": 60}
        assert len(archived(bucket)) == 100

    def test_counts_what_belongs_to_a_row_and_never_parts_them(self, host: Host, bucket: Bucket) -> None:
        notifications(host, 4, states=30)
        archival(host, bucket).run(always)
        assert [row["line_count"] for row in host.rows("SELECT line_count FROM jobqueue.archives")] == [31] * 4

    def test_is_bounded_in_bytes(self, host: Host, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive_batch, "MOST_BYTES", 1000)
        events(host, 12)
        archival(host, bucket).run(always)
        assert len(bucket.contents()) >= 3
        assert len({row["id"] for row in archived(bucket)}) == 12

    def test_is_bounded_in_time_by_the_row(self, host: Host, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive_batch, "SEAL_SECONDS", 0.0)
        events(host, 3)
        archival(host, bucket).run(always)
        assert len(bucket.contents()) == 3

    def test_leaves_a_table_that_another_process_is_archiving(self, host: Host, bucket: Bucket) -> None:
        events(host, 5)
        host.execute(
            "UPDATE jobqueue.archivals SET held_until = now() + interval '1 minute', token = gen_random_uuid()"
        )
        done = archival(host, bucket).run(always)
        assert (done.busy, done.rows["platform_events"], len(table(host))) == (True, 0, 5)
        assert "another process is archiving now" in done.message

    def test_stops_when_another_has_taken_its_table(self, host: Host, bucket: Bucket) -> None:
        events(host, 50)

        class Thief(ArchiveStore):
            def write(self, key: str, file: IO[bytes]) -> None:
                super().write(key, file)
                host.execute(
                    "UPDATE jobqueue.archivals SET token = gen_random_uuid(), held_until = now() + interval '1 min'"
                )

        done = archival(host, None, store=Thief(bucket.objects)).run(always)
        assert (done.busy, done.rows["platform_events"], len(table(host))) == (True, 0, 50)


class TestWithoutACopy:
    def test_nothing_is_deleted_unless_that_is_asked_for(self, host: Host) -> None:
        events(host, 3)
        done = archival(host, None).run(always)
        assert done.refused is not None
        assert "platform_events are older than 90 days" in done.message
        assert "ARCHIVE_BEFORE_DELETE=false" in done.message
        assert len(table(host)) == 3

    def test_nothing_is_refused_when_nothing_is_old(self, host: Host) -> None:
        events(host, 3, days=1)
        assert archival(host, None).run(always) == Archived(90)

    def test_rows_go_with_what_belongs_to_them(self, host: Host, bucket: Bucket) -> None:
        events(host, 50)
        events(host, 5, days=1)
        notifications(host, 30, states=2)
        host.execute("ALTER TABLE notification_state DROP CONSTRAINT notification_state_notification_id_fkey")
        done = archival(host, bucket, archive=False).run(always)
        assert done.message == "Deleted, without archiving, 50 events and 30 notifications older than 90 days"
        assert (len(table(host)), table(host, "platform_notifications"), table(host, "notification_state")) == (
            5,
            [],
            [],
        )
        assert bucket.contents() == set()

    def test_a_locked_row_is_left_and_not_waited_for(self, host: Host) -> None:
        events(host, 50)
        with psycopg.connect(host.dsn) as other:
            other.execute("SELECT FROM platform_events WHERE entity_id = 'old7' FOR UPDATE")
            assert archival(host, None, archive=False).run(always).rows["platform_events"] == 49
        assert archival(host, None, archive=False).run(always).rows["platform_events"] == 1


class TestBesideWriters:
    def test_a_locked_row_holds_up_its_own_batch_only(self, host: Host, bucket: Bucket) -> None:
        events(host, 60)
        before = table(host)
        with psycopg.connect(host.dsn) as other:
            other.execute("SELECT FROM platform_events WHERE entity_id = 'old25' FOR UPDATE")
            done = archival(host, bucket).run(always)
            assert (done.rows["platform_events"], done.blocked) == (40, 1)
            assert "1 batches are held up" in done.message
            assert len(table(host)) == 20
        assert archival(host, bucket).run(always).rows["platform_events"] == 20
        assert same(archived(bucket), before)
        assert unfinished(host) == 0

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE platform_events SET event_type = 'changed' WHERE entity_id = 'old3'",
            "DELETE FROM platform_events WHERE entity_id = 'old3'",
            "DELETE FROM platform_events",
            """
            INSERT INTO platform_events (entity_id, created_at)
            SELECT 'late', created_at + interval '1 ms' FROM platform_events WHERE entity_id = 'old3'
            """,
        ],
    )
    def test_rows_that_change_before_they_are_deleted_are_archived_as_they_are_then(
        self, host: Host, bucket: Bucket, change: str
    ) -> None:
        events(host, 10)
        written: list[str] = []

        class Disturbed(ArchiveStore):
            def holds(self, key: str, content: Content) -> bool:
                found = super().holds(key, content)
                if not written:
                    host.execute(change)
                    wanted.extend(table(host))
                written.append(key)
                return found

        wanted: list[Row] = []
        done = archival(host, None, store=Disturbed(bucket.objects)).run(always)
        assert done.rows["platform_events"] == len(wanted)
        assert table(host) == []
        assert same(archived(bucket), wanted)
        assert written[0] not in bucket.contents()
        assert unfinished(host) == 0

    def test_a_row_that_comes_between_reading_and_deleting_is_not_lost(
        self, host: Host, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        events(host, 10)
        read = archive_batch.Batches._digest
        late: list[int] = []

        def disturbed(self: archive_batch.Batches, connection: Any, these: Any) -> Content:
            found = read(self, connection, these)
            if not late:
                late.append(
                    host.execute(
                        "INSERT INTO platform_events (created_at) SELECT max(created_at) - interval '1 ms' FROM platform_events"
                    )
                )
            return found

        monkeypatch.setattr(archive_batch.Batches, "_digest", disturbed)
        assert archival(host, bucket).run(always).rows["platform_events"] == 11
        assert len(archived(bucket)) == 11

    def test_a_state_that_is_written_meanwhile_is_not_lost(self, host: Host, bucket: Bucket) -> None:
        notifications(host, 5)

        class Disturbed(ArchiveStore):
            def holds(self, key: str, content: Content) -> bool:
                host.execute(
                    "INSERT INTO notification_state SELECT id, 'late' FROM platform_notifications ON CONFLICT DO NOTHING"
                )
                return super().holds(key, content)

        archival(host, None, store=Disturbed(bucket.objects)).run(always)
        assert len(archived(bucket, "notification_state")) == 10
        assert table(host, "platform_notifications") == []

    def test_what_the_store_does_not_give_back_is_kept(self, host: Host, bucket: Bucket) -> None:
        events(host, 10)

        class Lossy(ArchiveStore):
            def write(self, key: str, file: IO[bytes]) -> None:
                super().write(key, file)
                bucket.objects.put(key, bucket.objects.get(key)[:-9], content_type="application/gzip")

        with pytest.raises(Retry, match=r"gave back other bytes .* its rows are kept"):
            archival(host, None, store=Lossy(bucket.objects)).run(always)
        assert len(table(host)) == 10
        assert archival(host, bucket).run(always).rows["platform_events"] == 10
        assert len(archived(bucket)) == 10

    def test_a_run_that_takes_over_needs_no_right_to_list(self, host: Host, bucket: Bucket) -> None:
        events(host, 10)

        class Away(ArchiveStore):
            def write(self, key: str, file: IO[bytes]) -> None:
                raise Retry("the store is away")

        with pytest.raises(Retry, match="the store is away"):
            archival(host, None, store=Away(bucket.objects)).run(always)
        store = bucket.store
        with without_list_right(store.endpoint) as front:
            objects = Objects(front.url, store.key_id, store.app_key, bucket.name, store.region)
            done = archival(host, None, store=ArchiveStore(objects)).run(always)
            objects.close()
        assert done.rows["platform_events"] == 10
        assert len(archived(bucket)) == 10


class TestForeignKeys:
    @pytest.mark.parametrize(("rule", "kept"), [("NO ACTION", True), ("RESTRICT", True), ("SET NULL", False)])
    def test_a_row_that_is_held_on_to_is_kept(self, host: Host, bucket: Bucket, rule: str, kept: bool) -> None:
        events(host, 30)
        host.execute(f"CREATE TABLE audit (event_id uuid REFERENCES platform_events ON DELETE {rule})")
        host.execute("INSERT INTO audit SELECT id FROM platform_events WHERE entity_id IN ('old3', 'old29')")
        done = archival(host, bucket).run(always)
        assert done.rows["platform_events"] == (28 if kept else 30)
        assert {row["entity_id"] for row in table(host)} == ({"old3", "old29"} if kept else set())
        assert len(archived(bucket)) == 30 - len(table(host))
        assert archival(host, None, archive=False).run(always).rows["platform_events"] == 0

    def test_rows_that_would_be_deleted_with_it_are_archived_with_it(self, host: Host, bucket: Bucket) -> None:
        events(host, 10)
        host.execute("CREATE TABLE reads (event_id uuid REFERENCES platform_events ON DELETE CASCADE, reader text)")
        host.execute("INSERT INTO reads SELECT id, 'r' || n FROM platform_events, generate_series(1, 3) AS n")
        before = table(host, "reads")
        archival(host, bucket).run(always)
        assert same(archived(bucket, "reads"), before)
        assert (table(host), table(host, "reads")) == ([], [])

    def test_a_cascade_that_goes_on_keeps_the_row(self, host: Host, bucket: Bucket) -> None:
        events(host, 3)
        host.execute(
            "CREATE TABLE reads (id int PRIMARY KEY, event_id uuid REFERENCES platform_events ON DELETE CASCADE)"
        )
        host.execute("CREATE TABLE notes (read_id int REFERENCES reads ON DELETE CASCADE)")
        host.execute("INSERT INTO reads SELECT 1, id FROM platform_events WHERE entity_id = 'old2'")
        assert archival(host, bucket).run(always).rows["platform_events"] == 2
        assert len(table(host, "reads")) == 1


def die(host: Host, bucket: Bucket, step: str) -> None:
    """Archive in another process that is killed after `step`."""
    store = bucket.store
    arguments = [host.dsn, store.endpoint, store.key_id, store.app_key, bucket.name, store.region, step]
    program = Path(__file__).with_name("dying_archival.py")
    ended = subprocess.run(
        [sys.executable, program, *arguments], env=clean_environment(), capture_output=True, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def finish(host: Host, bucket: Bucket) -> None:
    """Run until nobody holds a table any more and nothing is left."""

    def run() -> bool:
        done = archival(host, bucket).run(always)
        return not done.busy and not done.blocked

    eventually(run)


@pytest.mark.slow
@pytest.mark.faults
class TestKilled:
    @pytest.mark.extended
    @pytest.mark.parametrize("step", [step for step in STEPS if "anew" not in step and "old" not in step])
    def test_nothing_is_lost_and_nothing_is_there_twice(self, host: Host, bucket: Bucket, step: str) -> None:
        events(host, 30)
        notifications(host, 15, states=1)
        names = ("platform_events", "platform_notifications", "notification_state")
        before = {name: table(host, name) for name in names}
        die(host, bucket, step)
        for name, rows in before.items():
            there = {json.dumps(row) for row in archived(bucket, name) + table(host, name)}
            assert there == {json.dumps(row) for row in rows}
        finish(host, bucket)
        for name, rows in before.items():
            assert same(archived(bucket, name), rows)
            assert table(host, name) == []
        assert unfinished(host) == 0

    @pytest.mark.extended
    @pytest.mark.parametrize("step", ["sealed anew", "old object removed", "old object forgotten"])
    def test_nor_when_rows_had_changed_and_it_dies_again(self, host: Host, bucket: Bucket, step: str) -> None:
        events(host, 10)
        die(host, bucket, "stored")
        host.execute("UPDATE platform_events SET event_type = 'changed' WHERE entity_id = 'old3'")
        host.execute("DELETE FROM platform_events WHERE entity_id = 'old4'")
        wanted = table(host)
        eventually(lambda: host.rows("SELECT FROM jobqueue.archivals WHERE held_until < now() HAVING count(*) = 2"))
        die(host, bucket, step)
        assert same(table(host), wanted)
        finish(host, bucket)
        assert same(archived(bucket), wanted)
        assert (table(host), unfinished(host)) == ([], 0)

    def test_nor_when_the_rows_change_and_change_back(self, host: Host, bucket: Bucket) -> None:
        events(host, 10)
        wanted = table(host)
        die(host, bucket, "stored")
        host.execute("UPDATE platform_events SET event_type = 'changed'")
        eventually(lambda: host.rows("SELECT FROM jobqueue.archivals WHERE held_until < now() HAVING count(*) = 2"))
        die(host, bucket, "old object removed")
        host.execute("UPDATE platform_events SET event_type = 'user.created'")
        finish(host, bucket)
        assert same(archived(bucket), wanted)

    def test_rows_that_somebody_deleted_meanwhile_are_not_kept_in_the_store(self, host: Host, bucket: Bucket) -> None:
        events(host, 10)
        die(host, bucket, "stored")
        host.execute("DELETE FROM platform_events")
        finish(host, bucket)
        assert bucket.contents() == set()
        assert host.rows("SELECT FROM jobqueue.archives") == []


@pytest.mark.extended
def test_a_batch_is_found_by_indexes_whatever_the_statistics_say(host: Host) -> None:
    notifications(host, 3000, states=2)
    events(host, 3000)
    # Statistics of when the tables were small: a hash over the whole of them looks cheap.
    host.execute(
        "UPDATE pg_class SET reltuples = 10, relpages = 1 WHERE relname IN ('platform_notifications', 'notification_state')"
    )
    with Session(host.dsn) as session, session.transaction() as connection:
        for name in ("platform_notifications", "platform_events"):
            known = Table(connection, name)
            ends = connection.execute(
                sql.SQL("SELECT created_at::text, id::text FROM {} ORDER BY created_at, id LIMIT 101").format(
                    sql.Identifier(name)
                )
            ).fetchall()
            these = known.between(Place(*ends[0]), Place(*ends[100]))
            for query in (
                *known.locks(these),
                *known.deletes(these),
                known.lines(these),
                known.lines(known.old(90, None), 100),
            ):
                plan = "\n".join(line for (line,) in connection.execute(sql.SQL("EXPLAIN ") + query).fetchall())
                assert "Seq Scan" not in plan
                assert "Hash Join" not in plan


class TestFormat:
    def test_a_part_of_an_archive_is_no_archive(self, tmp_path: Path) -> None:
        whole = gzip.compress(os.urandom(1000))
        for damaged in (b"", b"plain text", whole[:-1], whole[:500], whole[:-8] + bytes(8)):
            (tmp_path / "archive").write_bytes(damaged)
            with (tmp_path / "archive").open("rb") as file:
                try:
                    assert read_content(file).size_bytes == 0
                except Damaged:
                    continue
                assert damaged == b""

    def test_a_key_without_a_day(self) -> None:
        content = read_content(_Empty())
        assert object_key("platform_events", "-infinity", content).startswith("archives/platform_events/undated/")
        assert object_key("t", "2024-05-17 12:00:00+00", content).startswith("archives/t/2024/05/17/")


class _Empty:
    def read(self, size: int, /) -> bytes:
        return b""


@pytest.mark.parametrize("level", LEVELS)
def test_rows_that_are_locked_are_read_as_they_are_then_whatever_the_default_is(host: Host, level: str) -> None:
    with default_isolation(host.dsn, level), Session(host.dsn) as session, session.transaction() as connection:
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)


@pytest.mark.extended
def test_payloads_of_any_shape_survive(host: Host, bucket: Bucket) -> None:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner)
    )

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(values, min_size=1, max_size=5))
    def check(payloads: list[Any]) -> None:
        bucket.clear()
        for payload in payloads:
            host.execute(
                "INSERT INTO platform_events (event_data, created_at) VALUES (%(p)s, now() - interval '1 year')",
                p=Jsonb(payload),
            )
        before = table(host)
        archival(host, bucket).run(always)
        assert same(archived(bucket), before)

    check()
