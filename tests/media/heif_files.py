"""HEIF files put together from boxes, around tiles of 64 x 64 pixels that an HEVC encoder made once (x265 3.5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SIDE = 64

# Decoder configurations: 8 bits 4:2:0, 8 bits 4:4:4, 8 bits grey, 10 bits 4:4:4, 10 bits grey.
CONFIGURATIONS = {
    "420": "0103700000000000000000001ef000fcfdf8f800000f03200001001840010c01ffff03700000030090000003000003001eba0240210001002b42010103700000030090000003000003001ea020810596ea4929ae6e04040c08000003000800000300084022000100074401c172b02240",
    "444": "0104080000000000000000001ef000fcfff8f800000f03200001001740010c01ffff0408000003009e3800000300001eba0240210001002a4201010408000003009e3800000300001e90041020b2dd492535cdc0808181000003000100000300010822000100084401c172860c0224",
    "grey": "0104080000000000000000001ef000fcfcf8f800000f03200001001740010c01ffff0408000003009ff800000300001eba024021000100264201010408000003009ff800000300001ec08204165ba924a6b9b0200000030020000003002122000100074401c172b02240",
    "444 10": "0104080000000000000000001ef000fcfffafa00000f03200001001740010c01ffff0408000003009c3800000300001eba0240210001002b4201010408000003009c3800000300001e900410209b2dd492535cdc08081810000003001000000300108022000100084401c172860c0224",
    "grey 10": "0104080000000000000000001ef000fcfcfafa00000f03200001001740010c01ffff0408000003009df800000300001eba024021000100274201010408000003009df800000300001ec082041365ba924a6b9b02000003000200000300021022000100074401c172b02240",
}


@dataclass(frozen=True)
class Tile:
    """A coded picture of one colour (but `MASK`), and the configuration that it is coded with."""

    configuration: str
    coded: str


RED = Tile("420", "0000001b2801af06385afcfd37f925efffffaa46fa1fe935faabc4263f5f80")  # (200, 30, 30)
GREEN = Tile("420", "0000001a2801af06385afcfd37f1b7bfffff2bd77fffd91f2aaf1098fd7e")  # (30, 160, 30)
BLUE = Tile("420", "0000001a2801af06385afcfd37fc2637f91fe5551ffff67f2aaf1098fd7e")  # (30, 30, 200)
YELLOW = Tile("420", "0000001a2801af06385afcfb57f9b64fffffe5551fa1f67f2aaf1098fd7e")  # (200, 200, 30)
ROSE = Tile("444", "0000001a2801af06385afcfd37f3381ffffe721be87f8a1faabc4263f5f8")  # (200, 60, 60)
MASK = Tile(
    "grey",
    "0000003f2801ae0c70f0dd8db4dfe991ff2beff6f0d58456cffc37d0dd532ffbb0b8fcd38425460bd57f630516c8912b80ffe98da8271c738181de2fffca8667945fc0",
)  # 255 in the middle 32 x 32, 0 around
DEEP = Tile(
    "444 10", "000000192801af06b863b0dcff6937ffffdf4a3e87eb5809ff888da0ff"
)  # (0.578, 0.399, 0.300) of all codes
DEEP_GREY = Tile("grey 10", "0000000f2801ae0c707505e5bfa862229de980")  # 0.58 of all codes


def box(name: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + name + body


def full(name: bytes, version: int, flags: int, *bodies: bytes) -> bytes:
    return box(name, struct.pack(">B", version) + flags.to_bytes(3, "big"), *bodies)


def nclx(primaries: int, transfer: int, matrix: int = 6) -> bytes:
    """A colour box of H.273's numbers, full range."""
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, 0x80))


def profile(icc: bytes) -> bytes:
    """A colour box with a profile."""
    return box(b"colr", b"prof", icc)


def turned(quarters: int) -> bytes:
    """Turn by so many quarters against the clock."""
    return box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    """Axis 0 swaps top and bottom, 1 left and right."""
    return box(b"imir", bytes([axis]))


def cropped(width: int, height: int, right: int = 0, down: int = 0) -> bytes:
    """The part of `width` x `height` whose centre lies `right` and `down` of the picture's, in pixels."""
    return box(b"clap", struct.pack(">8i", width, 1, height, 1, right, 1, down, 1))


@dataclass
class Item:
    """One item: its type, bytes, size where it is a picture, boxes that belong to it, and references to items by index."""

    kind: bytes
    data: bytes
    size: tuple[int, int] | None = None
    properties: list[bytes] = field(default_factory=list)
    references: dict[bytes, list[int]] = field(default_factory=dict)
    hidden: bool = False
    more: bytes = b""  # what stands behind the type in the entry: the content type of `mime`


def picture(tile: Tile, *properties: bytes, hidden: bool = False, **references: list[int]) -> Item:
    """A coded picture."""
    return Item(
        b"hvc1",
        bytes.fromhex(tile.coded),
        (SIDE, SIDE),
        [box(b"hvcC", bytes.fromhex(CONFIGURATIONS[tile.configuration])), *properties],
        {name.encode(): items for name, items in references.items()},
        hidden,
    )


