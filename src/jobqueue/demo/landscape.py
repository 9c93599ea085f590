"""Synthetic landscapes that look and compress like photographs: sky, clouds, sun, ridges in haze, water, grain."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass

import pyvips

Colour = tuple[float, float, float]

_RENDERED_WIDTH = 1000  # a larger picture is enlarged from this: finer detail drowns in the grain anyway
_LEVELS = 1024
_GRAIN_TILE = 512


@dataclass(frozen=True)
class Palette:
    """The colours of one mood: the sky from top to horizon, the farthest and the nearest ridge, the sun, the clouds."""

    sky: tuple[Colour, Colour, Colour, Colour]
    far: Colour
    near: Colour
    sun: Colour
    cloud: Colour


@dataclass(frozen=True)
class Scene:
    """What to paint. Everything follows from these values: one scene in two palettes is one place at two hours."""

    palette: Palette
    seed: int
    water: bool = False
    snow: bool = False
    trees: bool = False


DAWN = Palette(
    ((52, 66, 120), (142, 112, 158), (240, 156, 134), (255, 216, 166)),
    far=(182, 138, 154),
    near=(30, 26, 50),
    sun=(255, 242, 206),
    cloud=(255, 196, 176),
)
NOON = Palette(
    ((34, 98, 180), (92, 156, 222), (172, 210, 238), (228, 238, 244)),
    far=(154, 182, 204),
    near=(28, 64, 44),
    sun=(255, 255, 242),
    cloud=(255, 255, 255),
)
DUSK = Palette(
    ((24, 22, 62), (90, 40, 102), (210, 78, 86), (252, 168, 88)),
    far=(136, 64, 98),
    near=(16, 12, 28),
    sun=(255, 222, 156),
    cloud=(242, 124, 112),
)
MIST = Palette(
    ((150, 168, 178), (178, 192, 196), (206, 214, 212), (230, 232, 224)),
    far=(190, 202, 204),
    near=(46, 64, 68),
    sun=(255, 252, 242),
    cloud=(246, 248, 246),
)
NIGHT = Palette(
    ((8, 12, 34), (16, 30, 66), (34, 66, 108), (86, 126, 154)),
    far=(52, 86, 118),
    near=(5, 9, 20),
    sun=(234, 242, 255),
    cloud=(72, 104, 142),
)
DESERT = Palette(
    ((48, 108, 174), (130, 172, 208), (234, 208, 172), (248, 222, 182)),
    far=(216, 158, 118),
    near=(94, 40, 26),
    sun=(255, 246, 216),
    cloud=(250, 238, 222),
)
POLAR = Palette(
    ((5, 16, 34), (10, 66, 76), (42, 152, 114), (154, 222, 154)),
    far=(42, 94, 94),
    near=(3, 12, 16),
    sun=(222, 255, 232),
    cloud=(94, 232, 164),
)


def landscape(width: int, height: int, scene: Scene) -> pyvips.Image:
    """Paint `scene` as an 8-bit sRGB picture of `width` by `height` pixels, held in memory."""
    scale = min(_RENDERED_WIDTH / width, 1)
    painted = _paint(math.ceil(width * scale), math.ceil(height * scale), scene).cast("uchar").copy_memory()
    full = painted.resize(width / painted.width, vscale=height / painted.height, kernel="cubic")
    tile = pyvips.Image.gaussnoise(_GRAIN_TILE, _GRAIN_TILE, sigma=3.2, mean=0, seed=scene.seed).cast("short")
    grain = tile.copy_memory().replicate(math.ceil(width / _GRAIN_TILE), math.ceil(height / _GRAIN_TILE))
    grained = full + grain.crop(0, 0, width, height)
    return grained.cast("uchar").copy(interpretation="srgb").copy_memory()


def _paint(width: int, height: int, scene: Scene) -> pyvips.Image:
    chance = random.Random(scene.seed)
    horizon = round(height * (0.6 if scene.water else 0.72))
    picture = _sky(scene.palette, width, height, horizon, chance)
    layers = 5
    for layer in range(layers):
        depth = layer / (layers - 1)
        near = scene.trees and layer == layers - 1
        base = horizon if scene.water else horizon + (height - horizon) * depth**2 * 0.7
        rise = height * (0.1 + 0.12 * chance.random()) * (1.15 - 0.75 * depth)
        outline = _outline(width, chance, rise, trees=height * 0.07 if near else 0)
        picture = _ridge(picture, scene, base - outline, rise, depth, chance)
    return _reflect(picture, horizon, scene.palette, chance) if scene.water else picture


def _blend(below: pyvips.Image, above: Colour | pyvips.Image, opacity: pyvips.Image) -> pyvips.Image:
    """Lay `above` over `below`: opacity 0 shows the one below, 1 the other."""
    return (
        (opacity * 255).cast("uchar").ifthenelse(list(above) if isinstance(above, tuple) else above, below, blend=True)
    )


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(one, other, strict=True))
    return red, green, blue


def _noise(width: int, height: int, cell: float, chance: random.Random, *, stretch: float = 1) -> pyvips.Image:
    """Make smooth noise, mostly within -1 to 1: octaves from features of `cell` pixels down, all wider by `stretch`.

    It is made at a quarter of the size, because it is smooth, and in memory, because several operations read it.
    """
    columns, rows = math.ceil(width / 4 / stretch) + 2, math.ceil(height / 4) + 2
    total = pyvips.Image.black(columns, rows)
    for octave in range(4):
        size = max(round(cell / 4 / 2**octave), 2)
        total += pyvips.Image.perlin(columns, rows, cell_size=size, seed=chance.randrange(2**31)) * (1.5 / 2**octave)
    fine = total.copy_memory().resize(4 * stretch, vscale=4, kernel="linear")
    return fine.crop(0, 0, width, height).copy_memory()


def _sky(palette: Palette, width: int, height: int, horizon: int, chance: random.Random) -> pyvips.Image:
    table = array("f")
    for level in range(_LEVELS):
        place = level / (_LEVELS - 1) * (len(palette.sky) - 1)
        index = min(int(place), len(palette.sky) - 2)
        table.extend(_mix(palette.sky[index], palette.sky[index + 1], place - index))
    colours = pyvips.Image.new_from_memory(table.tobytes(), _LEVELS, 1, 3, "float")
    place = pyvips.Image.xyz(width, height)
    sky = (place[1] * ((_LEVELS - 1) / horizon)).clamp(min=0, max=_LEVELS - 1).cast("ushort").maplut(colours)

    cover = (_noise(width, height, height / 3, chance, stretch=3) * 1.3 - 0.05).clamp(min=0, max=1)
    sky = _blend(sky, palette.cloud, cover * (1.1 - place[1] / horizon).clamp(min=0, max=0.8))
    radius = height * chance.uniform(0.016, 0.03)
    across, down = width * chance.uniform(0.25, 0.75), horizon * chance.uniform(0.3, 0.62)
    distance = ((place[0] - across) ** 2 + (place[1] - down) ** 2) ** 0.5
    glow = (distance / (radius * 7) + 1) ** -2 * 0.8
    disc = ((radius - distance) / 3 + 0.5).clamp(min=0, max=1)
    return _blend(sky, palette.sun, (glow + disc).clamp(min=0, max=1))


def _outline(width: int, chance: random.Random, rise: float, *, trees: float) -> pyvips.Image:
    """Make one row: for each column, how many pixels a ridge rises above its base. `trees` is a fir's height in pixels."""
    waves = [
        (2 * math.pi / width * 0.6 * 2**octave * chance.uniform(0.8, 1.2), chance.uniform(0, 6.3), 0.52**octave)
        for octave in range(9)
    ]
    heights = [rise * sum(part * abs(math.sin(x * step + at)) for step, at, part in waves) for x in range(width)]
    at = 0.0
    while trees and at < width:
        tall, half = trees * chance.uniform(0.35, 1), trees * chance.uniform(0.14, 0.22)
        foot = heights[int(at)]
        for x in range(max(int(at - half), 0), min(int(at + half) + 1, width)):
            slope = tall * (1 - abs(x - at) / half)
            sag = (slope * 8 / trees % 1) * trees * 0.07  # branches: the edge of a fir is a saw
            heights[x] = max(heights[x], foot + slope - sag)
        at += half * chance.uniform(0.5, 3)
    return pyvips.Image.new_from_memory(array("f", heights).tobytes(), width, 1, 1, "float")


