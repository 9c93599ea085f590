"""One of the examples, as somebody starts and uses it: commands in its folder, a web server, a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.docs.page import clean_environment
from tests.structure.helpers import ROOT
from tests.support.waiting import eventually

from jobqueue.demo.launch import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class ExampleHost:
    """The example in a folder of examples/, with its database."""

    def __init__(self, name: str, dsn: str) -> None:
        self._folder = ROOT / "examples" / name
        self._environment = {**clean_environment(), "DATABASE_URL": dsn, "PYTHONDONTWRITEBYTECODE": "1"}
        self._url = ""

    def run(self, module: str, *arguments: str) -> None:
        """Run `python -m module`, or a script, to its end. Raises AssertionError when it fails."""
        how = [module] if module.endswith(".py") else ["-m", module]
        done = subprocess.run(
            [sys.executable, *how, *arguments],
            cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def read(self, file: str) -> str:
        """The text of one of its files."""
        return (self._folder / file).read_text()

    def work(self, app: str) -> None:
        """Have a worker do all that is due."""
        self.run("jobqueue", "worker", "--app", app, "--once")

    @contextmanager
    def serving(self, *command: str) -> Iterator[None]:
        """A web server; `{port}` in `command` is where it is to listen."""
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        with subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as server:  # fmt: skip
            try:
                eventually(lambda: server.poll() is not None or self._answers(), timeout=30.0)
                assert server.poll() is None, server.communicate()[0]
                yield
            finally:
                server.terminate()
                server.communicate(timeout=30)

    def call(self, path: str, body: object = None) -> tuple[int, Any]:
        """The status and the JSON of the answer to a GET, or to a POST of `body`."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def _answers(self) -> bool:
        try:
            self.call("/")
        except (URLError, ConnectionError):
            return False
        return True
