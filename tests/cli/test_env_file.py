"""`--env-file`: variables from a file that no shell reads."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.structure.helpers import ROOT

from jobqueue.errors import ConfigurationError
from jobqueue.settings import load_settings
from jobqueue.settings.env_file import read_env_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.helpers import Jobqueue


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=postgresql://u:p%40@h/db?sslmode=require&application_name=x", "postgresql://u:p%40@h/db?sslmode=require&application_name=x"),
        ("A=$HOME `id` $(id) a#b;c", "$HOME `id` $(id) a#b;c"),
        ("  A = spaces around  ", "spaces around"),
        ("A='single $quoted'", "single $quoted"),
        (r'A="double \"quoted\" \\ \$x \n"', r'double "quoted" \ $x \n'),
        ('A="half', '"half'),
        ("A=", ""),
        ("A=x=y", "x=y"),
        ("\ufeffA=marked", "marked"),
        ("A=first\nA=last\r\n", "last"),
        ("# A=comment\n; A=comment\n\nA=x", "x"),
    ],
)  # fmt: skip
def test_values_mean_what_they_say(line: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "worker.env"
    path.write_text(line, encoding="utf-8")

    assert read_env_file(path) == {"A": value}


def test_problems_name_the_line_and_no_value(tmp_path: Path) -> None:
    path = tmp_path / "worker.env"
    path.write_text("A=fine\nexport B=hunter2\nhunter3\n1C=hunter4\nD=hunter\0five\n")
    with pytest.raises(ConfigurationError) as caught:
        read_env_file(path)

    assert [problem.partition(" line ")[2] for problem in caught.value.problems] == [
        "2 must be NAME=value, without export",
        "3 must be NAME=value",
        "4 must be NAME=value",
        "5 holds a NUL character",
    ]


@pytest.fixture
def file(tmp_path: Path, database: str, offline: Jobqueue, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that names the test's database; what a command takes from it is taken back after the test."""
    for name in ("DATABASE_URL", "CONCURRENCY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    path = tmp_path / "my worker.env"
    path.write_text(f"DATABASE_URL={database}?application_name=a&connect_timeout=5\nCONCURRENCY=lots\n")
    return path


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("joined", [True, False])
def test_every_command_takes_it_wherever_it_stands(
    place: int, joined: bool, file: Path, offline: Jobqueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONCURRENCY", "2")
    line = ["jobs", "list", "jobs"]
    line[place:place] = [f"--env-file={file}"] if joined else ["--env-file", str(file)]

    assert offline(*line).code == 0
    assert os.environ["CONCURRENCY"] == "2", "the environment's own wins"


def test_what_is_wrong_in_it_is_told(file: Path, offline: Jobqueue) -> None:
    ran = offline("stats", "--env-file", file)
    assert (ran.code, ran.err.startswith("CONCURRENCY must be")) == (2, True)
    assert offline("stats", "--env-file", "/no/such/file").err.startswith("--env-file /no/such/file cannot be read")
    assert (offline("stats", "--env-file").code, offline("stats", "--env-file").err) == (2, "--env-file needs a file\n")


def test_the_example_is_such_a_file() -> None:
    variables = read_env_file(ROOT / "worker.env.example")

    assert load_settings(variables).port == 8080


def _without_make() -> dict[str, str]:
    """This environment without what a `make test ARGS=...` hands down to every make below it."""
    return {
        name: value for name, value in os.environ.items() if name != "ARGS" and "MAKE" not in name and name != "MFLAGS"
    }


@pytest.mark.parametrize(
    ("folder", "argument"),
    [("My Pictures", "My Pictures"), ("it's", "it's"), ("~/Fotos", f"{os.environ['HOME']}/Fotos")],
)
def test_make_gives_the_demo_a_folder_of_any_name(folder: str, argument: str) -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "-n", "-o", ".venvs/demo/.ready", "demo", f"FOLDER={folder}"],
        cwd=ROOT, env=_without_make(), check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip

    assert shlex.split(said) == [".venvs/demo/bin/jobqueue", "demo", argument]


@pytest.mark.parametrize(("port", "code"), [("0", 0), ("1", 1)])
def test_the_containers_health_check_serves_a_worker_without_http(port: str, code: int) -> None:
    [line] = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.lstrip().startswith('CMD ["python"')
    ]
    program = line.partition('"-c", "')[2].rpartition('"]')[0]
    done = subprocess.run(
        ["python3", "-c", program], env={"PORT": port, "PATH": os.environ["PATH"]}, capture_output=True, check=False
    )

    assert done.returncode == code
