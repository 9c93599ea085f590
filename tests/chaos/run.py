"""One run: a site, a fleet, work at a rate and faults by plan; then fair weather, until all is done; then the ledger."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from tests.chaos.enqueue import Host
from tests.chaos.fleet import Fleet
from tests.chaos.helpers import Database, Site
from tests.chaos.injector import Injector
from tests.chaos.ledger import Ledger
from tests.chaos.plan import make_plan
from tests.chaos.rate import measure
from tests.chaos.schema import SCHEMA
from tests.chaos.work import Work
from tests.faults.proxy import Proxy

from jobqueue.demo.leash import reachable_folder, unprivileged_user
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

_LEFT = """
SELECT (SELECT count(*) FROM jobs WHERE status IN ('pending', 'processing'))
     + (SELECT count(*) FROM publish_jobs WHERE status IN ('pending', 'processing'))
     + (SELECT count(*) FROM webhook_deliveries WHERE status IN ('pending', 'processing'))
     + (SELECT count(*) FROM download_artifacts WHERE status IN ('PENDING', 'GENERATING') OR upload_key IS NOT NULL)
     + (SELECT count(*) FROM jobqueue.webhook_attempts) AS n"""

# What waits for another attempt runs at once, as an operator would have it after an outage.
_HURRY = """
WITH one AS (UPDATE jobs SET run_after = now() WHERE status = 'pending' AND run_after > now() AND kind = 'chaos'),
     two AS (UPDATE publish_jobs SET run_after = now() WHERE status = 'pending' AND run_after > now()),
     three AS (UPDATE webhook_deliveries SET run_after = now() WHERE status = 'pending' AND run_after > now())
UPDATE download_artifacts SET run_after = now() WHERE status = 'PENDING' AND run_after > now()"""

_NO_MORE_TICKS = "UPDATE schedules SET paused_at = coalesce(paused_at, now())"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to run: `jobs` pieces of work and faults for `seconds`, with `workers`, half of them behind a proxy.

    `lease` is LEASE_SECONDS; `batch` the number of jobs of each of `rounds` measurements, before and after; `patience` how many
    seconds all work may take to end when the faults are over. `forgotten_after` is as the proxies have it.
    """

    seed: int
    seconds: float
    jobs: int
    workers: int = 4
    concurrency: int = 4
    lease: int = 15
    forgotten_after: float = 20.0
    batch: int = 10_000
    rounds: int = 15
    patience: float = 300.0


@dataclass
class Report:
    """`problems` is empty when the ledger is exact.

    Rates are of batches: before the faults, after them, and, in turn with those, of a fleet that met none.
    """

    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    logs: Path | None = None

    def recovered(self) -> dict[str, float]:
        """What the rate after the faults is of others, by name.

        Before the faults the machine may have been less busy: of each the fastest batch is taken, which was disturbed least. Batches
        of the fleet that met none are neighbours in time: each has its own ratio, and the middle one is taken.
        """
        found = {"the same fleet before them (fastest batches)": max(self.after) / max(self.before)}
        if self.fresh:
            pairs = [after / fresh for after, fresh in zip(self.after, self.fresh, strict=True)]
            found["a fleet that met none (median of pairs)"] = median(pairs)
        return found


