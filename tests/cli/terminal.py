"""A real terminal for a command to run in."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass
class Screen:
    """What a command wrote to its terminal, and its exit code."""

    raw: str
    code: int

    @property
    def text(self) -> str:
        return _STYLE.sub("", self.raw).replace("\r\n", "\n")


def in_terminal(
    args: list[str],
    environment: Mapping[str, str],
    *,
    columns: int = 120,
    typed: str = "",
    program: Sequence[str] = ("-m", "jobqueue"),
) -> Screen:
    """Run `jobqueue`, or another program of Python, with `args` in a terminal of so many columns, typing `typed`, until it ends."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, *program, *args],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        written = b""
        while chunk := _read(ours):
            written += chunk
        return Screen(written.decode(), process.wait(timeout=20))
    finally:
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:
        # Linux says EIO when the last writer has gone.
        return b""
