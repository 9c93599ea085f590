"""What goes into an artifact: media of a project by type, in a fixed order, under names of their own, within limits."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jobqueue.artifacts.entry_names import Names, artifact_name, ascii_name, entry_name
from jobqueue.artifacts.zip_layout import DosTime, ZipEntry, ZipLayout, dos_time
from jobqueue.errors import Cancelled, Permanent, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobqueue.kernel import Context

RECIPE: Final = "zip-1"
"""Changes with whatever changes the bytes made of the same media, so that no older artifact passes for a new one."""

PREFIX: Final = "artifacts/"
"""Where artifacts lie in the bucket."""

MISSING_NAME: Final = "MISSING.txt"

_KINDS: Final[dict[str, tuple[str, ...] | None]] = {"ALL": None, "PHOTOS_ONLY": ("PHOTO",), "VIDEOS_ONLY": ("VIDEO",)}

_PROJECT_NAME: Final = "SELECT name FROM public.projects WHERE id = %(id)s"

_COUNT_MEDIA: Final = """
SELECT count(*) FROM public.project_media
WHERE project_id = %(id)s AND (%(kinds)s::text[] IS NULL OR upper(kind::text) = ANY (%(kinds)s::text[]))
"""

_LIST_MEDIA: Final = """
SELECT id, source_key, filename, created_at, bytes, measured_bytes, measured_crc32 FROM public.project_media
WHERE project_id = %(id)s AND (%(kinds)s::text[] IS NULL OR upper(kind::text) = ANY (%(kinds)s::text[]))
ORDER BY created_at NULLS FIRST, id
"""


@dataclass(frozen=True, slots=True)
class ArtifactLimits:
    """The limits of one artifact: MAX_MEDIA_FILES_PER_ZIP and MAX_ZIP_SIZE_BYTES."""

    max_files: int
    max_bytes: int

    def check_files(self, count: int, kind: str) -> None:
        """Raises Permanent when `count` files of `kind` are too many."""
        if count > self.max_files:
            raise Permanent(
                f"the project has {count} files of type {kind}, more than MAX_MEDIA_FILES_PER_ZIP of {self.max_files}"
            )

    def check_bytes(self, size: int) -> None:
        """Raises TooLarge when `size`, the least bytes that an artifact would have, is too much."""
        if size > self.max_bytes:
            raise TooLarge(
                f"the archive would be at least {size} bytes long, more than MAX_ZIP_SIZE_BYTES of {self.max_bytes}"
            )


class TooLarge(Permanent):
    """The artifact as a whole exceeds a limit, whatever becomes of its single files."""


@dataclass(slots=True)
class Media:
    """One file of the project. `size` in bytes and `crc32` were measured; `declared` is the size that the host states.

    `kept` holds its bytes when memory has room for them. `missing` says why the file is left out, `transient` whether
    that reason may pass.
    """

    id: Any
    source_key: str
    name: str
    modified: DosTime
    declared: int
    size: int | None
    crc32: int | None
    kept: bytes | None = None
    missing: str | None = None
    transient: bool = False

    @property
    def measured(self) -> bool:
        return self.size is not None and self.crc32 is not None

    def leave_out(self, error: Permanent | Retry) -> None:
        """Note `error`, which the retries of this file ended with, as the reason for leaving it out."""
        self.missing = str(error)
        self.transient = isinstance(error, Retry)


@dataclass(frozen=True, slots=True)
class MediaSelection:
    """The media that one artifact asks for, in the order of its entries; `filename` is what a browser saves it as."""

    project_id: Any
    filename: str
    media: list[Media]


def select(context: Context, project_id: Any, kind: str, limits: ArtifactLimits) -> MediaSelection:
    """Read the project and its media.

    Raises Cancelled when the project is gone; Permanent for an unknown type, and when the project has no media of that
    type, too many, or too large ones; and what the context raises.
    """
    if kind not in _KINDS:
        raise Permanent(f"download_artifacts.type is {kind[:40]!r}, it must be one of {', '.join(_KINDS)}")
    projects = context.read(_PROJECT_NAME, {"id": project_id})
    if not projects:
        raise Cancelled("the project of this artifact no longer exists")
    (project_name,) = projects[0]
    kinds = _KINDS[kind]
    chosen = {"id": project_id, "kinds": None if kinds is None else list(kinds)}
    # Count before reading, so that too many are never read.
    [(count,)] = context.read(_COUNT_MEDIA, chosen)
    if count == 0:
        raise Permanent(f"the project has no media of type {kind}: there is nothing to put into an archive")
    limits.check_files(count, kind)
    names = Names(MISSING_NAME)
    media = [_media(names, _MediaRow(*row)) for row in context.read(_LIST_MEDIA, chosen)]
    limits.check_bytes(sum(item.declared if item.size is None else item.size for item in media))
    return MediaSelection(project_id, artifact_name(project_name, kind), media)


class _MediaRow(NamedTuple):
    """The columns of _LIST_MEDIA."""

    id: Any
    source_key: str | None
    filename: str | None
    created_at: datetime | None
    bytes: int | None
    measured_bytes: int | None
    measured_crc32: int | None


def _media(names: Names, row: _MediaRow) -> Media:
    source_key = row.source_key or ""
    name = names.unique(entry_name(row.filename, source_key))
    moment = row.created_at
    # A ZIP's times have no zone. Ours are UTC, whatever the zone of the database's session.
    if moment is not None and moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    declared = max(0, row.bytes or 0)
    return Media(row.id, source_key, name, dos_time(moment), declared, row.measured_bytes, row.measured_crc32)


@dataclass(frozen=True, slots=True)
class ArtifactPlan:
    """An artifact laid out. `sources` are the media of its first entries, in order; `missing` are those left out.

    `storage_key` names exactly these bytes under exactly this file name.
    """

    filename: str
    storage_key: str
    layout: ZipLayout
    sources: list[Media]
    missing: list[Media]

    def manifest(self) -> dict[str, Any]:
        """What went in and what was left out and why, for the row."""
        return {
            "recipe": RECIPE,
            "files": [
                {"media_id": str(item.id), "name": item.name, "size_bytes": item.size, "crc32": f"{item.crc32:08x}"}
                for item in self.sources
            ],
            "missing": [{"media_id": str(item.id), "name": item.name, "reason": item.missing} for item in self.missing],
        }


def lay_out(selection: MediaSelection, limits: ArtifactLimits) -> ArtifactPlan:
    """Lay the artifact out. All media must be measured or missing.

    Raises TooLarge. When every file is missing, raises Retry if another attempt may find one, otherwise Permanent.
    """
    present = [item for item in selection.media if item.missing is None]
    missing = [item for item in selection.media if item.missing is not None]
    if not present:
        reason = f"none of the {len(missing)} files could be had; the first: {missing[0].missing}"
        if any(item.transient for item in missing):
            raise Retry(reason)
        raise Permanent(reason)
    entries = [_entry(item) for item in present]
    if missing:
        text = _missing_text(missing, len(selection.media))
        latest = max(item.modified for item in selection.media)
        entries.append(ZipEntry(MISSING_NAME, len(text), zlib.crc32(text), latest, text))
    layout = ZipLayout(entries)
    limits.check_bytes(layout.size)
    digest = _digest(selection.filename, entries, present)
    key = f"{PREFIX}{selection.project_id}/{digest}/{ascii_name(selection.filename)}"
    return ArtifactPlan(selection.filename, key, layout, present, missing)


def _entry(item: Media) -> ZipEntry:
    assert item.size is not None
    assert item.crc32 is not None
    return ZipEntry(item.name, item.size, item.crc32, item.modified, item.kept)


def _digest(filename: str, entries: Sequence[ZipEntry], present: Sequence[Media]) -> str:
    """128 bits in hex, of everything that decides the artifact's bytes and of where they come from."""
    digest = hashlib.sha256(f"{RECIPE}\0{filename}\n".encode())
    for number, entry in enumerate(entries):
        origin = f"{present[number].id}\0{present[number].source_key}" if number < len(present) else ""
        # A plain tuple: the key must not depend on how a class prints itself.
        modified = tuple(entry.modified)
        digest.update(f"{entry.name}\0{entry.size}\0{entry.crc32}\0{modified}\0{origin}\n".encode())
    return digest.hexdigest()[:32]


def _missing_text(missing: Sequence[Media], total: int) -> bytes:
    """MISSING.txt, for the customer: line ends that every editor shows, and no reasons. Those stand in the manifest."""
    lines = [f"{len(missing)} of {total} files could not be included in this archive:", ""]
    return "\r\n".join([*lines, *(item.name for item in missing), ""]).encode()
