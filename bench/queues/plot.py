"""The plot of a run, from its results: run by path in an environment that has matplotlib.

python bench/queues/plot.py queues.json queues.svg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # type: ignore[import-not-found]

mpl.use("svg")

import matplotlib.pyplot as plt  # type: ignore[import-not-found]

_OURS, _PEER, _LIMIT = "#c2410c", "#64748b", "#cbd5e1"


def _value(measured: dict[str, Any], kind: str, name: str) -> float | None:
    found = measured.get(kind, {}).get(name)
    return None if found is None else float(found)


def _bars(axes: Any, title: str, values: dict[str, float | None], form: str) -> None:
    shown = {name: value for name, value in values.items() if value is not None}
    names = list(shown)[::-1]
    colours = [_OURS if name == "jobqueue" else _LIMIT if name.startswith("pgbench") else _PEER for name in names]
    bars = axes.barh(names, [shown[name] for name in names], color=colours)
    axes.bar_label(bars, labels=[format(shown[name], form) for name in names], padding=3, fontsize=8)
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.18)


def main(results: Path, target: Path) -> None:
    """Draw `results` into `target`."""
    # Text as text, and the same file from the same figures.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "queues"})
    data = json.loads(results.read_text())
    medians, waited = data["medians"], data["sizes"]["recovery"]
    figure, grid = plt.subplots(3, 2, figsize=(11, 9), layout="constrained")
    rate = {name: _value(measured, "drain", "rate") for name, measured in medians.items()}
    many = {name: _value(measured, "processes", "rate") for name, measured in medians.items()}
    slow = {name: _value(measured, "pickup", "p99") for name, measured in medians.items()}
    kept = {name: _value(measured, "pinned", "kept") for name, measured in medians.items()}
    wal = {name: _value(measured, "drain", "wal_bytes_per_job") for name, measured in medians.items()}
    resumed = {
        name: waited if measured["recovery"]["seconds"] is None else float(measured["recovery"]["seconds"])
        for name, measured in medians.items()
        if "recovery" in measured
    }
    _bars(grid[0][0], "No-op jobs a second, one process", rate, ",.0f")
    _bars(grid[0][1], "No-op jobs a second, four processes", many, ",.0f")
    _bars(grid[1][0], "Pick-up on an idle worker, p99 in ms", slow, ".1f")
    _bars(grid[1][1], "Share of the rate kept under a held snapshot", kept, ".2f")
    _bars(grid[2][0], "WAL, bytes a job", wal, ",.0f")
    _bars(grid[2][1], f"Seconds from SIGKILL to all done ({waited:.0f}: not within that)", resumed, ".0f")
    machine = data["machine"]
    figure.suptitle(f"{machine['cores']} cores, PostgreSQL {machine['postgresql']}, {data['when'][:10]}", fontsize=9)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
