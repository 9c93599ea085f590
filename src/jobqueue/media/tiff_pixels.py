"""The pixels of a TIFF as scanners, prepress and science write them, in a form that libvips shows rightly.

What cannot be shown as its author saw it is refused. Meanings of samples: TIFF 6.0, and its technical notes for
Photoshop; values of Lab by ICC.1:2022 section 6.3.4.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pyvips

from jobqueue.errors import Permanent
from jobqueue.media import loaders, shown_copy
from jobqueue.media.shown_copy import FilePiece

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.media.tiff_layout import TiffLayout, TiffPage

_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB, _ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9

# How many samples of a pixel are its colour.
_COLOURS = {_WHITE_IS_ZERO: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3, _ICC_LAB: 3}

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_JPEG = {6, 7}
_FAX = {2, 3, 4}

# Light above white is clipped; but of light a hundred times as bright, and of grey that is measured, white is not known.
_WHITE, _BRIGHTEST = 1.001, 100.0

# The tags that say how pixels are stored, turned and coloured.
_PHOTOMETRIC = 262
_NEEDED = {256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532, 34675}  # fmt: skip

# From XYZ under D50 to linear sRGB, by Bradford.
_D50_TO_SRGB = [[3.13386, -1.61687, -0.49061], [-0.97877, 1.91614, 0.03345], [0.07195, -0.22899, 1.40524]]

# What libvips reads as bands without a meaning.
_BANDS = 32803


def check(layout: TiffLayout) -> None:
    """Raise `Permanent`, with the reason, for a page whose samples have no colours that we know."""
    page = layout.page
    if page.photometric not in _COLOURS:
        if page.tags and page.photometric >= 0:
            raise _refused(f"its colours (photometric interpretation {page.photometric}) are not known")
        return
    if page.photometric == _CMYK and page.inks != 1:
        raise _refused("its inks are not cyan, magenta, yellow and black")
    if page.samples < _COLOURS[page.photometric]:
        raise _refused(f"it has {page.samples} samples a pixel, too few for its colours")
    if page.photometric == _YCBCR and page.is_tiled and page.compression not in _JPEG and not _is_full(page):
        raise _refused("its chroma is reduced, in tiles")
    if page.sample_format == _SIGNED:
        raise _refused("its samples are signed, which says nothing of black and white")
    if page.sample_format not in {_UNSIGNED, _FLOAT, 4}:
        raise _refused(f"its samples are of an unknown format ({page.sample_format})")
    if page.sample_format == _FLOAT and page.photometric not in {_WHITE_IS_ZERO, _GREY, _RGB}:
        raise _refused("its colours are no red, green and blue, and its samples have floating points")
    if page.photometric in {_CMYK, _LAB, _ICC_LAB, _YCBCR} and page.bits not in {8, 16}:
        raise _refused(f"its samples have {page.bits} bits")


def _refused(why: str) -> Permanent:
    return Permanent(f"The TIFF picture cannot be shown rightly: {why}.")


def header(path: Path, layout: TiffLayout) -> pyvips.Image:
    """The page that is shown, lazily, as libvips reads it: its samples may need a meaning (see `pixels`).

    Raises `pyvips.Error`.
    """
    return _opened(path, layout, fail_on=None)


def pixels(path: Path, layout: TiffLayout, fail_on: str, **options: Any) -> pyvips.Image:
    """The page that is shown, lazily, in colours that are known.

    Raises `pyvips.Error`, and `Permanent` where white is not 1 in samples with floating points: then nobody knows it.
    """
    page = layout.page
    if page.sample_format == _FLOAT:
        highest = _opened(path, layout, fail_on, unlimited=True).max()
        if highest > (_BRIGHTEST if page.photometric == _RGB else _WHITE):
            raise _refused(f"its samples reach {highest:g}, and white is 1")
    return _shown(_opened(path, layout, fail_on, **options), layout)


def _opened(path: Path, layout: TiffLayout, fail_on: str | None, **options: Any) -> pyvips.Image:
    """The page, failing on what `fail_on` says, and on any strip or tile that is lost.

    libvips leaves black what it cannot read, unless it is to fail on warnings. But it warns of odd tags too, which every
    viewer passes over. So a file with such tags is opened by a copy without them. Scanners' fax coding it warns of always.
    """
    page = layout.page
    if fail_on is not None:
        options["fail_on"] = fail_on
    if _as_bands(page):
        path, number = _plain_copy(path, layout, photometric=_BANDS), 0
    else:
        number = page.number
    if fail_on is None or page.compression in _FAX:
        return loaders.load(path, "tiff", page=number, **options)
    if not page.is_tiled and _warned_of(path, number):
        return loaders.load(path, "tiff", page=number, **options)
    options["fail_on"] = "warning"
    try:
        return loaders.load(path, "tiff", page=number, **options)
    except pyvips.Error:
        return loaders.load(_plain_copy(path, layout), "tiff", **options)


def _warned_of(path: Path, number: int) -> bool:
    """Whether libvips warns of the first strip already, as it does of odd tags: of strips it says so only when it reads."""
    try:
        strict = loaders.load(path, "tiff", page=number, fail_on="warning", unlimited=True, access="sequential")
        strict.crop(0, 0, 1, 1).avg()
    except pyvips.Error:
        return True
    return False


def _plain_copy(path: Path, layout: TiffLayout, photometric: int | None = None) -> Path:
    """A copy with the page that is shown alone, by the tags that its pixels need, in their order."""
    order, entries = (
        layout.order,
        {tag: layout.page.entries[tag] for tag in sorted(_NEEDED & layout.page.entries.keys())},
    )
    if photometric is not None:
        size = 20 if layout.is_big else 12
        form = order + ("HHQH" if layout.is_big else "HHIH")
        entries[_PHOTOMETRIC] = struct.pack(form, _PHOTOMETRIC, 3, 1, photometric).ljust(size, b"\0")
    length = path.stat().st_size
    at = length + length % 2
    directory = (
        struct.pack(order + ("Q" if layout.is_big else "H"), len(entries)) + b"".join(entries.values()) + b"\0" * 8
    )
    start = 8 if layout.is_big else 4
    pointer = struct.pack(order + ("Q" if layout.is_big else "I"), at)
    parts: list[FilePiece | bytes] = [
        FilePiece(0, start),
        pointer,
        FilePiece(start + len(pointer), length),
        b"\0" * (at - length),
        directory,
    ]
    return shown_copy.write_copy(path, parts)


def _as_bands(page: TiffPage) -> bool:
    """Whether libvips 8.18 misreads or refuses the page under its own colours: grey or YCbCr in planes, Lab of 8 bits."""
    planes = page.is_planar and page.samples > 1 and page.photometric in {_WHITE_IS_ZERO, _GREY, _YCBCR, _LAB, _ICC_LAB}
    return _PHOTOMETRIC in page.entries and (planes or (page.photometric == _LAB and page.bits == 8))


def _is_full(page: TiffPage) -> bool:
    """Whether a YCbCr page has as much chroma as luminance."""
    return tuple(page.subsampling) == (1, 1)


def has_alpha(page: TiffPage) -> bool:
    return _alpha_band(page) is not None


def _alpha_band(page: TiffPage) -> int | None:
    """The sample that is alpha. A fourth one that nothing is said of is: many writers forget to."""
    colours = _COLOURS.get(page.photometric, page.samples)
    if not page.extra:
        return colours if page.samples == colours + 1 and page.photometric != _CMYK else None
    return next(
        (colours + index for index, kind in enumerate(page.extra) if kind in {1, 2} and colours + index < page.samples),
        None,
    )


def _shown(image: pyvips.Image, layout: TiffLayout) -> pyvips.Image:
    """`image`, which `header` opened, as grey, RGB or CMYK of 8 or 16 bits, with alpha where the file says that it has it."""
    page = layout.page
    if page.photometric not in _COLOURS:
        return image
    if page.photometric == _YCBCR and (page.compression in _JPEG or not _is_full(page)):
        return image.extract_band(0, n=3).copy(interpretation="srgb")  # libtiff made RGB of it
    count = _COLOURS[page.photometric] if page.photometric != _PALETTE else image.bands
    if image.bands < count:
        return image
    colours = image.extract_band(0, n=count) if image.bands > count else image
    band = _alpha_band(page)
    alpha = image[band] if band is not None and band < image.bands else None
    colours = _meant(colours, page)
    if alpha is None:
        return colours
    most = 65535 if colours.format == "ushort" else 255
    alpha = alpha.cast("float") if page.sample_format == _FLOAT else alpha / (2**page.bits - 1)
    return colours.bandjoin((alpha * most + 0.5).cast(colours.format)).copy(interpretation=colours.interpretation)


def _meant(image: pyvips.Image, page: TiffPage) -> pyvips.Image:
    """The colours alone, with their meaning."""
    kind = page.photometric
    if kind == _YCBCR:
        return _from_ycbcr(image, page)
    if kind in {_LAB, _ICC_LAB}:
        return _from_lab(image, page)
    if kind == _CMYK:
        return image.copy(interpretation="cmyk")
    if page.sample_format == _FLOAT:
        return _from_float(image, page)
    if image.format == "uint":
        # libvips inverts white that is zero.
        image = (image / 65537 + 0.5).cast("ushort")
    elif _as_bands(page) and kind == _WHITE_IS_ZERO:
        image = image.invert()
    deep = image.format == "ushort"
    grey = image.bands == 1
    return image.copy(interpretation=("grey16" if deep else "b-w") if grey else ("rgb16" if deep else "srgb"))


def _from_float(image: pyvips.Image, page: TiffPage) -> pyvips.Image:
    """Light from 0 to 1, or what the profile says; brighter colours become the brightest."""
    if page.photometric == _WHITE_IS_ZERO:
        image = 1 - image
    grey = image.bands == 1
    if image.get_typeof("icc-profile-data"):
        return (image * 65535 + 0.5).cast("ushort").copy(interpretation="grey16" if grey else "rgb16")
    if grey:
        image = image.bandjoin([image, image])
    image = image.copy(interpretation="scrgb").colourspace("srgb")
    return image[0].copy(interpretation="b-w") if grey else image


def _from_lab(image: pyvips.Image, page: TiffPage) -> pyvips.Image:
    """Lab of 8 or 16 bits, a and b signed, or in ICC's way with an offset. White is D50, as in profiles."""
    whole, half = (255, 1) if page.bits == 8 else (65535 if page.photometric == _LAB else 65280, 256)
    if image.interpretation == "labs":  # what libvips makes of 16 bits: L half as large, and all signed
        lightness, opponents = image[0] * (100 / 32767), image[1:3] / half
    else:
        lightness, opponents = image[0] * (100 / whole), image[1:3] / half
        if page.photometric == _ICC_LAB:
            opponents = opponents - 128
        else:
            opponents = (opponents >= 128).ifthenelse(opponents - 256, opponents)
    y = (lightness + 16) / 116
    xyz = (y + opponents[0] / 500).bandjoin([y, y - opponents[1] / 200])
    xyz = (xyz > 6 / 29).ifthenelse(xyz * xyz * xyz, (xyz - 4 / 29) * (108 / 841)) * [0.9642, 1.0, 0.8249]
    rgb = xyz.recomb(pyvips.Image.new_from_array(_D50_TO_SRGB)).copy(interpretation="scrgb").colourspace("srgb")
    rgb.remove("icc-profile-data")
    return rgb


def _from_ycbcr(image: pyvips.Image, page: TiffPage) -> pyvips.Image:
    """TIFF 6.0 section 21. The reference codes of black and white are those of Y, Cb and Cr."""
    most = 2**page.bits - 1
    y_black, y_white, cb_zero, cb_white, cr_zero, cr_white = page.reference[:6]
    red, green, blue = page.coefficients[:3]
    half = (most + 1) // 2 - 1
    luma = (image[0] - y_black) * (most / max(y_white - y_black, 1))
    cb = (image[1] - cb_zero) * (half / max(cb_white - cb_zero, 1))
    cr = (image[2] - cr_zero) * (half / max(cr_white - cr_zero, 1))
    r = cr * (2 - 2 * red) + luma
    b = cb * (2 - 2 * blue) + luma
    g = (luma - b * blue - r * red) / (green or 1)
    deep = page.bits == 16
    joined = (r.bandjoin([g, b]) + 0.5).cast("ushort" if deep else "uchar")
    return joined.copy(interpretation="rgb16" if deep else "srgb")
