"""Checks of this machine against the limits that are set: memory, disk, descriptors, the port, and what reads pictures."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final

from urllib3.exceptions import HTTPError

from jobqueue.doctor.checkup import Checkup, Verdict, fail, warn, well
from jobqueue.net.http_pool import pool

_MIB: Final = 1 << 20

# Descriptors that a busy process holds: connections to databases, stores, origins and receivers, and files in work.
_DESCRIPTORS: Final = 1024


def memory(checkup: Checkup) -> Verdict:
    """Pictures in work fit into the machine's memory, or the container's."""
    from jobqueue.media.memory_budget import PROCESS_BYTES, default_budget  # noqa: PLC0415 - libvips loads with it

    room = default_budget()
    budget = checkup.settings.memory_budget or room
    if budget > room:
        return warn(
            f"MEMORY_BUDGET is {budget // _MIB} MiB, and the container has {(room + PROCESS_BYTES) // _MIB} MiB for it and the process",
            f"set MEMORY_BUDGET={room // _MIB}MiB, or leave it unset",
        )
    return well(f"pictures in work may hold {budget // _MIB} MiB")


def disk(checkup: Checkup) -> Verdict:
    """There is room for the files in work."""
    folder = Path(checkup.environ.get("TMPDIR") or tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return fail(f"{folder} cannot take temporary files: {error.strerror}", "set TMPDIR to a folder with room")
    needed = 2 * checkup.settings.concurrency * checkup.settings.max_source_bytes
    if free < needed:
        return warn(
            f"{folder} has {free // _MIB:,} MiB free, and {checkup.settings.concurrency} originals of MAX_SOURCE_BYTES with "
            f"their variants may take {needed // _MIB:,} MiB",
            "make room, set TMPDIR to a larger disk, or lower CONCURRENCY or MAX_SOURCE_BYTES",
        )
    return well(f"{folder} has {free // _MIB:,} MiB free")


def descriptors(_checkup: Checkup) -> Verdict:
    """The process may hold enough files and connections open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS and soft != resource.RLIM_INFINITY:
        return warn(f"the process may open {soft} files and connections", f"raise it: ulimit -n {_DESCRIPTORS}")
    return well("the process may open enough files and connections")


def port(checkup: Checkup) -> Verdict:
    """The port is free, or a worker of ours has it."""
    settings = checkup.settings
    if settings.port == 0:
        return well("HTTP is off: PORT is 0")
    family = socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.http_host, settings.port))
    except OSError as error:
        if _is_ours(settings.port):
            return well(f"a worker answers on port {settings.port}")
        return fail(
            f"port {settings.port} cannot be had: {error.strerror}", "set PORT to a free one, or end who has it"
        )
    return well(f"port {settings.port} is free")


def pictures(_checkup: Checkup) -> Verdict:
    """libvips is there, reads what it must, and writes WebP; HEIC, which iPhones make, can be read."""
    import pyvips  # noqa: PLC0415 - what is examined

    from jobqueue.media import loaders  # noqa: PLC0415 - libvips loads with it

    loaders.configure()
    version = ".".join(str(pyvips.version(part)) for part in range(3))
    types = ("jpegload", "pngload", "webpload", "tiffload", "gifload", "heifload")
    lacking = [name.removesuffix("load") for name in types if not pyvips.type_find("VipsOperation", name)]
    if lacking:
        return fail(f"libvips {version} does not read {', '.join(lacking)}", "install the package pyvips-binary")
    pyvips.Image.black(64, 64).webpsave_buffer(Q=80)
    try:
        import pi_heif  # noqa: PLC0415 - what is examined
    except ImportError:
        return fail("HEIC pictures, which iPhones make, cannot be read", "install the package pi-heif")
    return well(f"libvips {version} reads and writes, libheif {pi_heif.libheif_version()} reads HEIC")


def _is_ours(number: int) -> bool:
    manager = pool(1, read_seconds=2.0)
    with contextlib.suppress(HTTPError, ValueError, OSError):
        answer = manager.request("GET", f"http://127.0.0.1:{number}/healthz", timeout=2.0)
        return "loops" in json.loads(answer.data).get("checks", {})
    return False
