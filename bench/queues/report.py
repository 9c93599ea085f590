"""The table of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.queues.goals import kept
from bench.queues.limit import BARE, JOBS
from bench.queues.peers import PEERS
from bench.queues.rounds import FLAT, PROCESSES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.queues.goals import Goal, Medians
    from bench.queues.rounds import Figures, Outcome, Sizes

_COLUMNS = (
    "", "drain/s", f"{PROCESSES} proc.", "p50 ms", "p99 ms", "WAL B/job", "commits/job",
    "history", "delayed", "pending", "pinned", "recovery", "after",
)  # fmt: skip


def table(outcome: Outcome, medians: Medians, sizes: Sizes) -> str:
    """One row a peer, in the order of PEERS, then pgbench, and what the columns mean."""
    rows = [list(_COLUMNS)]
    names = [peer.name for peer in PEERS] + [BARE, JOBS]
    rescue = {peer.name: peer.rescue for peer in PEERS}
    for name in names:
        if name in medians:
            rows.append([_titled(name, outcome), *_cells(medians[name], sizes.recovery)])
        elif name in outcome.skipped:
            rows.append([name, f"skipped: {outcome.skipped[name]}"])
    widths = [max(len(row[n]) for row in rows if len(row) == len(_COLUMNS)) for n in range(len(_COLUMNS))]
    lines = [_line(row, widths) for row in rows]
    documented = ", ".join(f"{name} {rescue[name]}" for name in names if name in rescue and name in medians)
    finished = ", ".join(f"{round(peer.history * sizes.history):,} {peer.name}" for peer in PEERS if peer.history)
    notes = [
        f"history, delayed, pending: share of the plain rate kept beside that many finished rows ({finished}),",
        f"  {sizes.waiting:,} that are not due, and in front of {sizes.waiting:,} that are waiting. -: the peer has no such rows.",
        f"pinned: the rate under a snapshot held for {sizes.pinned:.0f} s, at its end beside its start.",
        "recovery: from SIGKILL until nothing is left undone; after: the rate then beside the one before.",
        f"  A dead worker's jobs run again after, by default: {documented}.",
        f"pgbench: claims and completions in batches of {outcome.batch}, which is ours, by two clients.",
        *(f"failed: {failure}" for failure in outcome.failures),
    ]
    return "\n".join([*lines, "", *notes])


def verdicts(goals: Sequence[Goal], *, judged: bool) -> str:
    """One line a goal."""
    width = max((len(goal.text) for goal in goals), default=0)
    words = {True: "reached", False: "MISSED" if judged else "not judged"}
    return "\n".join(f"{goal.text:{width}}  {goal.measured:32}  {words[goal.reached]}" for goal in goals)


def _titled(name: str, outcome: Outcome) -> str:
    version = outcome.versions.get(name)
    return f"{name} {version}" if version else name


def _cells(measured: Mapping[str, Figures], waited: float) -> list[str]:
    def shown(kind: str, name: str, form: str) -> str:
        value = measured.get(kind, {}).get(name)
        return "-" if value is None else format(value, form)

    flat = [kept(measured, kind) for kind in FLAT]
    return [
        shown("drain", "rate", ",.0f"),
        shown("processes", "rate", ",.0f"),
        shown("pickup", "p50", ".1f"),
        shown("pickup", "p99", ".1f"),
        shown("drain", "wal_bytes_per_job", ",.0f"),
        shown("drain", "commits_per_job", ".3f"),
        *("-" if share is None else f"{share:.2f}" for share in flat),
        shown("pinned", "kept", ".2f"),
        _recovered(measured.get("recovery"), waited),
        _after(measured.get("recovery")),
    ]


def _recovered(figures: Figures | None, waited: float) -> str:
    if figures is None:
        return "-"
    seconds = figures["seconds"]
    return f"> {waited:.0f} s" if seconds is None else f"{seconds:.0f} s"


def _after(figures: Figures | None) -> str:
    if figures is None or figures["after"] is None or not figures["before"]:
        return "-"
    return f"{figures['after'] / figures['before']:.2f}"


def _line(row: list[Any], widths: Sequence[int]) -> str:
    first = f"{row[0]:{widths[0]}}"
    if len(row) == 2:
        return f"{first}  {row[1]}"
    return "  ".join([first, *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))])
