"""Every measurement of every peer in alternating rounds, and their medians."""

from __future__ import annotations

import random
import statistics
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from bench.queues import limit
from bench.queues.drain import drain, work_some
from bench.queues.installed import MissingError, install
from bench.queues.peers import OURS, PEERS
from bench.queues.pickup import pick_up
from bench.queues.pinned import pinned
from bench.queues.processes import DriverError, command
from bench.queues.recovery import recovery

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.queues.installed import Installed
    from bench.queues.peers import Peer
    from bench.queues.server import Server

Figures = dict[str, float | None]

FLAT: Final = ("history", "delayed", "pending")
SHORT: Final = ("drain", "processes", "pickup", *FLAT)
LONG: Final = ("pinned", "recovery")
MEASUREMENTS: Final = (*SHORT, *LONG)

PROCESSES: Final = 4
LIMITS: Final = (limit.BARE, limit.JOBS)

# As many as ours: what lasts half a second is fast, because nothing of what it leaves behind has to be cleared away yet.
_LIMIT_JOBS: Final = next(peer.jobs for peer in PEERS if peer.name == OURS)

# The batch of pgbench in a run without this project, whose own batch is what it takes otherwise.
_BATCH = 100


@dataclass(frozen=True)
class Sizes:
    """How much of everything. `jobs` scales what peers are given; seconds for `pinned` and the wait in `recovery`."""

    rounds: int = 3
    long_rounds: int = 3
    jobs: float = 1.0
    waiting: int = 1_000_000
    history: float = 1.0
    pickups: int = 200
    pinned: float = 60.0
    recovery: float = 120.0


QUICK: Final = Sizes(
    rounds=1, long_rounds=1, jobs=0.25, waiting=50_000, history=0.05, pickups=30, pinned=12.0, recovery=10.0
)


@dataclass
class Outcome:
    """What came of a run: figures of each round by peer and measurement, who was left out and why, what failed."""

    batch: int = _BATCH
    versions: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, name: str, measurement: str, figures: Figures) -> None:
        self.samples.setdefault(name, {}).setdefault(measurement, []).append(figures)

    def medians(self) -> dict[str, dict[str, Figures]]:
        """The median of every figure over the rounds, by peer (in the order of PEERS) and measurement."""
        return {
            name: {measurement: median(rounds) for measurement, rounds in self.samples[name].items()}
            for name in (*(peer.name for peer in PEERS), *LIMITS)
            if name in self.samples
        }


