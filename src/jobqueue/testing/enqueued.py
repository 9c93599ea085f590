"""Asserts that a job was enqueued, as the host's own transaction sees it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, overload

from jobqueue.enqueueing.host_connections import AsyncHost, Query, Steps, run
from jobqueue.enqueueing.payloads import encode

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jobqueue.kernel.job import JobId

# As text, so that no library makes anything of it.
_PENDING: Final = (
    "SELECT CAST(coalesce(json_agg(job ORDER BY job.id), '[]') AS text) FROM (SELECT * FROM public.jobs"
    " WHERE kind = %(kind)s AND status = 'pending' ORDER BY id DESC LIMIT 1000) AS job"
)

# Jobs that a message shows.
_SHOWN: Final = 5


@overload
def assert_enqueued(
    host: AsyncHost, kind: str, payload: object = None, **columns: object
) -> Coroutine[Any, Any, JobId]: ...
@overload
def assert_enqueued(host: object, kind: str, payload: object = None, **columns: object) -> JobId: ...
def assert_enqueued(host: object, kind: str, payload: object = None, **columns: object) -> Any:
    """The id of the first pending job of `kind` with this payload and these columns; await it where the host is async.

    `host` is what `jobqueue.enqueue` takes: a transaction sees what it enqueued itself. The job's payload may have more than
    `payload` says, which is what `jobqueue.enqueue` takes too. `columns` are compared with the row's: `unique_key="k"`,
    `priority=9`, `run_after=moment`.

    Raises AssertionError, which shows the jobs of that kind, and ValueError for a column that the table does not have.
    """
    return run(host, _steps(kind, json.loads(encode(payload)), columns))


def _steps(kind: str, payload: Mapping[str, object], columns: Mapping[str, object]) -> Steps:
    found: list[dict[str, Any]] = json.loads(str((yield Query(_PENDING, {"kind": kind}))))
    for job in found:
        if unknown := [name for name in columns if name not in job]:
            raise ValueError(f"the table jobs has no column {', '.join(map(repr, unknown))}")
        if _contains(job["payload"], payload) and all(_equal(job[name], value) for name, value in columns.items()):
            return job["id"]
    wanted = ", ".join(f"{name} = {value!r}" for name, value in {"payload": payload, **columns}.items())
    shown = "".join(
        f"\n  {', '.join(f'{name} = {job[name]!r}' for name in ('id', 'payload', *columns))}" for job in found[:_SHOWN]
    )
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    there = f"the pending ones of that kind are:{shown}{more}" if found else "no job of that kind is pending"
    raise AssertionError(f"no job {kind!r} with {wanted} is enqueued: {there}")


def _contains(there: object, wanted: object) -> bool:
    """Whether all that is wanted is there; an object may have more, at any depth."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            key in there and _contains(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(_contains(a, b) for a, b in zip(there, wanted, strict=True))
        )
    return isinstance(there, bool) == isinstance(wanted, bool) and there == wanted


def _equal(there: object, wanted: object) -> bool:
    if isinstance(wanted, datetime) and isinstance(there, str):
        return datetime.fromisoformat(there) == wanted
    return there == wanted or (isinstance(there, str) and there == str(wanted))
