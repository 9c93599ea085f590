"""No-op jobs on this project's queue, beside the queues that a team would pick instead and beside raw pgbench.

    python -m bench.queues                          everything: two hours on a quiet machine, one with --long-rounds 1
    python -m bench.queues --quick                  everything once and short, to see that it works
    python -m bench.queues --only jobqueue drain    these peers (all when none is named) and these measurements (likewise)

Peers are installed into environments of their own under .venvs/, once. A peer whose runtime is missing is skipped by
name. Goals are ratios within one run; the exit code is 1 when one is missed or a measurement of ours fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.queues.goals import judge
from bench.queues.installed import ROOT, MissingError, python_environment
from bench.queues.peers import OURS, PEERS
from bench.queues.report import table, verdicts
from bench.queues.rounds import MEASUREMENTS, QUICK, Rounds, Sizes
from bench.queues.server import SETTINGS, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.queues.rounds import Outcome

RESULTS = ROOT / "bench" / "results" / "queues.json"


def main() -> int:
    """Measure, print the table, write results and plot."""
    options = _options()
    named = set(options.only)
    peers = [peer for peer in PEERS if peer.name in named or named <= set(MEASUREMENTS)]
    limits = "pgbench" in named or len(peers) == len(PEERS)
    measurements = [name for name in MEASUREMENTS if name in named] or list(MEASUREMENTS)
    sizes = QUICK if options.quick else Sizes()
    sizes = replace(sizes, **{k: v for k in ("rounds", "long_rounds") if (v := getattr(options, k)) is not None})
    with tempfile.TemporaryDirectory(prefix="jobqueue-bench-") as folder, Server() as server:
        machine = {**_machine(), "postgresql": server.version}
        rounds = Rounds(server, Path(folder), peers, measurements, sizes, options.concurrency)
        outcome = rounds.run(limits=limits, batch=options.batch)
    if options.add:
        _add_earlier(outcome, options.output)
    medians = outcome.medians()
    goals = judge(medians, {peer.name for peer in PEERS if peer.runtime == "python"})
    print(f"\n{_titled(machine)}\n\n{table(outcome, medians, sizes)}\n\n{verdicts(goals, judged=not options.quick)}")
    written = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine,
        "settings": SETTINGS,
        "sizes": asdict(sizes),
        "batch": outcome.batch,
        "versions": outcome.versions,
        "skipped": outcome.skipped,
        "failures": outcome.failures,
        "goals": [asdict(goal) for goal in goals],
        "medians": medians,
        "rounds": outcome.samples,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(written, indent=2) + "\n")
    print(f"\nwritten to {options.output}{_plot(options.output)}")
    broken = OURS in outcome.skipped or any(failure.startswith(f"{OURS},") for failure in outcome.failures)
    missed = not options.quick and not all(goal.reached for goal in goals)
    return 1 if broken or missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.queues", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*(peer.name for peer in PEERS), "pgbench", *MEASUREMENTS]
    parser.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="small and once; goals are shown but not judged")
    parser.add_argument("--rounds", type=int, help=f"of everything but the long ones ({Sizes.rounds})")
    parser.add_argument("--long-rounds", type=int, help=f"of pinned and recovery ({Sizes.long_rounds})")
    parser.add_argument("--concurrency", type=int, help="of every worker, to try another than its driver's own")
    parser.add_argument("--batch", type=int, help="of pgbench; ours as it is measured when not given")
    parser.add_argument("--add", action="store_true", help="to what the output holds: a run in several sittings")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def _add_earlier(outcome: Outcome, output: Path) -> None:
    """Put the rounds of earlier sittings before those of this one. A measurement of this one replaces its earlier rounds,
    so that what is compared was always measured in turn."""
    if not output.exists():
        return
    earlier = json.loads(output.read_text())
    measured = {name for samples in outcome.samples.values() for name in samples}
    for peer, samples in earlier["rounds"].items():
        for name, rounds in samples.items():
            if name not in measured:
                outcome.samples.setdefault(peer, {})[name] = rounds
    outcome.versions = {**earlier["versions"], **outcome.versions}
    outcome.skipped = {**earlier["skipped"], **outcome.skipped}
    outcome.failures = [
        *(failure for failure in earlier["failures"] if not any(name in failure for name in measured)),
        *outcome.failures,
    ]
    if "drain" not in measured:
        outcome.batch = earlier["batch"]


def _machine() -> dict[str, str | int | None]:
    node = shutil.which("node")
    release = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout if node else ""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "node": release.strip().lstrip("v") or None,
    }


def _titled(machine: Mapping[str, str | int | None]) -> str:
    node = f", Node {machine['node']}" if machine["node"] else ""
    return (
        f"{machine['cores']} cores, PostgreSQL {machine['postgresql']}, Python {machine['python']}{node},"
        f" {time.strftime('%Y-%m-%d', time.gmtime())}"
    )


def _plot(results: Path) -> str:
    """Draw the results, where matplotlib can be installed; what to say of it."""
    target = results.with_suffix(".svg")
    try:
        python, _ = python_environment("plot")
    except MissingError as error:
        return f"; no plot: {error}"
    script = Path(__file__).with_name("plot.py")
    done = subprocess.run([python, script, results, target], capture_output=True, text=True, check=False)
    return f" and {target}" if not done.returncode else f"; no plot: {done.stderr.strip().splitlines()[-1]}"


if __name__ == "__main__":
    raise SystemExit(main())
