"""Temporary files of killed workers go; those of living ones stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.crowded import CrowdedFolder

from jobqueue.errors import ConfigurationError
from jobqueue.media.scratch import Scratch

_HOLDER = """
import sys
from jobqueue.media.scratch import Scratch
scratch = Scratch()
(scratch.path / "source").write_bytes(b"half a picture")
print(scratch.path, flush=True)
sys.stdin.read()
"""


def _hold(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    environ = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    return holder, Path(holder.stdout.readline().strip())


def _end(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.communicate()


def test_what_a_killed_worker_left_is_removed_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    holder, folder = _hold(tmp_path)
    _end(holder)
    assert (folder / "source").exists()
    scratch = Scratch()
    assert [path.name for path in tmp_path.iterdir()] == [scratch.path.name]
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_living_worker_uses_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    holder, folder = _hold(tmp_path)
    Scratch().close()
    assert (folder / "source").exists()
    _end(holder)


def test_a_folder_of_a_job_is_removed_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    scratch = Scratch()
    with scratch.folder() as folder:
        (folder / "source").write_bytes(b"x")
        assert folder.parent == scratch.path
    assert not folder.exists()
    scratch.close()


@pytest.mark.parametrize("what", ["is not there", "is a file"])
def test_a_temporary_folder_that_cannot_be_used_is_named_and_not_passed_over(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "mounted"
    if what == "is a file":
        parent.touch()
    monkeypatch.setenv("TMPDIR", str(parent))
    with pytest.raises(ConfigurationError, match=f"^TMPDIR: {parent} cannot take temporary files: "):
        Scratch()


def test_a_temporary_folder_that_is_full_is_used_nevertheless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed worker left there would never be removed by one that went elsewhere."""
    if reason := CrowdedFolder.why_not(tmp_path / "tried"):
        pytest.skip(reason)
    with CrowdedFolder(tmp_path / "small", 256 * 1024) as small:
        monkeypatch.setenv("TMPDIR", str(small.path))
        holder, folder = _hold(small.path)
        _end(holder)
        small.fill()
        scratch = Scratch()
        assert scratch.path.parent == small.path
        assert not folder.exists()
        scratch.close()
