"""The whole daemon on the queue `jobs`, with the kind of jobs of `ledger_worker`: the program of tests that ask for its health."""

from __future__ import annotations

import sys

from tests.faults.ledger_worker import handle

from jobqueue.daemon import Daemon
from jobqueue.settings import load_settings


class LedgerDaemon(Daemon):
    """The daemon, which also serves the kind."""

    def __init__(self) -> None:
        super().__init__(load_settings(), ["jobs"])
        self._scheduler.kinds.register("ledger", handle)


if __name__ == "__main__":
    sys.exit(LedgerDaemon().run())
