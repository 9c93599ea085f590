"""Runs one command, and ends it as soon as the owner of this script has exited.

A bare interpreter runs this by path (`python -I -S leashed.py ...`), so it imports nothing of the package.
Standard input is the leash: a pipe whose other end the owner keeps open and never writes to. End of file means that
the owner exited, however it did. A parent-death signal would not do in its place: Linux sends it when the *thread*
that forked ends, and other systems do not have it. It serves for the one death that the pipe cannot tell of: this
script's own, by SIGKILL.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import signal
import sys
import time

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int, last_signal: int) -> None:
    """Ask Linux for `last_signal` when `parent` dies. Must come after the change of user, which clears the request."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, last_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)


def _exec(options: argparse.Namespace, parent: int) -> None:
    """Become the command, in the forked child. Never returns."""
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number in (*_FORWARDED, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        if options.uid is not None:
            os.setgroups([])
            os.setgid(options.gid)
            os.setuid(options.uid)
        _die_with_parent(parent, options.last_signal)
        os.execvp(options.command[0], options.command)  # noqa: S606 - without a shell on purpose
    except OSError as error:
        os.write(2, f"cannot run {options.command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _watch(child: int, wakeup: int, options: argparse.Namespace) -> int:
    """Wait for the child, or for the owner's end and then for the child; return the child's exit code."""
    leash = 0
    watched = [wakeup, leash]
    deadline: float | None = None
    while True:
        patience = None if deadline is None else max(deadline - time.monotonic(), 0)
        readable, _, _ = select.select(watched, [], [], patience)
        for number in os.read(wakeup, 512) if wakeup in readable else b"":
            if number in _FORWARDED:
                os.kill(child, number)
        reaped, status = os.waitpid(child, os.WNOHANG)
        if reaped:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if leash in readable and not os.read(leash, 512):
            watched.remove(leash)
            os.kill(child, options.last_signal)
            deadline = time.monotonic() + options.grace
        elif deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None


def main() -> int:
    """Start the command given after `--`, forward signals to it, and return its exit code (128 + n for signal n)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--last-signal", type=int, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    wakeup, wakeup_sender = os.pipe()
    os.set_blocking(wakeup_sender, False)
    signal.set_wakeup_fd(wakeup_sender, warn_on_full_buffer=False)
    for number in (*_FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    parent = os.getpid()
    # Held back until the child is itself again: one that arrived earlier would meet this script's handler and be lost.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child == 0:
        _exec(options, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    return _watch(child, wakeup, options)


if __name__ == "__main__":
    sys.exit(main())
