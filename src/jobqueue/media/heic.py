"""HEIC (HEVC in HEIF), which libvips' wheel does not decode: libheif's own program does, where it is installed.

The program runs as a process of its own, so that a decoder's crash is a failed picture and nothing more. It gets limits
of time, memory and output, and nothing of the worker's environment.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from jobqueue.errors import Permanent, Retry
from jobqueue.media.formats import Format, probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobqueue.media.memory_budget import MemoryBudget

# libheif's example program, by its new and its old name.
PROGRAMS = ("heif-dec", "heif-convert")

QUALITY = 95  # of the JPEG in between: what it loses does not show at the display size

# A 12-megapixel picture takes half a second. The largest allowed one takes some seconds on a slow and busy core.
TIME_LIMIT = 60.0  # seconds

_ADDRESS_SPACE = 1 << 30  # bytes: code, and the stacks of the decoder's threads, which touch little of them
_ADDRESS_SPACE_PER_PIXEL = 24
_OUTPUT_PER_PIXEL = 3  # no JPEG of quality 95 is larger than the pixels it stands for
_POLL = 0.02  # seconds


def converter() -> str | None:
    """The path of the program that decodes HEIC here, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def convert(
    path: Path,
    *,
    max_pixels: int,
    budget: MemoryBudget | None = None,
    checkpoint: Callable[[], None] | None = None,
    time_limit: float = TIME_LIMIT,
) -> Path:
    """Decode the HEIC picture at `path` to a JPEG beside it, upright, with its colour profile. Returns the JPEG's path.

    It reads the header first, and refuses more than `max_pixels` pixels before any is decoded. While the program runs,
    `budget` holds what it needs. `checkpoint` is called while waiting and running; whatever it raises ends the program
    and is raised. `time_limit` is in seconds of wall time.

    Raises `Permanent` when no program is installed, and when it cannot decode the picture or takes too long; `Retry`
    when somebody else killed it.
    """
    program = converter()
    if program is None:
        raise Permanent(
            "HEIC pictures are not supported here: install heif-convert (Debian package libheif-examples) on the worker."
        )
    header = probe(path, Format.HEIC, max_pixels=max_pixels)
    with nullcontext() if budget is None else budget.admit(header.memory_bytes, checkpoint=checkpoint):
        return _run(program, path, header.width * header.height, checkpoint, time_limit)


def _run(program: str, path: Path, pixels: int, checkpoint: Callable[[], None] | None, time_limit: float) -> Path:
    target = path.with_name(f"{path.name}.converted.jpg")
    name = Path(program).name
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - the program is found on PATH, its arguments are our own file names
            [program, "--quality", str(QUALITY), str(path.absolute()), str(target.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=path.parent,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            _limit(process.pid, pixels, time_limit)
            status = _wait(process, time_limit, checkpoint)
        finally:
            _end(process)
        log.seek(0)
        said = log.read(4096).decode("utf-8", "replace")
    if status is None:
        raise Permanent(f"The HEIC picture was not decoded within {time_limit:g} seconds by {name}.")
    if status == -signal.SIGKILL:
        raise Retry(f"The HEIC decoder {name} was killed from outside (out of memory?).")
    # A file of several pictures becomes as many numbered files. The first of them is the primary one.
    numbered = target.with_name(f"{target.stem}-1.jpg")
    made = target if target.exists() else numbered
    if status != 0 or not made.exists():
        raise Permanent(f"The HEIC picture cannot be decoded: {_reason(status, said, name)}.")
    return made


def _limit(pid: int, pixels: int, time_limit: float) -> None:
    """Bound the running program where the system can (Linux). Before exec that is unsafe in a threaded process."""
    if not hasattr(resource, "prlimit"):
        return
    for what, most in (
        (resource.RLIMIT_AS, _ADDRESS_SPACE + _ADDRESS_SPACE_PER_PIXEL * pixels),
        (resource.RLIMIT_FSIZE, (1 << 20) + _OUTPUT_PER_PIXEL * pixels),
        (resource.RLIMIT_CPU, int(2 * time_limit) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.prlimit(pid, what, (most, most))
        except ProcessLookupError:  # already done
            return


def _wait(process: subprocess.Popen[bytes], time_limit: float, checkpoint: Callable[[], None] | None) -> int | None:
    """The program's exit status, or None when `time_limit` has passed."""
    end = time.monotonic() + time_limit
    while True:
        try:
            return process.wait(_POLL)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                return None
            # It may take long, and what the program has finished meanwhile counts: so its time is looked at before.
            if checkpoint is not None:
                checkpoint()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # Its own session: the group holds nothing but the program and its children.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(status: int, said: str, name: str) -> str:
    if status < 0:
        return f"{name} ended by {signal.Signals(-status).name}"
    lines = [line.strip().rstrip(".") for line in said.splitlines() if line.strip() and "/" not in line]
    return f"{name} says {lines[-1]!r}" if lines else f"{name} ended with status {status}"
