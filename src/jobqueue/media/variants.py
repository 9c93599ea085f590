"""The pictures that are published: one decode of the file, two WebP variants."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyvips

from jobqueue.errors import Permanent
from jobqueue.media import decoder_errors, source_pixels
from jobqueue.media.formats import DISPLAY_SIZE, Probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Stage = Callable[[str], AbstractContextManager[object]]
    Checkpoint = Callable[[], None]

DISPLAY_QUALITY = 90
THUMB_SIZE, THUMB_QUALITY = 400, 80

# Effort 2 halves the encoder's time against libwebp's 4 for 0.9 % more bytes; 3 costs what 4 does.
EFFORT = 2

# "drawing" is libwebp's name for less spatial noise shaping and a weaker loop filter. At effort 2 and high quality it
# saves 3 % of the bytes at the same PSNR, which brings the display variant back to the size of effort 4.
DISPLAY_PRESET, THUMB_PRESET = "drawing", "default"

# Everything that changes the bytes of a variant, the encoder's version too. It is part of each object's key, so that a
# key never names two different contents.
RECIPE = (
    f"2-d{DISPLAY_SIZE}q{DISPLAY_QUALITY}{DISPLAY_PRESET}-t{THUMB_SIZE}q{THUMB_QUALITY}{THUMB_PRESET}-e{EFFORT}"
    f"-vips{pyvips.version(0)}.{pyvips.version(1)}.{pyvips.version(2)}"
)

# Seconds between two looks at whether a picture being decoded is still wanted.
_CHECK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Variant:
    """One encoded picture: `name` is "thumb" or "display", `width` and `height` are pixels, `data` is a WebP file."""

    name: str
    width: int
    height: int
    data: bytes


class Variants(NamedTuple):
    """What is published of one picture."""

    thumb: Variant
    display: Variant


def render(
    path: Path,
    probe: Probe,
    *,
    stage: Stage = nullcontext,
    checkpoint: Checkpoint | None = None,
) -> Variants:
    """Make the thumb (within 400 x 400) and the display variant (within 1600 x 1600) of the picture at `path`.

    They are upright, in sRGB and never enlarged; they keep alpha, no metadata of any kind, and the first frame only.
    `probe` is what `formats.probe` said of the same file. `stage("decode")` and `stage("encode")` surround the two
    steps. `checkpoint` is called between steps and while rows are decoded; what it raises ends the work and is raised.

    Raises `Permanent` when the picture is damaged or cut short, `Retry` when memory ran out.
    """
    try:
        with stage("decode"):
            display = _decode(path, probe, checkpoint)
        with stage("encode"):
            _look(checkpoint)
            thumb = display.thumbnail_image(THUMB_SIZE, height=THUMB_SIZE, size="down")
            encoded_thumb = _encode(thumb, "thumb", THUMB_QUALITY, THUMB_PRESET)
            _look(checkpoint)
            return Variants(encoded_thumb, _encode(display, "display", DISPLAY_QUALITY, DISPLAY_PRESET))
    except (pyvips.Error, Permanent) as error:
        refused = error if isinstance(error, Permanent) else decoder_errors.refusal(error, probe.format)
        raise decoder_errors.unless_memory_is_short(refused, probe.format, probe.memory_bytes) from None


def _decode(path: Path, probe: Probe, checkpoint: Checkpoint | None) -> pyvips.Image:
    """The display variant's pixels in memory: upright, 8-bit sRGB or grey, with or without alpha."""
    _look(checkpoint)
    if probe.foreign_profile:
        try:
            return _shrink(path, probe, checkpoint, output_profile="srgb")
        except pyvips.Error:
            # A broken profile must not cost the picture. A broken picture fails again below.
            _look(checkpoint)
    return _shrink(path, probe, checkpoint)


def _shrink(path: Path, probe: Probe, checkpoint: Checkpoint | None, **options: object) -> pyvips.Image:
    options |= {"height": DISPLAY_SIZE, "size": "down"}
    if source_pixels.scaled_by_decoder(probe):
        image = pyvips.Image.thumbnail(str(path), DISPLAY_SIZE, fail_on=source_pixels.FAIL_ON, **options)
    else:
        image = source_pixels.load(path, probe).thumbnail_image(DISPLAY_SIZE, **options)
    return image.copy_memory() if checkpoint is None else _watched(image, checkpoint)


def _watched(image: pyvips.Image, checkpoint: Checkpoint) -> pyvips.Image:
    """Compute `image` into memory, and call `checkpoint` now and then. What it raises stops libvips and is raised."""
    raised: list[BaseException] = []
    due = time.monotonic() + _CHECK_EVERY

    def progress(running: pyvips.Image, _: object) -> None:
        nonlocal due
        if raised or time.monotonic() < due:
            return
        due = time.monotonic() + _CHECK_EVERY
        try:
            checkpoint()
        except BaseException as error:  # noqa: BLE001 - no exception may cross libvips: it is raised again below
            raised.append(error)
            running.set_kill(True)

    image.set_progress(True)
    image.signal_connect("eval", progress)
    try:
        pixels = image.copy_memory()
    except pyvips.Error:
        if not raised:
            raise
    if raised:
        raise raised[0]
    return pixels


def _encode(image: pyvips.Image, name: str, quality: int, preset: str) -> Variant:
    data: bytes = image.webpsave_buffer(Q=quality, effort=EFFORT, preset=preset, keep="none")
    return Variant(name, image.width, image.height, data)


def _look(checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None:
        checkpoint()
