"""The schedules of one process: its kinds of work, its targets, and the loops that tick and fetch settings."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from jobqueue.errors import ConfigurationError
from jobqueue.kernel.database.link import Link
from jobqueue.kernel.loop import find_failing, find_stuck
from jobqueue.kernel.meter import Meter
from jobqueue.kinds import Kinds, heartbeat, put_off_while_away
from jobqueue.observe.logging import get_logger
from jobqueue.retention.finished_jobs import FinishedJobs
from jobqueue.schedule.schedules_file import read_plan
from jobqueue.schedule.settings_feed import SettingsFeed
from jobqueue.schedule.target_caller import Caller
from jobqueue.schedule.targets import POST, open_targets, secrets_of
from jobqueue.schedule.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobqueue.kernel.loop import Loop
    from jobqueue.observe.metrics import Metrics
    from jobqueue.schedule.schedules_file import ScheduleEntry
    from jobqueue.settings import Settings

log = get_logger(__name__)

# Seconds after which a statement without an answer is given up: a peer that went silent never answers.
_ANSWER: Final = 15.0


class _Signature(NamedTuple):
    """Identifies the file's version. The inode counts because a mounted file is often replaced as a whole."""

    inode: int
    size: int
    mtime_ns: int


class Scheduler:
    """Runs the schedules of one process. Register handlers in `kinds` before `start`."""

    def __init__(
        self, settings: Settings, metrics: Metrics, *, concurrency: int = 4, environ: Mapping[str, str] | None = None
    ) -> None:
        """Raises ConfigurationError when SCHEDULES_FILE, or a variable that one of its targets needs, is missing or wrong."""
        self._settings = settings
        self._metrics = metrics
        self._read = self._signature()
        self._plan = read_plan(settings.schedules_file, max_retries=settings.max_retries)
        self._targets = open_targets(settings, self._plan.targets, os.environ if environ is None else environ)
        self._caller = Caller(self._targets, connections=concurrency)
        self._loops: list[Loop] = []
        self._links: list[Link] = []
        self._stopped = threading.Event()
        self.kinds = Kinds(metrics)
        self.kinds.register("heartbeat", heartbeat)
        self.kinds.register(
            "job-retention", put_off_while_away(FinishedJobs(settings.conninfo, settings.retention_days).run)
        )
        self.kinds.register(POST, self._caller.post, when=self._caller.serves)

    def secrets(self) -> list[str]:
        """The secrets of targets, which no output may hold."""
        return secrets_of(self._targets)

    def start(self) -> None:
        """Start the loops. A process that neither schedules nor has a backend has none."""
        primary = self._settings.scheduler_is_primary
        meter = Meter(self._metrics, [])
        feed = None
        if self._caller.has_backend:
            feed = SettingsFeed(self._link("settings", direct=False), meter, self._caller)
            self._loops.append(feed)
        if primary or feed is not None:
            entries = self._plan.entries if primary else None
            ticker = Ticker(
                self._link("schedule", direct=True),
                meter,
                entries,
                lambda schedule: self.kinds.serves(schedule.kind, schedule.payload),
                feed.wake if feed is not None else lambda: None,
                self._reread,
            )
            self._loops.append(ticker)
        for loop in self._loops:
            loop.start()
        if self._loops:
            threading.Thread(target=self._watch, name="jobqueue-schedule-watch", daemon=True).start()

    def stop(self) -> None:
        """End the loops: they propose no more ticks. Waits about a second for each at most."""
        for loop in self._loops:
            loop.stop()
        for loop in self._loops:
            loop.join(1.0)
        self._stopped.set()

    def close(self) -> None:
        """Close connections that are kept open."""
        self._caller.close()

    def stuck(self) -> str | None:
        """Why schedules make no progress, or None. The database's absence is no reason: it comes back."""
        return find_stuck(self._loops)

    def failing(self) -> str | None:
        """Which loop has failed at every turn for a minute, and why; None when all get on."""
        return find_failing(self._loops)

    def _signature(self) -> _Signature | None:
        """The version of the file that is there now; None when there is none."""
        file = self._settings.schedules_file
        if file is None:
            return None
        try:
            found = file.stat()
        except OSError:
            return None
        return _Signature(found.st_ino, found.st_size, found.st_mtime_ns)

    def _reread(self) -> Sequence[ScheduleEntry] | None:
        """The entries of the file when it has changed and can be used, else None. Reads it once for each change."""
        signature = self._signature()
        if signature is None or signature == self._read:
            return None
        self._read = signature
        try:
            plan = read_plan(self._settings.schedules_file, max_retries=self._settings.max_retries)
        except ConfigurationError as error:
            log.error("schedules_file_refused", problems=error.problems)
            return None
        if plan.targets != self._plan.targets:
            # Secrets are read at the start: what keeps secrets out of logs learns of them only then.
            log.error("schedules_file_refused", problems=["its targets have changed: restart to use them"])
            return None
        log.info("schedules_file_read", schedules=len(plan.entries))
        return plan.entries

    def _watch(self) -> None:
        """Cut connections whose statement has had no answer for too long, so that their loops open others."""
        while not self._stopped.wait(0.5):
            for link in self._links:
                if link.cut_if_stuck(time.monotonic()):
                    log.warning("connection_cut", reason="no answer in time")

    def _link(self, name: str, *, direct: bool) -> Link:
        settings = self._settings
        if direct:
            # LISTEN needs a session. Behind a transaction pooler no notification comes, and one look a second serves.
            link = Link(settings.direct_conninfo, name, prepare=False, timeout=_ANSWER)
        else:
            link = Link(settings.conninfo, name, prepare=not settings.pooled, timeout=_ANSWER)
        self._links.append(link)
        return link
