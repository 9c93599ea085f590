"""HEIC through libheif's own program where there is one, and a clear refusal where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.media import pictures
from tests.support.waiting import eventually

from jobqueue.errors import Permanent, Retry
from jobqueue.media import heic
from jobqueue.media.formats import Format, Probe, probe, sniff
from jobqueue.media.memory_budget import MemoryBudget
from jobqueue.media.variants import render

if TYPE_CHECKING:
    from pathlib import Path


def program(name: str) -> str:
    """The path of a program; skips the test by its name where it is missing, fails it in CI."""
    found = shutil.which(name)
    if found is None:
        message = f"the program {name} is not here (Debian package libheif-examples)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found


def photograph(folder: Path, pixels: pictures.Pixels, orientation: int = 1) -> Path:
    """A HEIC picture of `pixels` as a phone stores it."""
    encoder = program("heif-enc")
    if heic.converter() is None:
        program("heif-convert")
    source = folder / "source.jpg"
    pictures.save(source, pixels, quality=98, subsampling="4:4:4", exif=pictures.exif(orientation, gps=True))
    target = folder / "photo.heic"
    subprocess.run([encoder, "-q", "90", str(source), "-o", str(target)], check=True, capture_output=True)
    return target


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where to put a program of the converter's name; it is the only one on PATH beside the system's shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(heic, "converter", lambda: str(folder / "heif-convert"))
    monkeypatch.setattr(heic, "probe", lambda *_, **__: HEADER)
    return folder / "heif-convert"


HEADER = Probe(
    format=Format.HEIC, width=64, height=64, pages=1, bands=3, bits=8, has_alpha=False, interlaced=False, memory_bytes=1
)


def script(path: Path, body: str) -> None:
    """Make `path` a shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def source(tmp_path: Path) -> Path:
    """Bytes that begin as HEIC does."""
    path = tmp_path / "source"
    path.write_bytes(pictures.iso_media(b"heic", b"mif1"))
    return path


@pytest.mark.slow
@pytest.mark.servers
def test_a_photograph_is_converted_and_published(tmp_path: Path) -> None:
    pixels = pictures.gradient(640, 480)
    path = photograph(tmp_path, pixels)
    assert sniff(path) is Format.HEIC
    budget = MemoryBudget(1 << 30)
    converted = heic.convert(path, max_pixels=640 * 480, budget=budget)
    assert converted.parent == tmp_path
    assert budget.used == 0
    thumb, display = render(converted, probe(converted, sniff(converted), max_pixels=1_000_000))
    assert pictures.psnr(pictures.decode(display.data), pixels) > 34
    assert (thumb.width, thumb.height) == (400, 300)
    assert b"SecretCamera" not in display.data + thumb.data


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_it_stands_upright(tmp_path: Path, orientation: int) -> None:
    upright = pictures.gradient(640, 480)
    path = photograph(tmp_path, pictures.unturned(upright, orientation), orientation)
    converted = heic.convert(path, max_pixels=1_000_000)
    display = render(converted, probe(converted, Format.JPEG, max_pixels=1_000_000))[1]
    assert pictures.psnr(pictures.decode(display.data), upright) > 34


@pytest.mark.slow
@pytest.mark.servers
def test_too_many_pixels_are_refused_on_the_header(tmp_path: Path) -> None:
    path = photograph(tmp_path, pictures.gradient(640, 480))
    with pytest.raises(Permanent, match=r"640 x 480 = 307,200 pixels; at most 307,199"):
        heic.convert(path, max_pixels=640 * 480 - 1)
    assert not list(tmp_path.glob("*.converted*"))


@pytest.mark.slow
@pytest.mark.servers
def test_a_picture_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = photograph(tmp_path, np.asarray(pictures.noise(320, 240)))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(Permanent, match="HEIC") as refused:
        heic.convert(path, max_pixels=1_000_000)
    assert str(tmp_path) not in str(refused.value)


