"""A program that archives and is killed right after the step that its last argument names: see test_archival.py."""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any

from jobqueue.observe.metrics import Metrics
from jobqueue.retention.archival import Archival
from jobqueue.retention.archive_batch import Batches
from jobqueue.retention.archive_ledger import Ledger
from jobqueue.retention.archive_store import ArchiveStore
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS: dict[str, tuple[type, str]] = {
    "taken": (Ledger, "take"),
    "sealed": (Ledger, "seal"),
    "written": (ArchiveStore, "write"),
    "read back": (ArchiveStore, "holds"),
    "stored": (Ledger, "stored"),
    "rows deleted but not committed": (Ledger, "deleted"),
    "rows deleted": (Batches, "_delete"),
    "sealed anew": (Ledger, "reseal"),
    "old object removed": (ArchiveStore, "delete"),
    "old object forgotten": (Ledger, "forget_stale"),
}


def die_after(owner: type, name: str) -> None:
    """Have the method kill this process once it has done its work."""
    method: Callable[..., Any] = getattr(owner, name)

    @wraps(method)
    def deadly(*arguments: Any, **named: Any) -> None:
        method(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)


if __name__ == "__main__":
    dsn, endpoint, key_id, app_key, bucket, region, step = sys.argv[1:]
    die_after(*STEPS[step])
    store = ArchiveStore(Objects(endpoint, key_id, app_key, bucket, region))
    Archival(dsn, store, Metrics(), days=90, batch_size=20, lease_seconds=0.2).run(lambda: True)
