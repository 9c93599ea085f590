"""Enqueues a job of the general queue within the host's own transaction."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, overload

from jobqueue.enqueueing.host_connections import AsyncHost, Query, Steps, run
from jobqueue.enqueueing.payloads import encode

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jobqueue.kernel.job import JobId

# An insert that became a pending twin returns no row. The twin stays locked until the host's transaction ends, which our lock on
# it shows: others' are passed over. A role that only enqueues may neither lock it nor read which one it is.
_RIGHTS: Final = (
    "SELECT CASE WHEN NOT (has_column_privilege('public.jobs', 'status', 'SELECT')"
    " AND has_column_privilege('public.jobs', 'unique_key', 'SELECT')) THEN 'none'"
    " WHEN has_any_column_privilege('public.jobs', 'UPDATE') THEN 'lock' ELSE 'read' END"
)
_READ: Final = (
    "SELECT id FROM public.jobs WHERE (status = 'pending') IS TRUE AND unique_key = %(unique_key)s ORDER BY id LIMIT 1"
)
_LOCK: Final = f"{_READ} FOR NO KEY UPDATE SKIP LOCKED"

# Without a transaction the twin may be claimed between two statements. Then the job is a new one, as if it had come later.
_ATTEMPTS: Final = 5

_SMALLEST, _LARGEST = -(2**31), 2**31 - 1


@overload
def enqueue(
    host: AsyncHost,
    kind: str,
    payload: object = None,
    *,
    run_after: datetime | timedelta | None = None,
    unique_key: str | None = None,
    priority: int | None = None,
) -> Coroutine[Any, Any, JobId]: ...
@overload
def enqueue(
    host: object,
    kind: str,
    payload: object = None,
    *,
    run_after: datetime | timedelta | None = None,
    unique_key: str | None = None,
    priority: int | None = None,
) -> JobId: ...
def enqueue(
    host: object,
    kind: str,
    payload: object = None,
    *,
    run_after: datetime | timedelta | None = None,
    unique_key: str | None = None,
    priority: int | None = None,
) -> Any:
    """Insert a job of `kind` into the table `jobs`, in the transaction of `host`, and return its id; await it where the host is async.

    `host` is a connection, a cursor or a session: of psycopg, SQLAlchemy (both also async) or Django, or a DB-API cursor. The
    job exists when the host's transaction commits, and never when it does not. `payload` is a dict, a dataclass or a pydantic
    model. `run_after` is a time with a zone, or a timedelta from now on the database's clock. A higher `priority` is claimed
    first; 5 without one.

    Of two pending jobs with one `unique_key` the second becomes the first: then the id is that of the job which was there, and
    its payload stays. It does not begin before the host's transaction ends. Two transactions that do not see each other get a
    job each, of which the one that is claimed later ends `cancelled`; `wait` follows it to the other.

    A role that may only insert, and read ids, is enough; to it the id of such a twin is None, which it may not look for.

    Raises TypeError and ValueError before anything is sent, with a sentence that names the value, and whatever the host's
    library raises.
    """
    columns = {"kind": "%(kind)s", "payload": "CAST(%(payload)s AS jsonb)"}
    values: dict[str, object] = {"kind": _text("kind", kind), "payload": encode(payload)}
    if run_after is not None:
        columns["run_after"], values["run_after"] = _moment(run_after)
    if unique_key is not None:
        columns["unique_key"], values["unique_key"] = "%(unique_key)s", _text("unique_key", unique_key)
    if priority is not None:
        columns["priority"], values["priority"] = "CAST(%(priority)s AS int)", _number("priority", priority)
    names = ", ".join(columns)
    # Names and values are ours; what the host gives is a parameter.
    insert = f"INSERT INTO public.jobs ({names}) VALUES ({', '.join(columns.values())}) RETURNING id"  # noqa: S608
    return run(host, _steps(Query(insert, values)))


def _steps(insert: Query) -> Steps:
    unique_key = insert.values.get("unique_key")
    for _ in range(_ATTEMPTS):
        if (id_ := (yield insert)) is not None:
            return id_
        if unique_key is None:
            break
        if (rights := (yield Query(_RIGHTS, {}))) == "none":
            return None
        if (id_ := (yield Query(_LOCK if rights == "lock" else _READ, {"unique_key": unique_key}))) is not None:
            return id_
    raise RuntimeError("the insert into jobs returned no row: a trigger of the table's, or a rule, kept it away")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__qualname__}: it must be a string")
    if not value or "\0" in value:
        raise ValueError(f"{name} is {value!r}: it must not be empty or contain a NUL")
    return str(value)


def _number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__qualname__}: it must be a whole number")
    if not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"{name} is {value}: it must be from {_SMALLEST} to {_LARGEST}")
    return int(value)


def _moment(value: object) -> tuple[str, datetime | timedelta]:
    match value:
        case timedelta():
            return "now() + CAST(%(run_after)s AS interval)", value
        case datetime() if value.utcoffset() is not None:
            return "CAST(%(run_after)s AS timestamptz)", value
        case datetime():
            raise ValueError(
                f"run_after is {value.isoformat()}, without a time zone: give one, as datetime.now(UTC) has it"
            )
    raise TypeError(f"run_after is a {type(value).__qualname__}: it must be a datetime with a time zone or a timedelta")
