"""What a release carries: its licence, its migrations and its statements, in the wheel and in the source distribution."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.structure.helpers import ROOT, project_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and a source distribution, built from a copy of the project by the pinned backend."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for path in project_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, source / path)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=source, check=True)
    return folder


def test_the_wheel(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        [metadata] = [wheel.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")]
        [licence] = [wheel.read(name).decode() for name in names if name.endswith("/licenses/LICENSE")]

    assert "License-Expression: MIT\n" in metadata
    assert licence == (ROOT / "LICENSE").read_text()
    assert {f"jobqueue/migrations/{path.name}" for path in (ROOT / "sql").glob("*.sql")} <= names
    assert {"jobqueue/py.typed", "jobqueue/kernel/sql/claim_jobs.sql", "jobqueue/schedule/defaults.toml"} <= names
    assert "jobqueue/roles/make_roles.sql" in names
    assert not [name for name in names if not name.startswith(("jobqueue/", "jobqueue-"))]


def test_the_source_distribution(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "sql/0001_kernel.sql"} <= names
    assert {"requirements/build.txt", "tests/structure/test_distributions.py", "docs/architecture.md"} <= names
