"""Prepared statements below the driver's cursors: what arrives, what comes back and what is raised is what the driver gives."""

from __future__ import annotations

import threading
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb
from tests.support.waiting import eventually

from jobqueue.kernel.database.link import LOST, Link

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernel.helpers import Rig


class Colour(StrEnum):
    """A string that is more than a string."""

    RED = "red"


ONE = UUID("00000000-0000-0000-0000-000000000001")
OTHER = UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479")
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
TEXTS = [
    "",
    " ",
    "NULL",
    "it's",
    'a "quoted" word',
    "back\\slash \\' \\n \\",
    "100 % %s %(v)s %%",
    "$1 $$ :v ? ; --",
    "two\nlines\ttab\r",
    "Zoë ☃ 🐘 \u202e",
    "{1,2}",
]

# Type, what is written, what is read back.
VALUES: list[tuple[str, Any, Any]] = [
    *((type_, None, None) for type_ in ("text", "bigint", "float8", "uuid", "jsonb", "timestamptz", "bigint[]", "text[]")),
    *(("text", text, text) for text in TEXTS),
    ("text", Colour.RED, "red"),
    *(("bigint", number, number) for number in (0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63))),
    ("int", -(2**31), -(2**31)),
    ("numeric", 2**70, Decimal(2**70)),
    *(("float8", number, number) for number in (0.0, -0.0, 0.1, 1e300, -5e-324, 1 / 3)),
    *(("float8", float(word), float(word)) for word in ("nan", "inf", "-inf")),
    ("float8", 3, 3.0),
    ("boolean", True, True),
    ("boolean", False, False),
    ("uuid", OTHER, OTHER),
    ("uuid", str(OTHER), OTHER),
    ("timestamptz", NOON, NOON),
    ("timestamptz", datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
    ("date", date(2024, 2, 29), date(2024, 2, 29)),
    ("interval", timedelta(days=-3, seconds=1, microseconds=5), timedelta(days=-3, seconds=1, microseconds=5)),
    ("bytea", b"\0\\x\xff'", b"\0\\x\xff'"),
    ("bigint[]", [], []),
    ("bigint[]", [1, -2, 2**31, -(2**63)], [1, -2, 2**31, -(2**63)]),
    ("bigint[]", [1, None, 3], [1, None, 3]),
    ("bigint[]", "{1,2}", [1, 2]),
    ("text[]", [], []),
    ("text[]", TEXTS, TEXTS),
    ("text[]", ["a,b", "}", "{", "NULL", "null", None, '"'], ["a,b", "}", "{", "NULL", "null", None, '"']),
    ("boolean[]", [True, False, None], [True, False, None]),
    ("float8[]", [0.1, float("nan"), float("-inf")], [0.1, float("nan"), float("-inf")]),
    ("uuid[]", [], []),
    ("uuid[]", [ONE, OTHER], [ONE, OTHER]),
    ("uuid[]", f"{{{ONE},{OTHER}}}", [ONE, OTHER]),
    ("timestamptz[]", [NOON], [NOON]),
    ("jsonb", Jsonb({"a": [1, 2.5, None, True], "☃": 'it\'s "so" \\ %'}), {"a": [1, 2.5, None, True], "☃": 'it\'s "so" \\ %'}),
    ("jsonb", Jsonb([]), []),
    ("jsonb", Jsonb("word"), "word"),
    ("jsonb", Jsonb(None), None),
    ("jsonb[]", [Jsonb({"a": 1})], [{"a": 1}]),
]  # fmt: skip


@pytest.fixture
def plain(rig: Rig) -> Iterator[Link]:
    """The driver's own way."""
    link = Link(rig.dsn, "plain", prepare=False)
    yield link
    link.close()


@pytest.fixture(params=[True, False], ids=["prepared", "plain"])
def either(rig: Rig, plain: Link, request: pytest.FixtureRequest) -> Link:
    return rig.link if request.param else plain


