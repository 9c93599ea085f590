#!/bin/sh
# A HEIC grid whose file was cut short is decoded by libheif without an error: the tiles that lie beyond the end are green,
# (0, 136, 0). It says so only when all tiles are lost. Whoever has to know compares the extents of `iloc` with the file's size.
#
# Prints the versions and the behaviour; ends with 1 when that is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pi-heif==1.4.0"

"$folder/venv/bin/python" - <<'PYTHON'
import base64
import io

import pi_heif

# 128 x 128 pixels: red, green / blue, yellow, each a tile of 64 x 64 that x265 made.
WHOLE = base64.b64decode("""
AAAAGGZ0eXBoZWljAAAAAGhlaWNtaWYxAAACCW1ldGEAAAAAAAAAIWhkbHIAAAAAAAAAAHBpY3QAAAAAAAAAAAAAAAAAAAAADnBpdG0AAAAAAAEAAABW
aWxvYwAAAABEAAAFAAEAAAABAAACKQAAAAwAAgAAAAEAAAI1AAAAHwADAAAAAQAAAlQAAAAeAAQAAAABAAACcgAAAB4ABQAAAAEAAAKQAAAAHgAAAHdp
aW5mAAAAAAAFAAAAFWluZmUCAAAAAAEAAGdyaWQAAAAAFWluZmUCAAABAAIAAGh2YzEAAAAAFWluZmUCAAABAAMAAGh2YzEAAAAAFWluZmUCAAABAAQA
AGh2YzEAAAAAFWluZmUCAAABAAUAAGh2YzEAAAAAIGlyZWYAAAAAAAAAFGRpbWcAAQAEAAIAAwAEAAUAAADhaXBycAAAAKhpcGNvAAAAFGlzcGUAAAAA
AAAAgAAAAIAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAHhodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroC
QCEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgQEDAgAAAMACAAAAwAIQCIAAQAHRAHBcrAiQAAAADFpcG1hAAAAAQAAAAUAAQGAAQACAoAC
gAMAAwKAAoADAAQCgAKAAwAFAoACgAMAAACNbWRhdAABAQEAAACAAAAAgAAAABsoAa8GOFr8/Tf5Je///6pG+h/pNfqrxCY/X4AAAAAaKAGvBjha/P03
8be///8r13//2R8qrxCY/X4AAAAaKAGvBjha/P03/CY3+R/lVR//9n8qrxCY/X4AAAAaKAGvBjha/PtX+bZP///lVR+h9n8qrxCY/X4=
""")


def quarters(content: bytes) -> list[tuple[int, ...]]:
    """The colours in the middle of the four tiles."""
    data = bytes(pi_heif.open_heif(io.BytesIO(content)).data)
    return [tuple(data[3 * (128 * y + x) :][:3]) for y in (32, 96) for x in (32, 96)]


print("pi-heif", pi_heif.__version__, "libheif", pi_heif.libheif_version())
whole, cut = quarters(WHOLE), quarters(WHOLE[:-5])
print("whole:", whole)
print("five bytes short:", cut)
assert cut[:3] == whole[:3] and cut[3] != whole[3], "the behaviour has changed"
PYTHON
