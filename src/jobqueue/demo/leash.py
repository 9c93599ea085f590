"""A server process that cannot outlive the process that started it."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCRIPT = Path(__file__).with_name("leashed.py")
_GRACE_SECONDS = 5.0


class ServerError(Exception):
    """A server of the demo did not start or stop; the message names it and quotes the end of its log."""


@dataclass(frozen=True)
class User:
    """The user that a process runs as."""

    name: str
    uid: int
    gid: int


def unprivileged_user() -> User | None:
    """Give the user for servers that refuse to run as root: `nobody` when this process is root, else None (stay as we are).

    Raises ServerError when this process is root and the system has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise ServerError("PostgreSQL refuses to run as root and this system has no user named 'nobody'") from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


def identity(user: User | None) -> dict[str, Any]:
    """Give the arguments with which `subprocess.run` runs a command as `user`, with no group but the user's own."""
    return {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}


def can_run(command: Sequence[str | Path], user: User | None) -> bool:
    """Whether `command` runs and succeeds as `user`. It is tried, so modes, mounts and ACLs all count."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell, our own arguments
            [str(part) for part in command], cwd="/", capture_output=True, check=False, timeout=60, **identity(user)
        )
    except OSError:
        return False
    return done.returncode == 0


def reachable_folder(prefix: str, user: User | None) -> Path:
    """Make a temporary folder that `user` can enter: mode 0711, in the first of the usual places that will do.

    Raises ServerError when there is no such place.
    """
    for place in dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]):  # noqa: S108 - made by mkdtemp
        if can_run(["test", "-x", place], user):
            with contextlib.suppress(OSError):
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
                folder.chmod(0o711)
                return folder
    name = "this user" if user is None else user.name
    raise ServerError(f"no temporary directory that {name} can reach; set TMPDIR to one that everybody can")


class Leash:
    """One running command, tied to this process: it ends when this process does, even by SIGKILL.

    Then it gets `last_signal`, and five seconds later SIGKILL. It runs in a session of its own, so Ctrl-C at a terminal
    reaches only its owner, which can stop things in the right order. Output is appended to `log`; without one, standard
    output goes to `self.stdout` and standard error to `error_log`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        error_log: Path | None = None,
        env: Mapping[str, str] | None = None,
        user: User | None = None,
        last_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        run_as = [] if user is None else ["--uid", str(user.uid), "--gid", str(user.gid)]
        arguments = [sys.executable, "-I", "-S", str(_SCRIPT), "--last-signal", str(int(last_signal))]
        arguments += ["--grace", str(_GRACE_SECONDS), *run_as, "--", *(str(part) for part in command)]
        error_path = log or error_log
        with contextlib.ExitStack() as files:
            errors = files.enter_context(error_path.open("ab")) if error_path else subprocess.DEVNULL
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - no shell, our own arguments
                arguments,
                stdin=subprocess.PIPE,
                stdout=errors if log else subprocess.PIPE,
                stderr=errors,
                env=None if env is None else dict(env),
                start_new_session=True,
            )

    @property
    def stdout(self) -> IO[bytes]:
        """The command's standard output; there is one only without a `log`. The reader closes it."""
        assert self._process.stdout is not None, "the output goes to the log"
        return self._process.stdout

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command; once the command has ended, do nothing."""
        self._process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code, which is 128 + n for death by signal n.

        Raises subprocess.TimeoutExpired after `timeout` seconds.
        """
        code = self._process.wait(timeout)
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Send `number`, wait, and return the exit code. After `timeout` seconds the leash is let go, which kills."""
        self.send(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            assert self._process.stdin is not None
            self._process.stdin.close()
            return self.wait()