def spelled(value: object) -> str:
    """A value with its types all the way down; NaN is itself here, and a moment is the same in every zone."""
    if isinstance(value, datetime):
        value = value.astimezone(UTC)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(spelled, value))})"
    return f"{type(value).__name__} {value!r}"


def pid_of(link: Link) -> int:
    return link.connection().info.backend_pid


def under_way(rig: Rig, pid: int, event: str) -> bool:
    """Whether the server process waits for `event` in a statement."""
    return bool(rig.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = %s", pid, event))


class Running:
    """A statement in a thread of its own, and what came of it."""

    def __init__(self, link: Link, query: bytes) -> None:
        self.raised: BaseException | None = None
        self._link = link
        self._query = query
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._link.fetch(self._query)
        except psycopg.Error as error:
            self.raised = error

    def join(self) -> None:
        self._thread.join(10.0)
        assert not self._thread.is_alive()


def test_every_kind_of_parameter_arrives_as_it_was_written(rig: Rig, plain: Link) -> None:
    # One database for all of them: what differs is told by the list that pytest shows.
    wrong = []
    for type_, written, expected in VALUES:
        query = f"SELECT %(v)s::{type_}".encode()
        for link in (rig.link, plain):
            [(read,)] = link.fetch(query, {"v": written})
            if spelled(read) != spelled(expected):
                wrong.append((link is plain, type_, written, read))
    assert wrong == []


def test_the_server_sees_the_same_values_on_both_ways(rig: Rig, plain: Link) -> None:
    """What is read back could hide what the reading undoes: the server's own spelling cannot."""
    for type_, written, _ in VALUES:
        query = f"SELECT %(v)s::{type_}::text".encode()
        assert rig.link.fetch(query, {"v": written}) == plain.fetch(query, {"v": written}), (type_, written)


def test_many_parameters_keep_their_places(rig: Rig, plain: Link) -> None:
    params = {f"p{n}": n * n for n in range(40)}
    columns = ", ".join(f"%(p{n})s::bigint" for n in reversed(range(40)))
    query = f"SELECT {columns}".encode()
    expected = [tuple(n * n for n in reversed(range(40)))]
    assert rig.link.fetch(query, params) == plain.fetch(query, params) == expected


def test_rows_have_the_types_that_the_driver_gives(either: Link) -> None:
    query = b"""SELECT n::bigint, 1.5::numeric, '{"a": {"b": [1]}}'::jsonb, %(u)s::uuid, %(t)s::timestamptz, NULL::text, '{1,2}'::int[]
                FROM generate_series(1, 2) AS n"""
    rows = either.fetch(query, {"u": OTHER, "t": NOON})
    assert [spelled(row) for row in rows] == [
        spelled((n, Decimal("1.5"), {"a": {"b": [1]}}, OTHER, NOON, None, [1, 2])) for n in (1, 2)
    ]
    # Loaders are chosen anew for each statement.
    assert either.fetch(b"SELECT 'word', 7, now() > '2000-01-01'") == [("word", 7, True)]


def test_a_null_in_every_row_and_no_rows_at_all(either: Link) -> None:
    assert either.fetch(b"SELECT NULL::bigint, NULL::jsonb FROM generate_series(1, 3)") == [(None, None)] * 3
    assert either.fetch(b"SELECT 1 WHERE false") == []


def test_a_name_used_twice_is_one_parameter(rig: Rig, either: Link) -> None:
    query = b"SELECT %(a)s::int, %(b)s::text, %(a)s::int + 1, %(b)s::text || %(a)s::int AS twice"
    assert either.fetch(query, {"b": "x", "a": 5}) == [(5, "x", 6, "x5")]
    if either is rig.link:
        known = either.fetch(
            b"SELECT statement, cardinality(parameter_types) FROM pg_prepared_statements WHERE statement LIKE '%% AS twice'"
        )
        assert known == [("SELECT $1::int, $2::text, $1::int + 1, $2::text || $1::int AS twice", 2)]


def test_parameters_that_the_statement_does_not_name_are_not_sent(either: Link) -> None:
    assert either.fetch(b"SELECT %(a)s::int", {"a": 1, "b": object()}) == [(1,)]


def test_two_percent_signs_are_one(either: Link) -> None:
    assert either.fetch(b"SELECT 7 %% 4, 'x' LIKE '%%x%%', '%%(v)s', '%%%%'") == [(3, True, "%(v)s", "%%")]
    assert either.fetch(b"SELECT 7 %% %(v)s::int, '%%' || %(w)s::text", {"v": 4, "w": "%%"}) == [(3, "%%%")]


def test_without_parameters_and_without_rows(either: Link) -> None:
    assert either.fetch(b"SELECT 1") == either.fetch(b"SELECT 1", {}) == [(1,)]
    assert either.fetch(b"SELECT set_config('application_name', %(name)s, false)", {"name": "other"}) == [("other",)]
    assert either.fetch(b"SHOW application_name") == [("other",)]
    for query in (b"LISTEN something", b"UNLISTEN *", b"CREATE TEMP TABLE t (n int)", b"DO 'BEGIN NULL; END'"):
        assert either.fetch(query) == []
    assert either.fetch(b"INSERT INTO t VALUES (%(n)s)", {"n": 3}) == []
    assert either.fetch(b"INSERT INTO t VALUES (4) RETURNING n") == [(4,)]
    assert either.fetch(b"UPDATE t SET n = n + 1 WHERE n > 99 RETURNING n") == []


def test_each_statement_is_a_transaction_of_its_own(rig: Rig, either: Link) -> None:
    assert either.fetch(b"INSERT INTO jobs (kind) VALUES (%(kind)s)", {"kind": "it's"}) == []
    assert rig.rows("SELECT kind FROM jobs") == [("it's",)]
    first, second = (either.fetch(b"SELECT now()") for _ in range(2))
    assert first < second


def test_what_the_server_refuses_has_the_drivers_class_and_the_link_goes_on(rig: Rig, either: Link) -> None:
    rig.sql.execute("CREATE TABLE things (id int PRIMARY KEY)")
    insert = b"INSERT INTO things VALUES (%(id)s)"
    either.fetch(insert, {"id": 1})
    pid = pid_of(either)
    for _ in range(2):
        with pytest.raises(errors.UniqueViolation, match="things_pkey") as refused:
            either.fetch(insert, {"id": 1})
        assert (refused.value.sqlstate, refused.value.diag.table_name) == ("23505", "things")
        with pytest.raises(errors.UndefinedTable, match="nowhere"):
            either.fetch(b"SELECT * FROM nowhere")
        with pytest.raises(errors.SyntaxError):
            either.fetch(b"SELEKT %(v)s", {"v": 1})
        with pytest.raises(errors.InvalidTextRepresentation):
            either.fetch(b"SELECT %(v)s::text::int", {"v": "many"})
        with pytest.raises(errors.DivisionByZero):
            either.fetch(b"SELECT 1 / %(v)s::int", {"v": 0})
    either.fetch(insert, {"id": 2})
    assert rig.value("SELECT array_agg(id ORDER BY id) FROM things") == [1, 2]
    assert (pid_of(either), either.opened) == (pid, 1)


def test_a_lock_that_is_not_to_be_had(rig: Rig, either: Link) -> None:
    [id_] = rig.insert()
    query = b"SELECT id FROM jobs WHERE id = %(id)s FOR UPDATE NOWAIT"
    holder = rig.connect(autocommit=False)
    holder.execute("SELECT 1 FROM jobs FOR UPDATE")
    for _ in range(2):
        with pytest.raises(errors.LockNotAvailable):
            either.fetch(query, {"id": id_})
    holder.rollback()
    assert either.fetch(query, {"id": id_}) == [(id_,)]
    assert either.opened == 1


def test_a_hint_is_kept(either: Link) -> None:
    query = b"""DO $$ BEGIN RAISE EXCEPTION 'no %%', 7 USING HINT = 'ask "Zo\xc3\xab"', DETAIL = 'so it is'; END $$"""
    for _ in range(2):
        with pytest.raises(errors.RaiseException, match="no 7") as refused:
            either.fetch(query)
        assert refused.value.diag.message_hint == 'ask "Zoë"'
        assert refused.value.diag.message_detail == "so it is"
    assert either.fetch(b"SELECT 1") == [(1,)]


def test_a_connection_that_the_server_ended_is_lost_and_the_next_statement_opens_another(
    rig: Rig, either: Link
) -> None:
    for query in (b"SELECT 1", b"SELECT 'never run before'"):
        assert either.fetch(b"SELECT 1") == [(1,)]
        pid, opened = pid_of(either), either.opened
        assert rig.value("SELECT pg_terminate_backend(%s, 5000)", pid)
        with pytest.raises(LOST):
            either.fetch(query)
        assert either.fetch(query)
        assert pid_of(either) != pid
        assert either.opened == opened + 1


def test_a_connection_that_ends_under_its_statement_is_lost(rig: Rig, either: Link) -> None:
    pid = pid_of(either)
    running = Running(either, b"SELECT pg_sleep(30)")
    eventually(lambda: under_way(rig, pid, "PgSleep"))
    assert rig.value("SELECT pg_terminate_backend(%s, 5000)", pid)
    running.join()
    assert isinstance(running.raised, LOST)
    assert either.fetch(b"SELECT 1") == [(1,)]
    assert pid_of(either) != pid


@pytest.mark.parametrize("prepare", [True, False])
def test_a_statement_without_an_answer_is_cut_off_from_another_thread(rig: Rig, prepare: bool) -> None:
    link = Link(rig.dsn, "cut", prepare=prepare, timeout=5.0)
    pid = pid_of(link)
    assert not link.cut_if_stuck(time.monotonic() + 60.0)
    running = Running(link, b"SELECT pg_sleep(30)")
    eventually(lambda: under_way(rig, pid, "PgSleep"))
    assert not link.cut_if_stuck(time.monotonic())
    assert link.cut_if_stuck(time.monotonic() + 5.0)
    running.join()
    assert isinstance(running.raised, LOST)
    assert not link.cut_if_stuck(time.monotonic() + 60.0)
    assert link.fetch(b"SELECT 1") == [(1,)]
    assert pid_of(link) != pid
    link.close()


def test_a_short_timeout_is_enough_by_itself(rig: Rig) -> None:
    link = Link(rig.dsn, "cut", timeout=0.1)
    running = Running(link, b"SELECT pg_sleep(30)")
    eventually(lambda: link.cut_if_stuck(time.monotonic()))
    running.join()
    assert isinstance(running.raised, LOST)
    assert link.fetch(b"SELECT 1") == [(1,)]
    link.close()


PREPARED = b"""SELECT statement, generic_plans + custom_plans FROM pg_prepared_statements
               WHERE statement LIKE %(like)s ORDER BY statement"""


def test_a_statement_is_prepared_once_however_often_it_runs(rig: Rig) -> None:
    for n in range(20):
        assert rig.link.fetch(b"SELECT %(v)s::int AS mine", {"v": n}) == [(n,)]
        assert rig.link.fetch(b"SELECT 'other' AS mine") == [("other",)]
    expected = [("SELECT $1::int AS mine", 20), ("SELECT 'other' AS mine", 20)]
    assert rig.link.fetch(PREPARED, {"like": "SELECT%mine"}) == expected
    # Another connection knows nothing of it, and begins again.
    rig.link.close()
    assert rig.link.fetch(b"SELECT %(v)s::int AS mine", {"v": 1}) == [(1,)]
    assert rig.link.fetch(PREPARED, {"like": "SELECT%mine"}) == [("SELECT $1::int AS mine", 1)]


def test_a_statement_that_cannot_be_prepared_leaves_its_place_to_the_next(rig: Rig) -> None:
    for name in ("first", "second"):
        with pytest.raises(errors.UndefinedTable):
            rig.link.fetch(b"SELECT * FROM nowhere")
        assert rig.link.fetch(f"SELECT '{name}' AS mine".encode()) == [(name,)]
    assert rig.link.fetch(b"SELECT 'first' AS mine") == [("first",)]


def test_nothing_is_prepared_where_that_is_off(plain: Link) -> None:
    for n in range(20):
        assert plain.fetch(b"SELECT %(v)s::int AS mine", {"v": n}) == [(n,)]
    assert plain.fetch(b"SELECT name FROM pg_prepared_statements") == []


def test_a_name_that_somebody_else_prepared_is_never_run(rig: Rig) -> None:
    """As behind a transaction pooler that was not recognized: the link goes on without prepared statements."""
    rig.link.connection().execute("PREPARE jobqueue_0 AS SELECT 'the wrong statement'")
    assert rig.link.fetch(b"SELECT 'the right one'") == [("the right one",)]
    assert rig.link.connection().prepare_threshold is None
    assert rig.link.fetch(b"SELECT name FROM pg_prepared_statements") == []


def test_a_prepared_statement_that_is_gone_runs_all_the_same(rig: Rig) -> None:
    insert = b"INSERT INTO jobs (kind) VALUES (%(kind)s)"
    rig.link.fetch(insert, {"kind": "first"})
    rig.link.connection().execute("DEALLOCATE ALL")
    rig.link.fetch(insert, {"kind": "second"})
    assert rig.rows("SELECT kind FROM jobs ORDER BY id") == [("first",), ("second",)]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("ADD COLUMN more text DEFAULT 'm'", (1, "a", "m")),
        ("DROP COLUMN word", (1,)),
        ("ALTER COLUMN id TYPE text", ("1", "a")),
    ],
)
def test_a_table_that_was_changed_is_read_as_it_is_then(rig: Rig, change: str, after: tuple[object, ...]) -> None:
    rig.sql.execute("CREATE TABLE things (id int, word text)")
    rig.sql.execute("INSERT INTO things VALUES (1, 'a')")
    for _ in range(2):
        assert rig.link.fetch(b"SELECT * FROM things") == [(1, "a")]
    rig.sql.execute(f"ALTER TABLE things {change}".encode())
    for _ in range(2):
        assert rig.link.fetch(b"SELECT * FROM things") == [after]
        assert rig.link.fetch(b"SELECT count(*) FROM things") == [(1,)]
    assert rig.link.opened == 1


def test_what_the_server_does_not_support_is_an_error(rig: Rig) -> None:
    for _ in range(2):
        with pytest.raises(errors.FeatureNotSupported):
            rig.link.fetch(b"SELECT 1 FROM jobs GROUP BY id FOR UPDATE")


def test_a_text_that_postgres_cannot_hold_is_refused_and_not_cut_short(rig: Rig) -> None:
    with pytest.raises(psycopg.DataError):
        rig.link.fetch(b"SELECT %(v)s::text", {"v": "before\0after"})


def test_the_encoding_of_the_session_changes_nothing(rig: Rig) -> None:
    """A database in LATIN1 gives its sessions that encoding, and so may the address."""
    link = Link(make_conninfo(rig.dsn, client_encoding="latin1"), "latin")
    try:
        rows = link.fetch(b"""SELECT %(v)s::text, length(%(v)s::text), '{"a": "\\u00eb"}'::jsonb""", {"v": "Zoë"})
        assert rows == [("Zoë", 3, {"a": "ë"})]
    finally:
        link.close()
