"""ZIPs in the hands of programs that were not written here."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from jobqueue.artifacts.zip_layout import Literal, ZipLayout

if TYPE_CHECKING:
    from pathlib import Path

READERS = {
    "unzip": ["unzip", "-tqq"],
    "7z": ["7z", "t", "-bso0", "-bsp0"],
    "bsdtar": ["bsdtar", "-xOf"],
}

# The same for `parametrize`.
EACH_READER = [pytest.param(program, marks=pytest.mark.servers) for program in READERS]


def require(program: str) -> None:
    """Skip where `program` is not installed; fail there in CI."""
    if shutil.which(program) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")


def check_with(program: str, made: Path) -> None:
    """Have `program` read all of the ZIP at `made`."""
    require(program)
    done = subprocess.run(
        [*READERS[program], str(made)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    # unzip says 1 for a mere warning; nothing that it says about our ZIPs may be even that.
    assert (done.returncode, done.stderr.decode(errors="replace")) == (0, "")


def assembled(layout: ZipLayout) -> bytes:
    pieces = list(layout.pieces(0, layout.size))
    assert all(isinstance(piece, Literal) for piece in pieces)
    return b"".join(piece.data for piece in pieces if isinstance(piece, Literal))
