"""Peers in environments of their own, installed once: nothing of theirs comes near this project's."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobqueue import __version__

if TYPE_CHECKING:
    from bench.queues.peers import Peer

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
_ENVIRONMENTS: Final = ROOT / ".venvs"
_NODE_DRIVERS: Final = {"graphile-worker": "graphile.mjs", "pg-boss": "pgboss.mjs"}
_OLDEST_NODE: Final = 20


class MissingError(Exception):
    """A peer cannot take part; the message says what is missing."""


@dataclass(frozen=True)
class Installed:
    """A peer that can be run: `command` is the start of its driver's command line, `concurrency` what its workers are
    told instead of the driver's own."""

    peer: Peer
    version: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    concurrency: int | None = None

    @property
    def name(self) -> str:
        return self.peer.name


def install(peer: Peer) -> Installed:
    """Make the peer's environment if it is not there yet. Raises MissingError when it cannot be."""
    if peer.runtime == "node":
        return _install_node(peer)
    driver = f"bench.queues.drivers.{peer.name.replace('-', '_')}"
    if peer.runtime == "project":
        paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        return Installed(peer, __version__, (sys.executable, "-m", driver), {"PYTHONPATH": paths})
    python, version = python_environment(peer.name)
    return Installed(peer, version, (str(python), "-m", driver), {"PYTHONPATH": str(ROOT)})


def python_environment(name: str) -> tuple[Path, str]:
    """The interpreter of the environment for peers/NAME.txt, and the version that is pinned first in that file."""
    pins = HERE / "peers" / f"{name}.txt"
    version = re.findall(r"^[\w.\-\[\],]+==(\S+)", pins.read_text(), re.MULTILINE)[0]
    folder = _ENVIRONMENTS / f"bench-{name}"
    python = folder / "bin" / "python"
    if not _is_current(folder, pins):
        print(f"Installing {name} {version} into {folder.relative_to(ROOT)} (once)", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], ROOT, name)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-r", str(pins)], ROOT, name)
        _mark_current(folder, pins)
    return python, version


def _install_node(peer: Peer) -> Installed:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise MissingError("node and npm are not installed")
    release = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(release.lstrip("v").split(".")[0]) < _OLDEST_NODE:
        raise MissingError(f"node is {release}, older than {_OLDEST_NODE}")
    source, folder = HERE / "node", _ENVIRONMENTS / "bench-node"
    package = source / "package.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_current(folder, package):
        print(f"Installing the Node peers into {folder.relative_to(ROOT)} (once)", file=sys.stderr, flush=True)
        locked = (source / "package-lock.json").exists()
        for path in source.glob("package*.json"):
            shutil.copy(path, folder)
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        _run([npm, *(["ci"] if locked else ["install", "--no-package-lock"]), *quiet], folder, peer.name)
        _mark_current(folder, package)
    # Modules are looked for beside the script that imports them.
    for path in source.glob("*.mjs"):
        shutil.copy(path, folder)
    pinned = re.search(rf'"{re.escape(peer.name)}": "([^"]+)"', package.read_text())
    version = pinned.group(1) if pinned else "?"
    return Installed(peer, version, (node, str(folder / _NODE_DRIVERS[peer.name])))


def _run(arguments: list[str], folder: Path, name: str) -> None:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise MissingError(f"{name} could not be installed: {said[-1] if said else done.returncode}")


def _is_current(folder: Path, pins: Path) -> bool:
    mark = folder / ".ready"
    return mark.exists() and mark.read_text() == _digest(pins)


def _mark_current(folder: Path, pins: Path) -> None:
    (folder / ".ready").write_text(_digest(pins))


def _digest(pins: Path) -> str:
    return hashlib.sha256(pins.read_bytes()).hexdigest()
