"""The code blocks of a page, done in their order as a reader does them: files written, statements and commands run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
from tests.structure.helpers import ROOT, SRC

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# A first line that says which file a block is: `# billing/jobs.py`, `// server.mjs`.
_NAMED = re.compile(r"(?:#|//) ([\w./-]+\.\w+)\n")

# What the reader of a page has by the time that the test begins: the packages, a database.
_THERE = re.compile(r"(?:pip|python3? -m (?:pip|venv)|npm|createdb|go get|go mod|export|\.) ")


def clean_environment() -> dict[str, str]:
    """The environment of a host's program: with the commands of this Python, this checkout, and nothing of pytest."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(SRC),
    }


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: what its fence says it is, its text, and the line of the page that it begins in."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that it is, when it says one."""
        named = _NAMED.match(self.text)
        return named[1] if named else None


def blocks(page: str) -> list[Block]:
    """All blocks of a page, which is named from the project's root, in order."""
    text = (ROOT / page).read_text()
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)]


class Reader:
    """Somebody who does what a page says, in an empty folder, with a database at DATABASE_URL.

    `done` are the blocks that were done. What a command prints is compared with the lines that the page shows below it, in which
    `…` stands for anything; what a script prints is in `printed`.
    """

    def __init__(self, folder: Path, dsn: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.dsn = dsn
        self.done: list[Block] = []
        self.printed = ""
        self.environment = {
            **clean_environment(),
            "PYTHONWARNINGS": "error",
            "DATABASE_URL": dsn,
            "COLUMNS": "200",
            **(environment or {}),
        }

    def read(self, page: str, *, passing_over: Collection[str] = ()) -> None:
        """Do all blocks but for those in one of the languages `passing_over`. Raises AssertionError where the page is wrong."""
        program = _Program(self.folder, self.environment)
        with program:
            for block in blocks(page):
                if block.language not in passing_over:
                    self._do(page, block, program)
                    self.done.append(block)

    def _do(self, page: str, block: Block, program: _Program) -> None:
        where = f"{page}, line {block.line}"
        if block.file is not None:
            (self.folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / block.file).write_text(block.text)
        elif block.language == "sql":
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                connection.execute(block.text.encode())
        elif block.language == "python":
            self.printed += program.run(block.text, where)
        elif block.language == "console":
            for command, shown in _commands(block.text):
                if not _THERE.match(command):
                    _compare(self._run(["bash", "-c", command], f"{where}: {command}"), shown, where)
        else:
            raise AssertionError(f"{where}: nobody knows how to try a block of {block.language or 'no language'}")

    def _run(self, command: list[str], where: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{where} ends with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout


class _Program:
    """A Python that is given one piece of a program after the other; each sees what those before it left."""

    _LISTEN = (
        "import json, sys\n"
        "names = {'__name__': '__main__'}\n"
        "for line in sys.stdin:\n"
        "    exec(compile(json.loads(line), 'the page', 'exec'), names)\n"
        "    print('\\0', flush=True)\n"
    )

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)

    def run(self, text: str, where: str) -> str:
        """What `text` prints. Raises AssertionError when it raises."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._LISTEN], cwd=self._folder, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(text) + "\n")
        process.stdin.flush()
        printed = ""
        while (line := process.stdout.readline()) != "\0\n":
            assert line, f"{where}:\n{printed}{process.communicate(timeout=30)[1]}"
            printed += line
        return printed


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console, with the lines that are shown below it."""
    command, shown = "", list[str]()
    for line in text.splitlines():
        if command.endswith("\\"):
            command = command[:-1] + line.strip()
        elif line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line.removeprefix("$ "), []
        else:
            shown.append(line)
    if command:
        yield command, shown


def _compare(printed: str, shown: list[str], where: str) -> None:
    """Each line that is shown was printed, and in this order; how wide its gaps are does not matter."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in shown:
        pattern = ".*".join(re.escape(part) for part in " ".join(line.split()).split("…"))
        assert any(re.fullmatch(pattern, found) for found in lines), f"{where}: {line!r} was not printed:\n{printed}"
