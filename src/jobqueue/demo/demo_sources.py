"""The files that the demo publishes: pictures that it makes, or those in a person's folder."""

from __future__ import annotations

import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path

from jobqueue.demo.demo_pictures import make_pictures
from jobqueue.demo.file_answers import inside
from jobqueue.errors import JobError
from jobqueue.media.formats import sniff

MOST_FILES = 500

_SUFFIXES = {".avif", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class DemoSource:
    """A file to publish: `key` is its path in the origin's folder; `about` says what kind of picture it is."""

    key: str
    path: Path
    about: str
    must_fail: bool = False

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size

    @property
    def mime_type(self) -> str | None:
        """The type that the name suggests, as a host would record it; the worker does not rely on it."""
        return mimetypes.guess_type(self.name)[0]


def make(folder: Path) -> list[DemoSource]:
    """Make the demo's own pictures in `folder`."""
    return [
        DemoSource(picture.name, folder / picture.name, picture.about, picture.must_fail)
        for picture in make_pictures(folder)
    ]


def collect(folder: Path) -> list[DemoSource]:
    """Find the picture files in `folder` and below, by their names' endings, in order of path; at most MOST_FILES.

    This passes over hidden files and folders, links that lead out of the folder, and names that are not UTF-8. It writes
    nothing there.
    """
    found: list[DemoSource] = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            key = path.relative_to(folder).as_posix()
            if path.suffix.lower() in _SUFFIXES and not name.startswith(".") and _is_text(key) and inside(folder, key):
                found.append(DemoSource(key, path, _kind(path)))
                if len(found) == MOST_FILES:
                    return found
    return found


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(path: Path) -> str:
    """Name the format by content, for display only. The worker judges a file that cannot be read or recognised here."""
    try:
        return sniff(path).value.upper()
    except (OSError, JobError):
        return "not a picture"
