"""Children that can be interrupted, however the tests themselves were started."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def interruptible(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start `command` as `subprocess.Popen` does, with SIGINT's default disposition; to be called in the main thread.

    A shell without job control has what it runs in the background ignore SIGINT, and who is started ignoring it goes on to.
    """
    # A handler, unlike SIG_IGN, does not outlive exec (POSIX, exec: "Signals set to be caught ... shall be set to the default").
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, **options)
    finally:
        signal.signal(signal.SIGINT, before)
