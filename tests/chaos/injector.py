"""Does to the site and the fleet what the plan says, and undoes it when its time has come."""

from __future__ import annotations

import heapq
import itertools
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.fleet import Fleet, Member
    from tests.chaos.helpers import Site
    from tests.chaos.plan import Fault


class Injector:
    """Call `turn` often, in one thread. `done` counts the faults that happened, by kind; `say` is told of each."""

    def __init__(self, plan: Sequence[Fault], site: Site, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.done: Counter[str] = Counter()
        self._site = site
        self._fleet = fleet
        self._say = say
        self._order = itertools.count()
        self._began = time.monotonic()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._leaving: list[tuple[Member, float]] = []
        for fault in plan:
            self._at(fault.at, lambda fault=fault: self._begin(fault))  # type: ignore[misc]

    @property
    def finished(self) -> bool:
        """Whether all faults have been and are over."""
        return not self._due and not self._leaving

    def turn(self) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= time.monotonic() - self._began:
            heapq.heappop(self._due)[2]()
        for member, pause in list(self._leaving):
            if self._fleet.left(member):
                self._leaving.remove((member, pause))
                self._after(pause, lambda member=member: self._fleet.start(member))  # type: ignore[misc]
        self._fleet.watch()

    def _at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._order), action))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(time.monotonic() - self._began + seconds, action)

    def _begin(self, fault: Fault) -> None:
        late = time.monotonic() - self._began - fault.at
        said = self._do(fault)
        if said is None:
            self.done[fault.kind] += 1
        note = f" (passed over: {said})" if said else f" ({late:.1f} s late)" if late > 1 else ""
        self._say(f"{fault}{note}")

    def _do(self, fault: Fault) -> str | None:
        """Begin a fault and see to its end; returns why it cannot be, or None."""
        match fault.kind:
            case "kill" | "stop" | "term":
                return self._signal(fault, self._fleet.members[int(fault.victim)])
            case "terminate":
                self._site.database.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %(name)s",
                    name=f"jobqueue:{fault.name}",
                )
            case "crash":
                self._site.servers.primary.stop("immediate")
                self._after(fault.seconds, self._site.servers.primary.start)
            case "failover":
                self._site.servers.lose_primary()
                self._after(fault.seconds, self._site.fail_over)
            case "silence":
                proxy = self._site.proxies[int(fault.victim)]
                proxy.silence()
                self._after(fault.seconds, proxy.speak)
            case "lose":
                proxy = self._site.proxies[int(fault.victim)]
                loss = proxy.lose(fault.text, name=f"jobqueue:{fault.name}", times=fault.times)
                # What is not asked within a while is not lost any more: the end of the faults is to be the end.
                self._after(5.0, lambda: proxy.keep(loss))
            case "full":
                crowded = self._site.crowded
                if crowded is None:
                    return self._site.why_not_crowded
                crowded.fill()
                self._after(fault.seconds, crowded.clear)
            case "weather":
                weather = self._site.weather[fault.victim]
                weather.share = fault.share
                self._after(fault.seconds, lambda: setattr(weather, "share", 0.0))
        return None

    def _signal(self, fault: Fault, member: Member) -> str | None:
        if member.process is None or member.leaving_since is not None or member.stopped:
            return "it is not there"
        match fault.kind:
            case "kill":
                self._fleet.kill(member)
                self._after(fault.seconds, lambda: self._fleet.start(member))
            case "stop":
                self._fleet.send(member, signal.SIGSTOP)
                self._after(fault.seconds, lambda: self._fleet.send(member, signal.SIGCONT))
            case "term":
                self._fleet.send(member, signal.SIGTERM)
                self._leaving.append((member, fault.seconds))
        return None
