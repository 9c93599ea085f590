"""All measurements, one after the other: `make bench`, or `make bench ARGS="latency media"` for some of them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Final

# Name, module, what it answers.
BENCHES: Final = (
    ("latency", "bench.latency", "insert to start, insert to published"),
    ("media", "bench.media.cost", "CPU, bytes and quality of a picture beside sharp's two pipelines (needs npm)"),
    ("daemon", "bench.media.daemon_cost", "the daemon's whole cost of a picture beside the bare libvips work"),
    ("memory", "bench.media.daemon_memory", "peak memory of a worker, and flat over 2,000 jobs"),
    ("archive", "bench.archive", "throughput and memory of archives"),
    ("schedules", "bench.schedules", "ticks of four processes while they are killed"),
    ("webhooks", "bench.webhooks", "10,000 events to 20 webhooks of which 12 are dead, slow or gone"),
    ("attempts", "bench.attempts", "no-op jobs with every attempt kept beside those that did not complete"),
    ("async", "bench.async_handlers", "async handlers beside a bare asyncio.gather, and beside sync ones"),
    ("archival", "bench.archival", "expiry and archival of millions of rows, and inserts beside them"),
    ("queues", "bench.queues", "no-op jobs beside other queues and raw pgbench (needs npm for two of them)"),
)


def main() -> int:
    """Run what is named, everything when nothing is; exit code 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    names = [name for name, _, _ in BENCHES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    wanted = parser.parse_args().names
    if unknown := set(wanted) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    missed = []
    for name, module, question in BENCHES:
        if wanted and name not in wanted:
            continue
        print(f"\n{name}: {question}", flush=True)
        if subprocess.run([sys.executable, "-m", module], check=False).returncode:
            missed.append(name)
    if missed:
        print(f"\nmissed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
