#!/bin/sh
# libvips decodes a TIFF of which strips or tiles cannot be read, with black in their place, even at fail_on="error". At
# fail_on="warning" it fails; but there it also fails for odd tags, which every viewer passes over.
#
# Prints the versions and the behaviour; ends with 1 when that is another one.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pyvips[binary]==3.2.0" "pyvips-binary==8.18.7"

"$folder/venv/bin/python" - "$folder/picture.tif" <<'PYTHON'
import logging
import sys
from pathlib import Path

import pyvips

logging.disable()
path = Path(sys.argv[1])
noise = (pyvips.Image.gaussnoise(256, 256, mean=128, sigma=30, seed=1) > 0).ifthenelse(200, 100).cast("uchar")
noise = noise + pyvips.Image.gaussnoise(256, 256, mean=10, sigma=5, seed=2).cast("uchar")


def outcome(fail_on: str, **layout: object) -> str:
    """What becomes of a file of which the middle third is overwritten."""
    noise.cast("uchar").tiffsave(str(path), compression="deflate", **layout)
    content = path.read_bytes()
    third = len(content) // 3
    path.write_bytes(content[:third] + b"\xff" * third + content[2 * third :])
    try:
        image = pyvips.Image.new_from_file(str(path), fail_on=fail_on).copy_memory()
    except pyvips.Error:
        return "refused"
    return "black in it" if image.min() == 0 else "whole"


print("libvips", ".".join(str(pyvips.version(part)) for part in range(3)))
seen = {
    (kind, fail_on): outcome(fail_on, **layout)
    for kind, layout in (("tiles", {"tile": True, "tile_width": 64, "tile_height": 64}), ("strips", {}))
    for fail_on in ("error", "warning")
}
for (kind, fail_on), end in seen.items():
    print(f"{kind} at fail_on={fail_on}: {end}")
assert list(seen.values()) == ["black in it", "refused"] * 2, "the behaviour has changed"
PYTHON
