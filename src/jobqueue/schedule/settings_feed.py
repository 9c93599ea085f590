"""Fetches the backend's settings when somebody asks for them, in one process at a time, and keeps them in the database.

Asking raises a number in the database. Whoever sees that it is larger than the number that was answered may
fetch; one fetch answers every request that was made before it began. A fetch that fails changes nothing: the
last good settings stay, and the next process that looks tries again, after ever longer pauses.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from jobqueue.backoff import Backoff
from jobqueue.errors import JobError
from jobqueue.kernel.loop import Loop
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.meter import Meter
    from jobqueue.schedule.schedules_table import Database
    from jobqueue.schedule.target_caller import Caller

log = get_logger(__name__)

# Seconds that the loop rests unless it is woken.
_REST: Final = 3600.0

# Seconds that a fetch may take before another process may try.
_TURN_SECONDS: Final = 12.0

_BACKOFF: Final = Backoff(first=1.0, longest=300.0, jitter=0.5)

_ASK: Final = b"""
INSERT INTO jobqueue.backend_settings AS s (asked) VALUES (1)
ON CONFLICT (one) DO UPDATE SET asked = s.asked + 1, not_before = CASE
    WHEN s.failures > 0 THEN least(s.not_before, clock_timestamp() + interval '1 second') ELSE s.not_before END"""

# out: the number of the request that is answered.
_TAKE: Final = b"""
UPDATE jobqueue.backend_settings SET not_before = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE asked > answered AND not_before <= clock_timestamp() RETURNING asked"""

# out: whether the settings are others than before.
_KEEP: Final = b"SELECT jobqueue.keep_settings(%(request)s, %(settings)s::jsonb)"

# out: failures in a row, and whether there are good settings from before.
_FAIL: Final = f"""
UPDATE jobqueue.backend_settings SET failures = failures + 1, failed_at = clock_timestamp(), last_error = %(error)s,
    not_before = clock_timestamp() + make_interval(secs => {_BACKOFF.in_sql("failures")})
RETURNING failures, settings IS NOT NULL""".encode()  # noqa: S608 - the expression is ours


def ask_for_settings(database: Database) -> None:
    """Have some process fetch the settings again soon; after failures, within about a second."""
    database.fetch(_ASK)


class SettingsFeed(Loop):
    """The loop that fetches. It asks for settings when it starts; `wake()` it when somebody else has asked."""

    name = "settings"

    def __init__(self, link: Link, meter: Meter, caller: Caller) -> None:
        super().__init__(link, meter)
        self._caller = caller
        self._asked = False

    def turn(self) -> float:
        if not self._asked:
            ask_for_settings(self.link)
            self._asked = True
        taken = self.link.fetch(_TAKE, {"seconds": _TURN_SECONDS})
        if not taken:
            return _REST
        try:
            settings = self._caller.settings()
        except JobError as error:
            failures, kept = self.link.fetch(_FAIL, {"error": str(error)})[0]
            log.warning("backend_settings_failed", error=str(error), failures=failures, last_good_kept=kept)
            return _REST
        params: dict[str, Any] = {"request": taken[0][0], "settings": json.dumps(settings.document())}
        changed = self.link.fetch(_KEEP, params)[0][0]
        log.info("backend_settings_fetched", changed=changed, **settings.document())
        return _REST