class Run:
    """Runs `options`; `say` is told what happens as it happens."""

    def __init__(self, options: Options, say: Say = print) -> None:
        self._options = options
        self._say = say
        self._report = Report()

    def run(self) -> Report:
        """The report. The folder with the logs is kept when something is off."""
        options, report = self._options, self._report
        plan = make_plan(
            options.seed, options.seconds, workers=options.workers, proxied=options.workers // 2, lease=options.lease
        )
        self._say(f"The plan of seed {options.seed}: {len(plan)} faults in {options.seconds:.0f} s")
        for fault in plan:
            self._say(str(fault))
        folder = reachable_folder("jobqueue-chaos-", unprivileged_user())
        self._say(f"Logs are in {folder}")
        try:
            with ExitStack() as stack:
                work = Work(options.seed, options.jobs)
                site = stack.enter_context(
                    Site(
                        folder,
                        work,
                        proxied=options.workers // 2,
                        seed=options.seed,
                        forgotten_after=options.forgotten_after,
                    )
                )
                environments = [
                    site.environment(number, lease=options.lease, concurrency=options.concurrency)
                    for number in range(options.workers)
                ]
                fleet = stack.enter_context(Fleet(folder, environments))
                fleet.wait_until_started()
                report.before = [self._rate(site.database, f"before {n}") for n in range(options.rounds)]
                self._say_rates("before the faults", report.before)
                injector = Injector(plan, site, fleet, self._say)
                self._work(site, work, fleet, injector)
                self._say("The faults are over")
                self._drain(site, fleet)
                self._compare(site, folder)
                # The last of them to be told could make one more tick, when nobody is left to run its job.
                site.database.rows(_NO_MORE_TICKS)
                self._drain(site, fleet)
                fleet.end()
                ledger = Ledger(site, work, fleet.executions)
                ledger.check()
                report.problems += fleet.problems + ledger.problems
                report.lines += [f"{'faults':58} {dict(injector.done)}", *ledger.lines]
                met = {name: sum(weather.met.values()) for name, weather in site.weather.items()}
                report.lines.append(f"{'requests that failed, by server':58} {met}")
                report.lines.append(f"{'starts of workers':58} {sum(member.starts for member in fleet.members)}")
                report.lines += [
                    f"{'logged: ' + event:58} {n}" for event, n in sorted(fleet.complaints().items()) if event
                ]
        except BaseException:
            report.logs = folder
            self._say(f"the run broke off; its logs are kept in {folder}")
            raise
        if report.problems:
            report.logs = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
        return report

    def _rate(self, database: Database, name: str) -> float:
        return measure(database, self._options.batch, name)

    def _say_rates(self, when: str, rates: list[float]) -> None:
        self._say(f"jobs/s {when}: {', '.join(f'{rate:,.0f}' for rate in rates)}; load {os.getloadavg()[0]:.1f}")

    def _compare(self, site: Site, folder: Path) -> None:
        """Measure the fleet after the faults; and in turn with it one that met none, on a database that is new.

        The machine may be busier now than it was before: what is measured at the same time has the same machine.
        """
        options, report = self._options, self._report
        if options.rounds == 1:
            report.after = [self._rate(site.database, "after")]
            return
        with ExitStack() as stack:
            dsn = site.servers.primary.create_database("fresh")
            migrate(dsn)
            database = stack.enter_context(Database(dsn))
            # What the host notes of every outcome costs both the same.
            database.rows(SCHEMA)
            environments = [
                site.environment(n, lease=options.lease, concurrency=options.concurrency)
                for n in range(options.workers)
            ]
            for number, environment in enumerate(environments):
                proxied = number < len(site.proxies)
                environment["DATABASE_URL"] = stack.enter_context(Proxy(dsn)).dsn if proxied else dsn
            (folder / "fresh").mkdir()
            fresh = stack.enter_context(Fleet(folder / "fresh", environments))
            fresh.wait_until_started()
            # A process that has only just started, and a table that has only just been filled, are no measure yet.
            self._rate(database, "first")
            for number in range(options.rounds):
                turns = [(report.after, site.database), (report.fresh, database)]
                for rates, measured in turns if number % 2 else reversed(turns):
                    rates.append(self._rate(measured, f"after {number}"))
            fresh.end()
        self._say_rates("after the faults", report.after)
        self._say_rates("of a fleet that met none", report.fresh)

    def _work(self, site: Site, work: Work, fleet: Fleet, injector: Injector) -> None:
        """Insert the work and inject the faults, until both are over."""
        options = self._options
        told_at = began = time.monotonic()
        with Host(site.dsn, work, options.seconds * 0.95) as host:
            while not (host.finished and injector.finished):
                injector.turn()
                time.sleep(0.05)
                now = time.monotonic()
                if now - told_at >= 60:
                    told_at = now
                    self._say(
                        f"{now - began:8.1f} s  {host.done:,} of {work.total:,} inserted, {sum(injector.done.values())} faults,"
                        f" {len(fleet.problems)} problems, load {os.getloadavg()[0]:.1f}"
                    )
                if now - began > 2 * options.seconds + 120:
                    raise AssertionError("the faults did not come to their end")

    def _drain(self, site: Site, fleet: Fleet) -> None:
        """Wait until nothing is left to do."""
        began = time.monotonic()
        while (left := site.database.rows(_LEFT)[0]["n"]) and time.monotonic() - began < self._options.patience:
            fleet.watch()
            site.database.rows(_HURRY)
            time.sleep(0.5)
        took = time.monotonic() - began
        self._say(f"Everything had ended after {took:.1f} s" if not left else f"{left} not ended after {took:.0f} s")
        if left:
            self._report.problems.append(f"{left} rows had not ended {took:.0f} s after they were to")