def _ridge(
    picture: pyvips.Image, scene: Scene, top: pyvips.Image, rise: float, depth: float, chance: random.Random
) -> pyvips.Image:
    """Paint everything below the row `top`; nearer ridges (depth 1) are darker, rougher and have less haze at their foot."""
    width, height = picture.width, picture.height
    rows = pyvips.Image.xyz(width, height)[1]
    below_top = rows - top.replicate(1, height)
    texture = _noise(width, height, height / (14 - 8 * depth), chance) * (0.12 + 0.22 * depth) + 1
    haze = (below_top / (rise * 2.2)).clamp(min=0, max=1) * (0.75 * (1 - depth))
    rock = texture * list(_mix(scene.palette.far, scene.palette.near, depth**0.7))
    if scene.snow and depth < 0.3:
        line = (height * (0.45 + 0.1 * depth) - rows) / (height * 0.05) + (texture - 1) * 16
        rock = _blend(rock, _mix(scene.palette.sky[3], (255, 255, 255), 0.6), line.clamp(min=0, max=0.92))
    rock = _blend(rock, scene.palette.sky[3], haze)
    return _blend(picture, rock, (below_top + 0.5).clamp(min=0, max=1))


def _reflect(picture: pyvips.Image, horizon: int, palette: Palette, chance: random.Random) -> pyvips.Image:
    """Paint water below the horizon: the mirror image, darker, moved by ripples that grow towards the viewer."""
    width, depth = picture.width, picture.height - horizon
    above = picture.crop(0, 0, width, horizon).copy_memory()
    mirror = above.flipver().resize(1, vscale=depth / horizon, kernel="linear").crop(0, 0, width, depth)
    place = pyvips.Image.xyz(width, depth)
    nearness = place[1] / depth
    ripples = _noise(width, depth, depth / 9, chance, stretch=7)
    across = (place[0] + ripples * nearness * 14).clamp(min=0, max=width - 2)
    down = (place[1] + ripples * nearness * 40).clamp(min=0, max=depth - 2)
    water = mirror.mapim(across.bandjoin(down), extend="copy")
    water = _blend(water, palette.sky[0], nearness * 0.45 + 0.12)
    return above.join(water.crop(0, 0, width, depth), "vertical")
