"""Who takes part, and what differs between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

OURS: Final = "jobqueue"


@dataclass(frozen=True)
class Peer:
    """One queue. `jobs` are some seconds of work for one process of it, `history` how many finished rows it is given
    for the flat test (None: it keeps none), `rescue` what its documentation says of a killed worker's jobs."""

    name: str
    runtime: Literal["project", "python", "node"]
    jobs: int
    rescue: str
    history: int | None = 1_000_000


PEERS: Final = (
    Peer(OURS, "project", 400_000, "10 s", history=5_000_000),
    Peer("graphile-worker", "node", 300_000, "4 hours", history=None),
    Peer("pg-boss", "node", 200_000, "15 minutes"),
    Peer("pgqueuer", "python", 100_000, "30 s"),
    Peer("awa-pg", "python", 20_000, "90 s", history=None),
    Peer("chancy", "python", 20_000, "60 s"),
    Peer("procrastinate", "python", 2_000, "never by itself"),
)
