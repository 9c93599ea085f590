"""What must hold, as ratios within one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.queues.limit import BARE, JOBS
from bench.queues.peers import OURS
from bench.queues.rounds import FLAT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from bench.queues.rounds import Figures

    Medians = Mapping[str, Mapping[str, Figures]]

PYTHON_RATIO: Final = 2.0
LIMIT_RATIO: Final = 0.5
KEPT: Final = 0.8
RECOVERED_RATE: Final = 0.95

_NEVER = float("inf")


@dataclass(frozen=True)
class Goal:
    """One of the goals, what was measured of it, and whether that reaches it."""

    text: str
    measured: str
    reached: bool


def judge(medians: Medians, python: Set[str]) -> list[Goal]:
    """Every goal that this run has figures for. `python` names the peers written in Python."""
    peers = {name: figures for name, figures in medians.items() if name not in (OURS, BARE, JOBS)}
    ours = medians.get(OURS, {})
    return [*_drain(ours, peers, medians, python), *_pick_up(ours, peers), *_flat(ours), *_recovery(ours, peers)]


def kept(figures: Mapping[str, Figures], kind: str) -> float | None:
    """The rate of a flat measurement as a share of the plain one, None when either is missing."""
    plain, handled = _figure(figures, "drain", "handled"), _figure(figures, kind, "handled")
    return handled / plain if plain and handled is not None else None


def _drain(ours: Mapping[str, Figures], peers: Medians, all_: Medians, python: Set[str]) -> Iterator[Goal]:
    rate = _figure(ours, "drain", "rate")
    rates = {name: found for name, peer in peers.items() if (found := _figure(peer, "drain", "rate")) is not None}
    if rate is None:
        return
    if rates:
        fastest = max(rates, key=lambda name: rates[name])
        yield Goal(
            "drain, one process: ahead of every peer",
            f"{rate / rates[fastest]:.2f} of {fastest}",
            rate > rates[fastest],
        )
    if in_python := {name: found for name, found in rates.items() if name in python}:
        fastest = max(in_python, key=lambda name: in_python[name])
        ratio = rate / in_python[fastest]
        yield Goal(
            f"drain: at least {PYTHON_RATIO} of the fastest Python peer",
            f"{ratio:.2f} of {fastest}",
            ratio >= PYTHON_RATIO,
        )
    for name in (JOBS, BARE):
        if limit := _figure(all_.get(name, {}), "drain", "rate"):
            yield Goal(f"drain: at least {LIMIT_RATIO} of {name}", f"{rate / limit:.2f}", rate / limit >= LIMIT_RATIO)


def _pick_up(ours: Mapping[str, Figures], peers: Medians) -> Iterator[Goal]:
    for name in ("p50", "p99"):
        mine = _figure(ours, "pickup", name)
        theirs = {peer: found for peer, all_ in peers.items() if (found := _figure(all_, "pickup", name)) is not None}
        if mine is not None and theirs:
            best = min(theirs, key=lambda peer: theirs[peer])
            text = f"{mine:.2f} ms, {best} {theirs[best]:.2f} ms"
            yield Goal(f"pick-up {name}: no worse than the best peer's", text, mine <= theirs[best])


def _flat(ours: Mapping[str, Figures]) -> Iterator[Goal]:
    for kind, what in zip(FLAT, ("finished rows", "rows that are not due", "waiting jobs"), strict=True):
        if (share := kept(ours, kind)) is not None:
            yield Goal(f"flat in {what}: at least {KEPT} of the plain rate", f"{share:.2f}", share >= KEPT)
    if (share := _figure(ours, "pinned", "kept")) is not None:
        yield Goal(f"pinned snapshot: at the end at least {KEPT} of the start", f"{share:.2f}", share >= KEPT)


def _recovery(ours: Mapping[str, Figures], peers: Medians) -> Iterator[Goal]:
    mine = ours.get("recovery")
    if mine is None:
        return
    theirs = {name: _seconds(all_["recovery"]) for name, all_ in peers.items() if "recovery" in all_}
    if theirs:
        best = min(theirs, key=lambda name: theirs[name])
        text = f"{_waited(_seconds(mine))}, {best} {_waited(theirs[best])}"
        yield Goal("SIGKILL: work resumes sooner than any peer's", text, _seconds(mine) < theirs[best])
    before, after = mine["before"], mine["after"]
    if before and after is not None:
        share = after / before
        text = f"rate after it: at least {RECOVERED_RATE} of before"
        yield Goal(f"SIGKILL: {text}", f"{share:.2f}", share >= RECOVERED_RATE)
    else:
        yield Goal("SIGKILL: everything has run again", "not in the time that was waited", reached=False)


def _seconds(figures: Figures) -> float:
    seconds = figures["seconds"]
    return _NEVER if seconds is None else seconds


def _waited(seconds: float) -> str:
    return "not in time" if seconds == _NEVER else f"{seconds:.0f} s"


def _figure(measured: Mapping[str, Figures], kind: str, name: str) -> float | None:
    return measured.get(kind, {}).get(name)
