"""A temporary folder with little room, which a test can fill."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def _room_or_not() -> Iterator[None]:
    """Pass over the error that says that there is no room left."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


class CrowdedFolder:
    """A file system in memory at `path`, of `size_bytes`; used as a context manager. Only root can make one."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size = size_bytes
        self._ballast = path / "ballast"

    @staticmethod
    def why_not(path: Path) -> str | None:
        """Why none can be made at the folder `path`, or None."""
        if os.geteuid() != 0 or shutil.which("mount") is None:
            return "only root can mount a small file system for temporary files"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", path], capture_output=True, check=False
        )
        if done.returncode:
            return f"no small file system can be mounted here: {done.stderr.decode().strip()}"
        subprocess.run(["umount", path], check=True)
        path.rmdir()
        return None

    def __enter__(self) -> Self:
        self.path.mkdir()
        options = f"size={self._size},mode=1777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a process that was told to end may have a file open in it still.
        subprocess.run(["umount", "--lazy", self.path], check=True)
        self.path.rmdir()

    def fill(self, leave: int = 0) -> None:
        """Take all the room but `leave` bytes."""
        free = os.statvfs(self.path)
        # Somebody else may take the room first: then it is full as well.
        with _room_or_not(), self._ballast.open("ab", buffering=0) as file:
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - leave)))

    def clear(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def files(self) -> list[str]:
        """What is in it and is not ballast: files with a name of their own and folders with something in them."""
        found = (path for path in self.path.rglob("*") if path.is_file() and path != self._ballast)
        return sorted(str(path.relative_to(self.path)) for path in found)
