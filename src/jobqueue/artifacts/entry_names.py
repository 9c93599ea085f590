"""The names of entries, which Windows and macOS can extract, and of the artifact itself, in a key and in a header."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

LONGEST: Final = 120
"""Characters (UTF-16 units) of an entry's name. Windows allows 260 for the whole path that it is extracted to."""

_LONGEST_BYTES: Final = 240
_LONGEST_ENDING: Final = 16

_FORBIDDEN: Final = re.compile(r'[<>:"/\\|?*]')
# Controls, line and paragraph separators, lone surrogates.
_INVISIBLE: Final = {"Cc", "Cs", "Zl", "Zp"}
# Marks that reverse the direction of what follows.
_DIRECTIONS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
_RESERVED: Final = re.compile(r"(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|COM[0-9¹²³]|LPT[0-9¹²³])", re.IGNORECASE)


def entry_name(filename: str | None, source_key: str) -> str:
    """A safe name for one file: the last segment of `filename`, or of `source_key` where that leaves nothing.

    It is in NFC, has no folder and at most LONGEST characters, none that a system forbids; it is neither reserved nor
    hidden.
    """
    for candidate in (filename or "", source_key):
        name = _safe(re.split(r"[/\\]", candidate.rstrip("/\\ "))[-1])
        if name:
            return name
    return "file"


class Names:
    """Gives each file of an artifact a name of its own: no two differ only in case or in how accents are written.

    It numbers repetitions in the order in which they come: `a.jpg`, `a (2).jpg`.
    """

    def __init__(self, *taken: str) -> None:
        self._taken = {_folded(name) for name in taken}
        self._counts: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """`name`, or the first numbered form of it that is free. That one is taken from now on."""
        folded = _folded(name)
        if folded not in self._taken:
            self._taken.add(folded)
            return name
        stem, ending = _split(name)
        number = self._counts.get(folded, 1)
        while True:
            number += 1
            suffix = f" ({number}){ending}"
            numbered = _shortened(stem, suffix) + suffix
            if _folded(numbered) not in self._taken:
                self._counts[folded] = number
                self._taken.add(_folded(numbered))
                return numbered


def artifact_name(project: str | None, kind: str) -> str:
    """The name under which a browser saves the artifact of a project's `kind` (ALL, PHOTOS_ONLY, VIDEOS_ONLY)."""
    suffix = {"PHOTOS_ONLY": " photos.zip", "VIDEOS_ONLY": " videos.zip"}.get(kind, ".zip")
    stem = _safe((project or "").replace("/", "-").replace("\\", "-")) or "download"
    return _shortened(stem, suffix) + suffix


def ascii_name(name: str) -> str:
    """`name` in letters, digits and `._-` alone, for a key and for clients that read nothing else."""
    stem, ending = (_plain(part) for part in _split(name))
    return (stem.strip("_.-") or "download") + ending


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)


def content_disposition(name: str) -> str:
    """The header that makes a browser save the artifact as `name` (RFC 6266, RFC 8187)."""
    return f"attachment; filename=\"{ascii_name(name)}\"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"


def _safe(name: str) -> str:
    """`name` as one path segment that every system takes; empty when nothing of it is left."""
    name = unicodedata.normalize("NFC", name)
    name = "".join(
        "_" if unicodedata.category(character) in _INVISIBLE else character
        for character in name
        if character not in _DIRECTIONS
    )
    name = _FORBIDDEN.sub("_", name).strip().rstrip(". ")
    if name.startswith((".", "~")):
        name = "_" + name.lstrip(".~ ")
    if not name.strip("_. "):
        return ""
    stem, ending = _split(name)
    name = unicodedata.normalize("NFC", _shortened(stem, ending) + ending)
    first, dot, rest = name.partition(".")
    if _RESERVED.fullmatch(first.rstrip()):
        name = f"{first.rstrip()}_{dot}{rest}"
    return name


def _split(name: str) -> tuple[str, str]:
    """Stem, and ending with its dot. What follows the dot is no ending when it is long or holds a space."""
    stem, dot, ending = name.rpartition(".")
    if not stem or not dot or " " in ending or len(ending) >= _LONGEST_ENDING:
        return name, ""
    return stem, dot + ending


def _shortened(stem: str, suffix: str) -> str:
    """As much of `stem` as leaves room for `suffix`."""
    while _units(stem + suffix) > LONGEST or len((stem + suffix).encode()) > _LONGEST_BYTES:
        stem = stem[:-1]
    return stem.rstrip(". ")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _folded(name: str) -> str:
    """Equal for names that some system takes for the same. macOS, for one, ignores invisible joiners."""
    name = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).upper().casefold())
    return "".join(character for character in name if unicodedata.category(character) != "Cf")
