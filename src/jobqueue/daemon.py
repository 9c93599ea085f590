"""The daemon: settings, services, worker, HTTP and signals in one process."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import psycopg

from jobqueue import migrations
from jobqueue.artifacts.cron_run import ArtifactRuns
from jobqueue.database_absence import absence, refusal
from jobqueue.database_session import connect
from jobqueue.errors import ConfigurationError
from jobqueue.hosting.host_app import App, join
from jobqueue.kernel import Worker, WorkerOptions
from jobqueue.kernel.database.link import LOST
from jobqueue.observe.logging import configure_logging, get_logger, log_uncaught_exceptions
from jobqueue.observe.metrics import Metrics
from jobqueue.observe.redact import Redactor
from jobqueue.observe.systemd import SystemdNotifier
from jobqueue.schedule.scheduler import Scheduler
from jobqueue.services import Services
from jobqueue.web.app import create_app
from jobqueue.web.artifact_run import artifact_route
from jobqueue.web.call_gate import CallGate
from jobqueue.web.health import Health
from jobqueue.web.http_server import HttpServer
from jobqueue.web.maintenance_runs import MaintenanceRuns, maintenance_routes
from jobqueue.web.openapi import openapi_route
from jobqueue.web.schedule_endpoints import schedule_routes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from jobqueue.settings import Settings

log = get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

# Seconds between two looks of the main thread at the process's health.
_GLANCE: Final = 1.0

# Seconds for which the database may say nothing when it is asked whether it is ready.
_PATIENCE: Final = 5.0


# Whether a commit of ours has waited for a standby for so long that something is wrong with it.
_WAITING: Final = """
SELECT 1 FROM pg_stat_activity
WHERE wait_event = 'SyncRep' AND usename = session_user AND datname = current_database()
  AND application_name LIKE 'jobqueue:%' AND state_change < clock_timestamp() - interval '5 s' LIMIT 1"""


class Daemon:
    """`jobqueue worker`: works on `queues`, or on all that are configured when it is empty, until it is told to stop.

    With `apps` of a host's program all that are configured are theirs, and `jobs`.
    """

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[str] = (),
        *,
        concurrency: int | None = None,
        apps: Sequence[App] = (),
    ) -> None:
        """Raises ConfigurationError when a queue is unknown, its variables are missing, or something in an app is wrong."""
        self._metrics = Metrics()
        self._scheduler = Scheduler(settings, self._metrics, concurrency=concurrency or settings.concurrency)
        redactor = Redactor([*settings.secrets(), *self._scheduler.secrets()])
        configure_logging(settings.log_level, settings.log_format, redactor)
        log_uncaught_exceptions()
        self._settings = settings
        self._services = Services(settings, self._metrics, concurrency or settings.concurrency, self._scheduler.kinds)
        own = join(apps, self._scheduler.kinds) if apps else None
        options = WorkerOptions(
            settings.conninfo,
            settings.direct_conninfo,
            pooled=settings.pooled,
            concurrency=concurrency or settings.concurrency,
            lease_seconds=settings.lease_seconds,
            poll_seconds=settings.worker_poll_interval / 1000,
        )
        self._worker = Worker(
            options, self._services.queues(queues, own), metrics=self._metrics, redact=redactor.redact
        )
        artifacts = self._services.artifacts
        self._artifact_runs = (
            None
            if artifacts is None
            else ArtifactRuns(
                replace(options, name=f"cron@{self._worker.name}"),
                artifacts,
                self._metrics,
                redact=redactor.redact,
                restore=lambda: self._metrics.worker_concurrency.set(options.concurrency),
            )
        )
        self._maintenance_runs = MaintenanceRuns(self._services.maintenance)
        self._notifier = SystemdNotifier()
        self._health = Health()
        # A loop that fails is told, and goes on trying; the process ends itself only for one that stands still.
        self._health.add_liveness("loops", lambda: self._worker.stuck() or self._worker.failing())
        self._health.add_liveness("schedules", lambda: self._scheduler.stuck() or self._scheduler.failing())
        self._health.add_readiness("draining", lambda: "the worker is draining" if self._worker.draining else None)
        self._health.add_readiness("database", self._check_database)
        self._health.add_note("paused", lambda: self._worker.paused)
        self._health.add_note(
            "stuck", lambda: [f"{name}: {count}" for name, count in self._worker.stuck_handlers.items()]
        )
        self._signals = 0

    def run(self) -> int:
        """Work until SIGTERM or SIGINT, then drain; returns the exit code. Call it in the main thread.

        Raises ConfigurationError when the database's server does not let us in, or the port cannot be had.
        """
        signals = self._catch_signals()
        server = self._serve()
        try:
            self._worker.start()
        except LOST as error:
            if server is not None:
                server.stop(2.0)
            _refuse(error)
            log.info("stopped_before_start")
            return 0
        self._scheduler.start()
        self._notifier.ready("working")
        code = self._watch(signals, server)
        self._scheduler.stop()
        self._metrics.worker_draining.set(1)
        self._notifier.stopping("draining")
        self._notifier.extend_timeout(self._settings.drain_timeout + 30)
        finished = self._worker.drain(self._settings.drain_timeout)
        if self._artifact_runs is not None:
            finished = self._artifact_runs.stop() and finished
        self._maintenance_runs.stop()
        if server is not None:
            server.stop(2.0)
        return self._leave(code, finished)

    def _leave(self, code: int, finished: bool) -> int:
        self._services.close()
        self._scheduler.close()
        log.info("stopped", finished=finished)
        if not finished:
            # Nothing can stop the threads of handlers that did not notice the end; their jobs are released.
            sys.stdout.flush()
            os._exit(code)
        return code

    def run_once(self) -> int:
        """Work on everything that is due and return the exit code.

        Raises ConfigurationError when the database's server does not let us in.
        """
        self._catch_signals()
        try:
            finished = self._worker.run_once(stop=lambda: self._signals > 0, drain_seconds=self._settings.drain_timeout)
        except LOST as error:
            _refuse(error)
            return 0
        return self._leave(0, finished)

    def _catch_signals(self) -> socket.socket:
        """Count signals from now on; returns a socket that becomes readable when one arrives.

        The handler takes no lock: it may interrupt the main thread while that holds one.
        """

        def told(_number: int, _frame: FrameType | None) -> None:
            self._signals += 1
            if self._signals > 1 or not self._worker.started:
                self._worker.hurry()

        reader, writer = self._woken_by = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, told)
        return reader

    def _serve(self) -> HttpServer | None:
        if self._settings.port == 0:
            return None
        gate = CallGate(self._metrics, self._settings.cron_allowed_cidrs)
        routes = schedule_routes(self._settings, self._scheduler.kinds, gate)
        routes += [openapi_route(), *maintenance_routes(self._maintenance_runs, self._settings.cron_job_api_key, gate)]
        if self._artifact_runs is not None:
            routes.append(artifact_route(self._artifact_runs.run, self._settings.cron_secret, gate))
        app = create_app(self._health, self._metrics, routes)
        server = HttpServer(
            app, self._settings.http_host, self._settings.port, trusted_proxies=self._settings.trusted_proxies
        )
        server.start()
        return server

    def _check_database(self) -> str | None:
        try:
            with connect(self._settings.conninfo, "ready", silence=_PATIENCE) as connection:
                if connection.execute("SELECT current_setting('transaction_read_only')").fetchone() != ("off",):
                    reason = connection.refuses_writes
                    return f"the database is read-only ({reason})" if reason else "the database is read-only"
                if connection.execute(_WAITING).fetchone() is not None:
                    return "commits wait for a synchronous standby that does not answer"
                missing = migrations.pending_in(connection)
        except psycopg.OperationalError as error:
            if refusal(error) is not None:
                # What was refused names the role.
                return "the database refuses the role or the password of DATABASE_URL: see the log"
            return absence(error)
        except migrations.MigrationError as error:
            return str(error)
        return f"{len(missing)} migrations are missing: run `jobqueue migrate`" if missing else None

    def _watch(self, signals: socket.socket, server: HttpServer | None) -> int:
        """Wait for a signal, and answer systemd's watchdog while the loops turn; returns the exit code.

        A process that makes no progress, or whose HTTP server has ended, ends: its manager starts another.
        """
        interval = self._notifier.watchdog_interval
        answered_at = -1e9
        while not self._signals:
            select.select([signals], [], [], min(_GLANCE, interval or _GLANCE))
            reason = self._worker.stuck() or self._scheduler.stuck()
            if reason is None and server is not None and not server.alive:
                reason = "the HTTP server has ended"
            if reason is not None:
                log.error("stuck", reason=reason)
                return 1
            if interval is not None and time.monotonic() - answered_at >= interval / 2:
                self._notifier.watchdog()
                answered_at = time.monotonic()
        return 0


def _refuse(error: BaseException) -> None:
    """Raise ConfigurationError where the database's server does not let us in. When it did before, the loops keep trying."""
    if said := refusal(error):
        raise ConfigurationError([f"DATABASE_URL is refused by its server: {said}"]) from error