def grid(columns: int, rows: int, tiles: list[int], *properties: bytes, size: tuple[int, int] | None = None) -> Item:
    """A grid of the items `tiles`, row by row, cropped to `size`."""
    width, height = size or (columns * SIDE, rows * SIDE)
    data = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    return Item(b"grid", data, (width, height), list(properties), {b"dimg": tiles})


def exif(tiff: bytes, of: int) -> Item:
    """Exif of the item `of`."""
    return Item(b"Exif", struct.pack(">I", 0) + tiff, references={b"cdsc": [of]}, hidden=True)


ALPHA = full(b"auxC", 0, 0, b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
DEPTH = full(b"auxC", 0, 0, b"urn:mpeg:hevc:2015:auxid:2\0")
GAIN_MAP = full(b"auxC", 0, 0, b"urn:com:apple:photo:2020:aux:hdrgainmap\0")


def heif(*items: Item, primary: int = 0, brands: tuple[bytes, ...] = (b"heic", b"mif1")) -> bytes:
    """The file of `items`, of which `primary` is the one to show."""
    boxes: list[bytes] = []
    associations = b""
    entries = 0
    for number, item in enumerate(items, 1):
        own = [full(b"ispe", 0, 0, struct.pack(">II", *item.size)), *item.properties] if item.size else []
        if not own:
            continue
        for one in own:
            if one not in boxes:
                boxes.append(one)
        entries += 1
        associations += struct.pack(">HB", number, len(own)) + b"".join(
            struct.pack(">H", 0x8001 + boxes.index(one)) for one in own
        )
    infe = [
        full(b"infe", 2, int(item.hidden), struct.pack(">HH", number, 0), item.kind, b"\0", item.more)
        for number, item in enumerate(items, 1)
    ]
    references = [
        box(name, struct.pack(">HH", number, len(to)), *(struct.pack(">H", 1 + index) for index in to))
        for number, item in enumerate(items, 1)
        for name, to in item.references.items()
    ]

    def meta(base: int) -> bytes:
        places = b""
        for number, item in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, base, len(item.data))
            base += len(item.data)
        return full(
            b"meta", 0, 0,
            full(b"hdlr", 0, 0, b"\0\0\0\0pict" + b"\0" * 13),
            full(b"pitm", 0, 0, struct.pack(">H", 1 + primary)),
            full(b"iloc", 0, 0, b"\x44\0", struct.pack(">H", len(items)), places),
            full(b"iinf", 0, 0, struct.pack(">H", len(items)), *infe),
            full(b"iref", 0, 0, *references) if references else b"",
            box(b"iprp", box(b"ipco", *boxes), full(b"ipma", 0, 1, struct.pack(">I", entries), associations)),
        )  # fmt: skip

    head = box(b"ftyp", brands[0], b"\0\0\0\0", *brands)
    base = len(head) + len(meta(0)) + 8
    return head + meta(base) + box(b"mdat", *(item.data for item in items))


def movie(tile: Tile, sizes: list[int], at: int, properties: list[bytes] | None = None) -> bytes:
    """The box of a movie of one track, whose samples of `sizes` bytes lie at `at`. It has no track without samples."""
    unity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    times = struct.pack(">IIII", 0, 0, 1000, 1000)
    head = full(b"mvhd", 0, 0, times, struct.pack(">IHH8x", 0x10000, 0x100, 0), unity, b"\0" * 24, struct.pack(">I", 2))
    if not sizes:
        return box(b"moov", head)
    entry = box(
        b"hvc1",
        struct.pack(">6xH16xHHIIIH32xHh", 1, SIDE, SIDE, 0x480000, 0x480000, 0, 1, 24, -1),
        box(b"hvcC", bytes.fromhex(CONFIGURATIONS[tile.configuration])),
        *(properties or []),
    )
    tables = box(
        b"stbl",
        full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        full(b"stts", 0, 0, struct.pack(">III", 1, len(sizes), 500)),
        full(b"stsc", 0, 0, struct.pack(">IIII", 1, 1, len(sizes), 1)),
        full(b"stsz", 0, 0, struct.pack(">II", 0, len(sizes)), *(struct.pack(">I", size) for size in sizes)),
        full(b"stco", 0, 0, struct.pack(">II", 1, at)),
    )
    handler = full(b"hdlr", 0, 0, b"\0\0\0\0pict" + b"\0" * 13)
    media = box(
        b"mdia", full(b"mdhd", 0, 0, times, b"\x55\xc4\0\0"), handler, box(b"minf", full(b"nmhd", 0, 0), tables)
    )
    track = full(
        b"tkhd", 0, 3, struct.pack(">IIIII16x", 0, 0, 1, 0, 1000), unity, struct.pack(">II", SIDE << 16, SIDE << 16)
    )
    return box(b"moov", head, box(b"trak", track, media))


def sequence(*tiles: Tile, properties: list[bytes] | None = None) -> bytes:
    """A file of one track and no items."""
    head = box(b"ftyp", b"hevc\0\0\0\0", b"hevc", b"msf1", b"iso8")
    coded = [bytes.fromhex(tile.coded) for tile in tiles]
    return head + box(b"mdat", *coded) + movie(tiles[0], [len(one) for one in coded], len(head) + 8, properties)