def test_without_a_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        Permanent, match=r"not supported here: install heif-convert \(Debian package libheif-examples\)"
    ):
        heic.convert(source(tmp_path), max_pixels=1_000_000)


@pytest.mark.servers
def test_libvips_cannot_be_asked_for_its_pixels(tmp_path: Path) -> None:
    """Even where the header can be read, a HEIC picture that was not converted ends with a reason."""
    path = photograph(tmp_path, pictures.gradient(64, 48))
    with pytest.raises(Permanent, match="HEIC"):
        render(path, probe(path, Format.HEIC, max_pixels=10_000))


def test_it_knows_nothing_of_the_worker(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2_APP_KEY", "secret-value")
    script(fake, 'env > "$4"')
    converted = heic.convert(source(tmp_path), max_pixels=10_000)
    assert "secret-value" not in converted.read_text()
    assert "PATH=" in converted.read_text()


def test_it_is_ended_at_its_time_limit_with_its_children(tmp_path: Path, fake: Path) -> None:
    script(fake, f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(Permanent, match=r"not decoded within 0\.3 seconds by heif-convert"):
        heic.convert(source(tmp_path), max_pixels=10_000, time_limit=0.3)
    child = int((tmp_path / "child").read_text())
    eventually(lambda: _ended(child))


def _ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().split()[2] == "Z"
    except FileNotFoundError:
        return True


def test_a_checkpoint_ends_it(tmp_path: Path, fake: Path) -> None:
    script(fake, "exec sleep 60")
    asked = threading.Event()

    def checkpoint() -> None:
        if asked.is_set():
            raise RuntimeError("no longer wanted")
        asked.set()

    with pytest.raises(RuntimeError, match="no longer wanted"):
        heic.convert(source(tmp_path), max_pixels=10_000, checkpoint=checkpoint)


def test_what_it_finished_during_a_long_checkpoint_counts(tmp_path: Path, fake: Path) -> None:
    """A worker's checkpoint waits while its database is silent: the program goes on meanwhile."""
    script(fake, f'read line < {tmp_path}/gate; echo done > "$4"')
    os.mkfifo(tmp_path / "gate")
    waits = [1.0]

    def checkpoint() -> None:
        if waits:
            (tmp_path / "gate").write_text("go on\n")
            threading.Event().wait(waits.pop())

    converted = heic.convert(source(tmp_path), max_pixels=10_000, checkpoint=checkpoint, time_limit=0.5)
    assert converted.read_text() == "done\n"


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("echo 'Could not read HEIF file: broken.' >&2; exit 1", Permanent, "says 'Could not read HEIF file: broken'"),
        ("exit 3", Permanent, "ended with status 3"),
        ("kill -SEGV $$", Permanent, "ended by SIGSEGV"),
        ("kill -KILL $$", Retry, "killed from outside"),
        ("exit 0", Permanent, "ended with status 0"),
    ],
)
def test_its_failures_are_named(tmp_path: Path, fake: Path, body: str, error: type[Exception], words: str) -> None:
    script(fake, body)
    with pytest.raises(error) as refused:
        heic.convert(source(tmp_path), max_pixels=10_000)
    assert words in str(refused.value)
    assert str(tmp_path) not in str(refused.value)


def test_of_several_pictures_the_first_is_taken(tmp_path: Path, fake: Path) -> None:
    script(fake, 'for n in 1 2; do echo $n > "${4%.jpg}-$n.jpg"; done')
    assert heic.convert(source(tmp_path), max_pixels=10_000).read_text() == "1\n"


def test_what_it_writes_is_limited(tmp_path: Path, fake: Path) -> None:
    script(fake, 'sleep 0.2; exec head -c 50000000 /dev/zero > "$4"')
    with pytest.raises(Permanent, match=r"SIGXFSZ|status"):
        heic.convert(source(tmp_path), max_pixels=10_000)
