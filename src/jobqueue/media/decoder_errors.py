"""What the words of a decoder mean: damage, a file cut short, too much of something, or want of memory."""

from __future__ import annotations

import mmap
import re
from typing import TYPE_CHECKING

from jobqueue.errors import JobError, Permanent, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyvips

# How libvips begins the error lines of each decoder. The whole process shares one error buffer, so the text of a failure
# may carry lines of another thread's: lines that begin otherwise are left out.
_SPEAKERS = {
    "jpeg": ("VipsJpeg", "jpegload"),
    "png": ("vipspng", "pngload", "libspng", "spngload"),
    "webp": ("webp", "webpload"),
    "avif": ("heif", "heifload"),
    "tiff": ("tiff2vips", "tiffload", "TIFF"),
    "gif": ("gifload", "nsgif"),
}

# Words of the decoders for "the file ended before the picture did".
_CUT_SHORT = re.compile(
    r"premature end|end of file|unexpected end|outside of file|file size too small|libpng read error"
    r"|unable to parse image|not enough data|read error|seek error|failed to read directory",
    re.IGNORECASE,
)

# Words of the decoders, the encoder and libvips for want of memory or threads, which another attempt may have.
_NO_MEMORY = re.compile(
    r"out of memory|memory allocation|cannot allocate|failed to allocate|insufficient memory|memory error"
    r"|creating thread|temporarily unavailable",
    re.IGNORECASE,
)

# Words of libheif for what its limits refuse.
_TOO_MANY = re.compile(r"limit exceeded: .*?(\d+) items, .*? limit of (\d+)", re.IGNORECASE)
_LIMIT = re.compile(r"security limit|exceeds? the .*limit", re.IGNORECASE)


def refusal(error: pyvips.Error, kind: str) -> JobError:
    """The job error that says what an error of libvips means for a picture of `kind` ("jpeg", "png", ...).

    It is `Permanent` for damaged or unsupported bytes, `Retry` when memory or threads ran out. It holds no path.
    """
    lines = [line.strip() for line in str(error.detail or "").splitlines() if line.strip() and "/" not in line]
    own = [line for line in lines if line.startswith(_SPEAKERS[kind])]
    # Any line may tell of memory. Of the rest, other pictures' are the last choice.
    wanting = [line for line in lines if _NO_MEMORY.search(line)]
    return by_words(wanting or own or lines, kind)


def by_words(lines: Sequence[str], kind: str) -> JobError:
    """The job error for what a decoder said in `lines`: its warnings first, and last what stopped it."""
    name = kind.upper()
    said = [re.sub(r"^\w+: ", "", line).rstrip(".") for line in lines]
    if found := next((found for line in said if (found := _TOO_MANY.search(line))), None):
        return Permanent(f"The {name} picture has too many parts: {found[1]}; its decoder takes at most {found[2]}.")
    if limits := [line for line in said if _LIMIT.search(line)]:
        return Permanent(f"The {name} picture is too large for its decoder: {limits[-1]}.")
    if any(_NO_MEMORY.search(line) for line in said):
        return out_of_memory(kind)
    if cut := [line for line in said if _CUT_SHORT.search(line)]:
        return Permanent(f"The {name} picture is cut short or damaged: {cut[-1]}.")
    return Permanent(f"The {name} picture cannot be decoded: {said[-1] if said else 'the decoder gave no reason'}.")


def out_of_memory(kind: str) -> Retry:
    """The error of a picture that there was no room for: another time there may be."""
    return Retry(f"There was not enough memory to decode the {kind.upper()} picture.")


def unless_memory_is_short(error: JobError, kind: str, nbytes: int) -> JobError:
    """`error`, but `Retry` where there is no room for `nbytes`: then a decoder's failure says nothing of the picture.

    Not every decoder has words for want of memory. libde265 has none, and libwebp "unable to read pixels".
    """
    try:
        mmap.mmap(-1, nbytes).close()
    except (OSError, OverflowError, ValueError):
        return out_of_memory(kind)
    return error
