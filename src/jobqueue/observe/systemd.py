"""Tells systemd how the process is doing, over the socket in NOTIFY_SOCKET. Without that variable it does nothing.

The protocol is one datagram of VARIABLE=value lines: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from jobqueue.observe.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

log = get_logger(__name__)


class SystemdNotifier:
    """Reports to the service manager. No method raises: a manager that went away must not take the worker with it."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Read NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from `environ`, or from the process when it is None."""
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_seconds = _watchdog_seconds(environ) if self._address else None
        self._failed = False

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds between two calls of `watchdog`: half of what systemd allows; None when it does not watch us."""
        return self._watchdog_seconds and self._watchdog_seconds / 2

    def ready(self, status: str = "") -> bool:
        """Say that the service has started; units ordered after it may start now."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """Say that the service has begun to stop."""
        return self._send("STOPPING=1", status)

    def status(self, status: str) -> bool:
        """Set the line that `systemctl status` shows."""
        return self._send("", status)

    def watchdog(self) -> bool:
        """Say that the service still makes progress. Call it only while that is so."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for `seconds` more, counted from now, before systemd gives up on starting or stopping."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, state: str, status: str = "") -> bool:
        """Send one datagram; returns whether it was sent."""
        if self._address is None:
            return False
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + " ".join(status.splitlines()))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                # A full queue at the other end must not hold up the loop that reports.
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("systemd_notify_failed", error=error)
            self._failed = True
            return False
        self._failed = False
        return True


def _address(text: str) -> str | None:
    # "@" stands for the leading zero byte of the abstract namespace; other families (vsock) are for virtual machines.
    if len(text) > 1 and text[0] in "/@":
        return "\0" + text[1:] if text[0] == "@" else text
    return None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "")) / 1_000_000
        intended = int(environ.get("WATCHDOG_PID", str(os.getpid()))) == os.getpid()
    except ValueError:
        return None
    return seconds if intended and seconds > 0 else None
