"""Temporary files that do not outlive a killed worker.

A killed process cannot remove its files, and a worker that is killed often would fill the disk. So each process keeps
its files in one folder under the temporary folder, and holds a lock on it, which ends with the process whatever ends
that. A process that starts removes the folders whose lock nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobqueue.errors import ConfigurationError
from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

log = get_logger(__name__)

_PREFIX: Final = "jobqueue-work-"
_LOCK: Final = ".lock"


class Scratch:
    """This process's folder for files in work, below TMPDIR. Safe to use from many threads."""

    def __init__(self) -> None:
        """Remove the folders of processes that are gone, and make ours. Raises ConfigurationError when that fails."""
        # tempfile would pass over a folder that is full or missing, in silence, for one on another disk.
        parent = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
        _sweep(parent)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            # The lock gets its name only when we hold it: nobody can find it free.
            unnamed = self.path / "lock"
            self._lock = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            unnamed.rename(self.path / _LOCK)
        except OSError as error:
            raise ConfigurationError([f"TMPDIR: {parent} cannot take temporary files: {error.strerror}"]) from error

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A new folder. The end of the block removes it with all that is in it."""
        with tempfile.TemporaryDirectory(dir=self.path, ignore_cleanup_errors=True) as path:
            yield Path(path)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        if _abandoned(path):
            shutil.rmtree(path, ignore_errors=True)
            log.info("scratch_removed", folder=path.name)


def _abandoned(path: Path) -> bool:
    """Whether the process that made `path` is gone. False for a folder of another user, and for one just being made."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