def median(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure. One that is None was too large to be waited for, and counts as larger than any."""
    figures: Figures = {}
    for name in rounds[0]:
        values = sorted((figures_of[name] for figures_of in rounds), key=lambda value: (value is None, value or 0.0))
        middle = values[(len(values) - 1) // 2 : len(values) // 2 + 1]
        known = [value for value in middle if value is not None]
        figures[name] = statistics.mean(known) if len(known) == len(middle) else None
    return figures


class Rounds:
    """Runs `measurements` of `peers` on `server`. What fails is noted and left out; the rest goes on.
    `concurrency` is for trying another than the drivers' own."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        peers: Sequence[Peer],
        measurements: Sequence[str],
        sizes: Sizes,
        concurrency: int | None = None,
    ) -> None:
        self.outcome = Outcome()
        self._server = server
        self._folder = folder
        self._measurements = measurements
        self._sizes = sizes
        self._installed: list[Installed] = []
        self._limits: list[str] = []
        for peer in peers:
            try:
                found = install(replace(peer, jobs=max(100, round(peer.jobs * sizes.jobs))))
                self._installed.append(replace(found, concurrency=concurrency))
            except MissingError as error:
                self.outcome.skipped[peer.name] = str(error)

    def run(self, *, limits: bool, batch: int | None = None) -> Outcome:
        """Warm everybody up, then all rounds; `limits` adds the rows of pgbench, with `batch` or our own batch."""
        for peer in list(self._installed):
            self._warm_up(peer, batch)
        if limits and "drain" in self._measurements:
            self._add_limits()
        for kinds, rounds in ((SHORT, self._sizes.rounds), (LONG, self._sizes.long_rounds)):
            for number in range(1, rounds + 1):
                self._round([kind for kind in kinds if kind in self._measurements], f"{number} of {rounds}")
        return self.outcome

    def _warm_up(self, peer: Installed, batch: int | None) -> None:
        """A drain that does not count: files are read, code is compiled; and it shows in what batches we work."""
        log = self._log(peer)
        try:
            first = drain(self._server, peer, self._plain(peer), max(100, peer.peer.jobs // 4), 1, log)
        except DriverError as error:
            self.outcome.skipped[peer.name] = f"failed: {error}"
            self._installed.remove(peer)
            return
        self.outcome.versions[peer.name] = peer.version
        if peer.name == OURS:
            # Two commits a batch: one that claims it and one that completes it.
            self.outcome.batch = batch or max(1, round(2 / first.commits_per_job))

    def _add_limits(self) -> None:
        try:
            limit.find_pgbench()
        except MissingError as error:
            self.outcome.skipped.update(dict.fromkeys(LIMITS, str(error)))
        else:
            self._limits = list(LIMITS)

    def _round(self, kinds: Sequence[str], number: str) -> None:
        cells: list[tuple[Installed | str, str]] = [(peer, kind) for peer in self._installed for kind in kinds]
        if "drain" in kinds:
            cells += [(name, "drain") for name in self._limits]
        random.shuffle(cells)
        for who, kind in cells:
            name = who if isinstance(who, str) else who.name
            try:
                figures = self._limit(who) if isinstance(who, str) else self._measure(who, kind)
            except DriverError as error:
                self.outcome.failures.append(f"{name}, {kind}: {error}")
                figures = None
            if figures is not None:
                self.outcome.add(name, kind, figures)
            _say(f"round {number}: {name}, {kind}: {_shown(figures)}")

    def _limit(self, name: str) -> Figures:
        jobs = round(_LIMIT_JOBS * self._sizes.jobs)
        return {"rate": limit.measure(self._server, name, self.outcome.batch, jobs, self._folder)}

    def _measure(self, peer: Installed, kind: str) -> Figures | None:
        plain, jobs, log = self._plain(peer), peer.peer.jobs, self._log(peer)
        figures: Any
        match kind:
            case "drain":
                figures = drain(self._server, peer, plain, jobs, 1, log)
            case "processes":
                figures = drain(self._server, peer, plain, 2 * jobs, PROCESSES, log)
            case "pickup":
                figures = pick_up(self._server, peer, plain, self._sizes.pickups, log)
            case "pinned":
                figures = pinned(self._server, peer, plain, self._sizes.pinned, log)
                return {**asdict(figures), "kept": figures.kept}
            case "recovery":
                figures = recovery(self._server, peer, plain, self._sizes.recovery, log)
            case _:
                return self._flat(peer, kind)
        return asdict(figures)

    def _flat(self, peer: Installed, kind: str) -> Figures | None:
        """The rate beside many rows that are no work, or in front of much work; None where the peer has no such rows."""
        count = self._sizes.waiting
        if kind == "history":
            if peer.peer.history is None:
                return None
            count = round(peer.peer.history * self._sizes.history)

        def fill(dsn: str) -> None:
            command(peer, "fill", "--dsn", dsn, "--kind", kind, "--count", str(count))

        template = self._server.template(f"{peer.name}_{kind}", fill, self._plain(peer))
        jobs = peer.peer.jobs
        enqueue = 0 if kind == "pending" else jobs
        return {"handled": work_some(self._server, peer, template, jobs, enqueue, self._log(peer))}

    def _plain(self, peer: Installed) -> str:
        return self._server.template(f"{peer.name}_plain", lambda dsn: _set_up(peer, dsn))

    def _log(self, peer: Installed) -> Path:
        return self._folder / f"{peer.name}.log"


def _set_up(peer: Installed, dsn: str) -> None:
    command(peer, "setup", "--dsn", dsn)


def _shown(figures: Figures | None) -> str:
    if figures is None:
        return "none"
    return ", ".join(f"{name} {'-' if value is None else f'{value:,.4g}'}" for name, value in figures.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
