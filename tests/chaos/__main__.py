"""Chaos: work on all queues while processes, connections, servers and disks fail, and a ledger of it at the end.

    python -m tests.chaos [--seed 1] [--seconds 180] [--jobs 5000]

The plan of faults follows from the seed and is printed first. The exit code is 0 when every job is accounted for, every effect
was made once, every published URL can be read, and the rate is what it was before; else 1, with a list of what is off.
"""

from __future__ import annotations

import argparse
import sys

from tests.chaos.run import Options, Report, Run

from jobqueue.demo.demo_stack import stopping_in_order

# Of the rate before the faults; what is below was not recovered from.
_RECOVERED = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long faults happen")
    parser.add_argument("--jobs", type=int, default=5000, help="pieces of work, inserted over that time")
    parser.add_argument("--workers", type=int, default=4, help="processes, half of them behind a proxy")
    given = parser.parse_args()
    options = Options(given.seed, given.seconds, given.jobs, workers=given.workers)
    with stopping_in_order():
        report = Run(options, lambda line: print(line, flush=True)).run()
    return conclude(report)


def conclude(report: Report) -> int:
    """Print what came of it; returns the exit code."""
    print("\nLedger")
    for line in report.lines:
        print(f"  {line}")
    problems = list(report.problems)
    recovered = report.recovered()
    for peer, ratio in recovered.items():
        print(f"  {f'rate after the faults, of that of {peer}:':58} {ratio:.2f}")
    if max(recovered.values()) < _RECOVERED:
        problems.append(
            f"after the faults the rate is less than {_RECOVERED} of what it was, and of a fleet's that met none"
        )
    if not problems:
        print("The ledger is exact.")
        return 0
    print(f"\n{len(problems)} things are off{f'; the logs are in {report.logs}' if report.logs else ''}:")
    for problem in problems:
        print(f"- {problem}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
