"""What goes wrong, when, and to whom: drawn from a seed and from nothing else. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

KINDS: Final = ("kill", "stop", "term", "terminate", "crash", "failover", "silence", "lose", "full", "weather")

# How often each kind comes once every kind has come once.
_OFTEN: Final = {
    "kill": 3,
    "stop": 2,
    "term": 2,
    "terminate": 3,
    "crash": 1,
    "failover": 1,
    "silence": 2,
    "lose": 3,
    "full": 1,
    "weather": 3,
}

# Connections of a worker, by their application_name.
CONNECTIONS: Final = ("claim", "complete", "heartbeat", "rescue", "handler", "schedule", "sweep")

# Whose answers are lost, and to which statements: claims, outcomes, commits of handlers, renewals, rescues.
ANSWERS: Final = (
    ("claim", "FOR NO KEY UPDATE SKIP LOCKED"),
    ("complete", "completed_at"),
    ("complete", "run_after"),
    ("handler", "COMMIT"),
    ("handler", "INSERT"),
    ("heartbeat", "lease_expires_at"),
    ("rescue", "crash_count"),
)

_SERVERS: Final = ("origin", "store", "receiver")

# Seconds that a worker needs to be of use again after it was started.
_START: Final = 3.0

# Seconds that it takes to make another standby.
_REBUILD: Final = 5.0

# Seconds after a fault for which its victim is left alone.
_RECOVERS: Final = {"kill": _START, "term": _START, "stop": _START, "crash": _START, "failover": _REBUILD}


@dataclass(frozen=True)
class Fault:
    """`at` and `seconds` are seconds: from the start, and for how long. `victim` is a worker's number or a server's name.

    `name`, `text` and `times` say which connections are ended or whose answers are lost; `share` of requests fail.
    """

    at: float
    kind: str
    victim: str
    seconds: float = 0.0
    name: str = ""
    text: str = ""
    times: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        victim = f"worker {self.victim}" if self.victim.isdigit() else self.victim
        match self.kind:
            case "kill":
                what = f"SIGKILL, started again after {self.seconds:.1f} s"
            case "stop":
                what = f"SIGSTOP, SIGCONT after {self.seconds:.1f} s"
            case "term":
                what = f"SIGTERM, started again {self.seconds:.1f} s after its end"
            case "terminate":
                what = f"pg_terminate_backend on jobqueue:{self.name}"
            case "crash":
                what = f"immediate shutdown, started again after {self.seconds:.1f} s"
            case "failover":
                what = f"SIGKILL to the primary, the standby takes over after {self.seconds:.1f} s"
            case "silence":
                what = f"silent proxy for {self.seconds:.1f} s"
            case "lose":
                what = f"{self.times} answers lost to {self.text!r} of jobqueue:{self.name}"
            case "full":
                what = f"full for {self.seconds:.1f} s"
            case _:
                what = f"{self.share:.0%} of requests fail for {self.seconds:.1f} s"
        return f"{self.at:8.1f} s  {victim:16} {what}"


def make_plan(seed: int, seconds: float, *, workers: int, proxied: int, lease: float) -> list[Fault]:
    """The faults of `seconds`, in their order; each has ended when these are over.

    The first `proxied` of `workers` reach their database through a proxy. No two faults have the same victim at once.
    """
    draw = random.Random(seed)
    gap = min(8.0, max(0.9, seconds / 30))
    free_at: dict[str, float] = {}
    plan: list[Fault] = []
    bag: list[str] = []
    at = draw.uniform(0.2, 1.0) * gap
    while at < seconds * 0.9:
        if not bag:
            bag = list(KINDS) if not plan else [kind for kind, often in _OFTEN.items() for _ in range(often)]
            draw.shuffle(bag)
        kind = bag.pop()
        victims = _victims(kind, workers, proxied)
        draw.shuffle(victims)
        fault = _fault(draw, at, kind, victims[0], seconds, lease)
        free = next((victim for victim in victims if free_at.get(victim, 0.0) <= at), None)
        if free is not None:
            ends = min(fault.seconds, max(0.0, seconds - at))
            fault = Fault(at, kind, free, ends, fault.name, fault.text, fault.times, fault.share)
            free_at[free] = at + ends + _RECOVERS.get(kind, 0.5)
            plan.append(fault)
        at += draw.uniform(0.5, 1.5) * gap
    return plan


def _victims(kind: str, workers: int, proxied: int) -> list[str]:
    match kind:
        case "kill" | "stop" | "term":
            return [str(number) for number in range(workers)]
        case "silence" | "lose":
            return [str(number) for number in range(proxied)]
        case "full":
            return ["temporary folder"]
        case "weather":
            return list(_SERVERS)
        case _:
            return ["database"]


def _fault(draw: random.Random, at: float, kind: str, victim: str, seconds: float, lease: float) -> Fault:
    """Draws as much for each kind, whatever becomes of it: what follows in the plan does not depend on that."""
    length, place, times, share = draw.random(), draw.random(), draw.randint(1, 4), draw.uniform(0.1, 0.3)
    longest = seconds / 3
    name = text = ""
    match kind:
        case "kill" | "term":
            lasts = 2 * length
        case "stop":
            lasts = lease * (1.3 + length)
        case "crash" | "failover":
            lasts = 3 * length
        case "silence":
            lasts = min(longest, 2 + 10 * length)
        case "full":
            lasts = min(longest, 2 + 8 * length)
        case "weather":
            lasts = min(longest, 5 + 20 * length)
        case _:
            lasts = 0.0
    if kind == "terminate":
        name = CONNECTIONS[int(place * len(CONNECTIONS))]
    if kind == "lose":
        name, text = ANSWERS[int(place * len(ANSWERS))]
    return Fault(
        at, kind, victim, lasts, name, text, times if kind == "lose" else 0, share if kind == "weather" else 0.0
    )
