"""The table `schedules`. Only this module knows its statements. Every method is one statement and one transaction."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from jobqueue.schedule.backend_settings import BackendSettings, read_settings
from jobqueue.schedule.due_ticks import Policy
from jobqueue.schedule.schedule_rules import make_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobqueue.schedule.due_ticks import Tick
    from jobqueue.schedule.schedule_rules import Rule
    from jobqueue.schedule.schedules_file import ScheduleEntry

# out: the columns of Schedule. Who waits for a time before all times, -infinity, waits for none: he is given his next one.
_LOAD: Final = b"""
SELECT name, cron, every_seconds, coalesce(timezone, 'UTC') AS timezone, scaled, coalesce(kind, '') AS kind,
       coalesce(payload, '{}') AS payload, missed, grace_seconds, catch_up, overlap, jitter_seconds,
       coalesce(enabled, true) AS enabled, paused_at, paused_by, removed_at, last_tick_at,
       CASE WHEN next_tick_at >= '0001-01-02 00:00+00' THEN next_tick_at END AS next_tick_at, revision, source
FROM public.schedules"""
_LOAD_ALL: Final = _LOAD + b" ORDER BY name"
_LOAD_NAMED: Final = _LOAD + b" WHERE name = ANY (%(names)s) ORDER BY name"

# out: the columns of Glance. Whatever changes a definition changes the digest; ticking does not.
_LOOK: Final = b"""
SELECT clock_timestamp() AS now,
       (SELECT coalesce(sum(hashtextextended(name, revision)), 0)::text FROM public.schedules) AS digest,
       coalesce(asked > answered, false) AS settings_wanted,
       coalesce(greatest(0, extract(epoch FROM not_before - clock_timestamp())), 0)::float8 AS wait
FROM (VALUES (1)) AS one (row) LEFT JOIN jobqueue.backend_settings ON true"""

_SETTINGS: Final = b"SELECT settings FROM jobqueue.backend_settings WHERE settings IS NOT NULL"

# out: the names of what changed.
_SYNC: Final = b"SELECT * FROM jobqueue.sync_schedules(%(entries)s::jsonb)"

# out: the columns of Fired.
_FIRE: Final = b"SELECT * FROM jobqueue.fire_ticks(%(proposals)s::jsonb)"

_CALL: Final = b"SELECT jobqueue.call_schedule(%(name)s, %(revision)s, %(at)s, %(ends)s, %(by)s)"

_PAUSE: Final = b"""
UPDATE public.schedules SET paused_at = clock_timestamp(), paused_by = %(by)s
WHERE name = %(name)s AND paused_at IS NULL RETURNING name"""

_RESUME: Final = b"""
UPDATE public.schedules SET paused_at = NULL, paused_by = NULL
WHERE name = %(name)s AND paused_at IS NOT NULL RETURNING name"""

_ARM: Final = b"""
UPDATE public.schedules AS s SET next_tick_at = armed.tick
FROM unnest(%(names)s::text[], %(revisions)s::bigint[], %(ticks)s::timestamptz[]) AS armed (name, revision, tick)
WHERE s.name = armed.name AND s.revision = armed.revision AND coalesce(s.next_tick_at, '-infinity') < '0001-01-02 00:00+00'
  AND s.enabled AND s.paused_at IS NULL"""

# out: the columns of Success.
_SUCCESSES: Final = b"""
SELECT schedule AS name, extract(epoch FROM max(finished_at))::float8 AS seconds, max(finished_at) AS at
FROM jobqueue.schedule_ticks
WHERE state = 'completed' AND isfinite(finished_at) AND (%(since)s::timestamptz IS NULL OR finished_at > %(since)s::timestamptz)
GROUP BY schedule"""

# out: the schedule's name, then the columns of Run.
_LAST_RUNS: Final = b"""
SELECT name, t.tick, t.slot, t.state, t.called_by, t.stands_for, t.job_id, t.fired_at,
       CASE WHEN isfinite(t.finished_at) AND isfinite(t.started_at)
            THEN extract(epoch FROM t.finished_at - t.started_at)::float8 END AS seconds, t.attempts, t.http_status, t.error_message
FROM unnest(%(names)s::text[]) AS name
CROSS JOIN LATERAL (SELECT * FROM jobqueue.schedule_ticks AS s
                    WHERE s.schedule = name ORDER BY s.tick DESC, s.slot LIMIT %(limit)s) AS t"""

# out: the columns of Feed.
_FEED: Final = b"SELECT fetched_at, failures, failed_at, last_error FROM jobqueue.backend_settings"


class Database(Protocol):
    """Runs statements, each in a transaction of its own, as a kernel Link does."""

    def fetch(self, query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of one statement."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One row of the table."""

    name: str
    cron: str | None
    every_seconds: int | None
    timezone: str
    scaled: bool
    kind: str
    payload: Mapping[str, Any]
    missed: str
    grace_seconds: int
    catch_up: int
    overlap: str
    jitter_seconds: int
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    removed_at: datetime | None
    last_tick_at: datetime | None
    next_tick_at: datetime | None
    revision: int
    source: str

    def rule(self, settings: BackendSettings | None) -> Rule | None:
        """When the schedule ticks; None while it is scaled and the backend's settings are unknown or switch it off.

        Raises ValueError for a row whose rule is malformed.
        """
        if not self.scaled:
            return make_rule(self.cron, self.every_seconds, self.timezone)
        if self.every_seconds is None:
            raise ValueError("scaled is for entries with every")
        multiplier = None if settings is None else settings.multiplier
        return None if multiplier is None else make_rule(None, self.every_seconds * multiplier, self.timezone)

    @property
    def policy(self) -> Policy:
        """What becomes of missed ticks."""
        return Policy(self.missed, timedelta(seconds=self.grace_seconds), self.catch_up)  # type: ignore[arg-type] # a constraint of the table


