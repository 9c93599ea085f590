"""Both type checkers, at their strictest, accept what the examples do with jobqueue."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.docs.page import clean_environment
from tests.structure.helpers import ROOT, SRC

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.extended

HOSTS = ["django_host", "fastapi_host"]


def check(folder: Path, *command: str) -> str:
    """What a checker that is satisfied says. Raises AssertionError with what it says else."""
    environment = {**clean_environment(), "MYPYPATH": str(SRC), "DATABASE_URL": "postgresql:///app"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("host", HOSTS)
def test_mypy(host: str, tmp_path: Path) -> None:
    said = check(ROOT / "examples" / host, "mypy", "--strict", "--cache-dir", str(tmp_path), ".")
    assert said.startswith("Success: no issues found in ")


@pytest.mark.registries
@pytest.mark.parametrize("host", HOSTS)
def test_pyright(host: str, tmp_path: Path) -> None:
    settings = {
        "include": [os.path.relpath(ROOT / "examples" / host, tmp_path)],
        "extraPaths": [str(SRC), str(ROOT / "examples" / host)],
        "typeCheckingMode": "strict",
        # Django's and SQLAlchemy's own types are not all known to it.
        "reportMissingTypeStubs": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    said = check(tmp_path, "pyright", "--stats", "--pythonpath", sys.executable)
    assert re.search(r"Total files checked: [1-9]", said), said


@pytest.mark.registries
def test_a_handler_that_takes_something_else_is_refused(tmp_path: Path) -> None:
    """So that it is the checkers who are satisfied, and not nobody who looked."""
    (tmp_path / "wrong.py").write_text(
        "import jobqueue\n\napp = jobqueue.App()\n\n\n"
        '@app.kind("report")\ndef report(payload: int) -> None: ...\n\n\n'
        "def use(context: jobqueue.Context) -> None:\n    report(7)\n    report('seven')\n\n\n"
        '@app.queue("invoices")\nasync def ask(invoice: str, context: jobqueue.Context) -> None: ...\n\n\n'
        "async def use_it(context: jobqueue.Context) -> None:\n    await ask('seven', context)\n    await ask(7, context)\n"
    )
    for command in (["mypy", "--strict", "wrong.py"], ["pyright", "--pythonpath", sys.executable, "wrong.py"]):
        with pytest.raises(AssertionError) as refused:
            check(tmp_path, *command)
        assert "wrong.py:6" in str(refused.value), "a handler takes a context, too"
        assert "wrong.py:12" in str(refused.value), "the decorator keeps the type"
        assert "wrong.py:21" in str(refused.value), "that of an async handler too"
        assert "wrong.py:20" not in str(refused.value)
