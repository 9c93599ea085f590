"""What a decoder's words become: the reason that stopped it, and another attempt where memory or threads ran out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pyvips
from tests.media import pictures
from tests.media.pictures import publish

from jobqueue.errors import Permanent, Retry
from jobqueue.media.decoder_errors import by_words, refusal, unless_memory_is_short
from jobqueue.media.formats import Format, probe
from jobqueue.media.variants import render

if TYPE_CHECKING:
    from pathlib import Path


def told(kind: str, *lines: str) -> Exception:
    """What becomes of an error of libvips that says `lines`."""
    return refusal(pyvips.Error("unable to call", "\n".join(lines)), kind)


@pytest.mark.parametrize(
    "line",
    [
        "VipsJpeg: Insufficient memory (case 4)",
        "webpsave: picture memory error",
        "vips_tracked: out of memory -- size == 5MB",
        "vips_malloc: failed to allocate 12 bytes",
        "VipsThread: Error creating thread: Resource temporarily unavailable",
        "heif: Memory allocation error: Unspecified (6.0)",
        "tiff2vips: cannot allocate strip",
    ],
)
@pytest.mark.parametrize("kind", ["jpeg", "png", "avif", "tiff"])
def test_want_of_memory_or_threads_is_never_the_pictures_fault(kind: str, line: str) -> None:
    for lines in ([line], ["VipsJpeg: premature end of JPEG image", line], [line, "tiff2vips: decode error"]):
        error = told(kind, *lines)
        assert isinstance(error, Retry)
        assert str(error) == f"There was not enough memory to decode the {kind.upper()} picture."


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["VipsJpeg: Corrupt JPEG data: 16 extraneous bytes before marker 0xdb", "VipsJpeg: premature end of JPEG image"],
         "is cut short or damaged: premature end of JPEG image."),
        (["VipsJpeg: Corrupt JPEG data", "VipsJpeg: Empty JPEG image (DNL not supported)"],
         "cannot be decoded: Empty JPEG image (DNL not supported)."),
        (["image: bad labq format"], "cannot be decoded: bad labq format."),
        (["VipsJpeg: broken", "tiff2vips: of another picture"], "cannot be decoded: broken."),
        (["/somewhere/a.jpg: bad seek to 12"], "cannot be decoded: the decoder gave no reason."),
        ([], "cannot be decoded: the decoder gave no reason."),
    ],
)  # fmt: skip
def test_the_reason_is_what_stopped_it(lines: list[str], words: str) -> None:
    error = told("jpeg", *lines)
    assert isinstance(error, Permanent)
    assert str(error) == f"The JPEG picture {words}"


def test_limits_are_told_from_want_of_memory_and_from_each_other() -> None:
    many = "heif: Memory allocation error: Security limit exceeded: iloc box contains 433 items, which exceeds the security limit of 256 items. (6.1000)"
    large = "heif: Memory allocation error: Security limit exceeded: Allocating 9 bytes exceeds the security limit of 8 bytes"
    assert str(told("avif", many)) == "The AVIF picture has too many parts: 433; its decoder takes at most 256."
    assert str(by_words([large], "heic")).startswith("The HEIC picture is too large for its decoder: Memory allocation")
    for line in (many, large):
        assert isinstance(told("avif", line), Permanent)


def test_a_harmless_warning_is_not_named_for_a_jpeg_cut_short(tmp_path: Path) -> None:
    path = pictures.save(tmp_path / "a.jpg", pictures.noise(256, 256), quality=80)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\xdb")
    stray = content[:at] + b"\x11" * 16 + content[at:]
    path.write_bytes(stray[: len(stray) // 2])
    with pytest.raises(Permanent, match=r"is cut short or damaged: premature end of JPEG image\.$"):
        publish(path)
    frame = stray.index(b"\xff\xc0")
    stray[frame + 5 : frame + 7] = b"\0\0"
    path.write_bytes(stray)
    with pytest.raises(Permanent, match=r"cannot be decoded: Empty JPEG image"):
        publish(path)


def test_a_failure_without_room_for_the_picture_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    broken = Permanent("The WEBP picture cannot be decoded: unable to read pixels.")
    assert unless_memory_is_short(broken, "webp", 1 << 20) is broken
    for nbytes in (1 << 60, 1 << 80):
        short = unless_memory_is_short(broken, "webp", nbytes)
        assert isinstance(short, Retry)
        assert str(short) == "There was not enough memory to decode the WEBP picture."
    path = pictures.save(tmp_path / "a.png", pictures.noise(200, 200))
    path.write_bytes(path.read_bytes()[:-9000])
    found = probe(path, Format.PNG, max_pixels=1_000_000)
    with pytest.raises(Permanent):
        render(path, found)
    with pytest.raises(Retry):
        render(path, replace(found, memory_bytes=1 << 60))