@dataclass(frozen=True, slots=True)
class Glance:
    """What a process looks at once a second: `now` by the database's clock, and the `digest` of all definitions.

    Somebody may want the backend's settings fetched, after a `wait` in seconds.
    """

    now: datetime
    digest: str
    settings_wanted: bool
    wait: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Ticks of a schedule that waits for `expected`, and when it ticks `next`."""

    schedule: Schedule
    expected: datetime
    ticks: Sequence[Tick]
    next: datetime | None


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of a proposal: an outcome for each tick, None when somebody else was first; and the row as it is now."""

    name: str
    outcomes: list[str] | None
    revision: int | None
    next_tick_at: datetime | None


@dataclass(frozen=True, slots=True)
class Armed:
    """The first tick of a schedule that waits for none, by the rule of its `revision`."""

    revision: int
    tick: datetime


class Success(NamedTuple):
    """When the schedule `name` last ran well: in seconds since 1970, and as a time."""

    name: str
    seconds: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one tick. Its last attempt took so many `seconds`."""

    tick: datetime
    slot: str
    state: str
    called_by: str | None
    stands_for: int
    job_id: str | None
    fired_at: datetime
    seconds: float | None
    attempts: int | None
    http_status: int | None
    error_message: str | None

    def document(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Feed:
    """How fetching the backend's settings went lately: `failures` in a row, and why the last one failed."""

    fetched_at: datetime | None
    failures: int
    failed_at: datetime | None
    last_error: str | None

    def document(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)


class Schedules:
    """Reads and ticks the schedules of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def look(self) -> Glance:
        """The database's clock, and whether anything has changed."""
        return Glance(*self._fetch(_LOOK)[0])

    def load(self, names: Sequence[str] | None = None) -> list[Schedule]:
        """All rows, or those of `names`, in the order of their names."""
        rows = self._fetch(_LOAD_ALL) if names is None else self._fetch(_LOAD_NAMED, {"names": list(names)})
        return [Schedule(*row) for row in rows]

    def settings(self) -> BackendSettings | None:
        """The last good settings of the backend; None when there never were any."""
        rows = self._fetch(_SETTINGS)
        return read_settings(rows[0][0]) if rows else None

    def sync(self, entries: Sequence[ScheduleEntry]) -> list[str]:
        """Bring a file's entries into the table and stop what it no longer has; returns the names of what changed."""
        document = json.dumps([entry.document() for entry in entries])
        rows = self._fetch(_SYNC, {"entries": document})
        return sorted(name for (name,) in rows)

    def arm(self, armed: Mapping[str, Armed]) -> None:
        """Set the next tick of schedules that wait for none, by name. A row of another revision is left as it is."""
        names = sorted(armed)
        params = {
            "names": names,
            "revisions": [armed[name].revision for name in names],
            "ticks": [armed[name].tick for name in names],
        }
        self._fetch(_ARM, params)

    def fire(self, proposals: Sequence[Proposal]) -> list[Fired]:
        """Propose ticks. Each becomes a job unless somebody else was first or the schedule forbids it."""
        document = [
            {
                "name": proposal.schedule.name,
                "revision": proposal.schedule.revision,
                "expected": proposal.expected.isoformat(),
                "ticks": [tick.document() for tick in proposal.ticks],
                "next": None if proposal.next is None else proposal.next.isoformat(),
            }
            for proposal in proposals
        ]
        return [Fired(*row) for row in self._fetch(_FIRE, {"proposals": json.dumps(document)})]

    def call(self, schedule: Schedule, at: datetime, ends: datetime | None, by: str) -> str:
        """Ask for a run beside the ticking; returns the word of jobqueue.call_schedule for what became of it."""
        params = {"name": schedule.name, "revision": schedule.revision, "at": at, "ends": ends, "by": by}
        return str(self._fetch(_CALL, params)[0][0])

    def pause(self, name: str, by: str) -> bool:
        """Pause a schedule until it is resumed; returns whether it was not paused before."""
        return bool(self._fetch(_PAUSE, {"name": name, "by": by}))

    def resume(self, name: str) -> bool:
        """Let a schedule tick again, from now on; returns whether it was paused."""
        return bool(self._fetch(_RESUME, {"name": name}))

    def successes(self, since: datetime | None) -> list[Success]:
        """When each schedule last ran well, of those that did after `since`."""
        return [Success(*row) for row in self._fetch(_SUCCESSES, {"since": since})]

    def last_runs(self, names: Sequence[str], limit: int = 5) -> dict[str, list[Run]]:
        """What became of the last `limit` ticks of each schedule, the newest first."""
        found: dict[str, list[Run]] = {}
        for name, *run in self._fetch(_LAST_RUNS, {"names": list(names), "limit": limit}):
            found.setdefault(name, []).append(Run(*run))
        return found

    def feed(self) -> Feed:
        """How fetching the backend's settings went lately."""
        rows = self._fetch(_FEED)
        return Feed(*rows[0]) if rows else Feed(None, 0, None, None)

    def _fetch(self, query: bytes, params: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.database.fetch(query, params)
