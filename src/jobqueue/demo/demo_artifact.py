"""An artifact, the ZIP of everything, as a customer gets it: asked for by plain SQL, downloaded from the CDN, verified."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

import urllib3
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobqueue.demo.result_table import shown, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from rich.console import Console

    from jobqueue.demo.demo_host import ArtifactRow, Host
    from jobqueue.demo.demo_sources import DemoSource
    from jobqueue.demo.demo_worker import WorkerProcess

VERIFIED = "verified: every entry's CRC matches"

_MISSING_NAME = "MISSING.txt"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class LeftOut:
    """A file that is not in the artifact. `reason` is the manifest's; `expected` when the origin was known not to have it."""

    name: str
    reason: str
    expected: bool


@dataclass(frozen=True)
class DemoArtifact:
    """What became of the artifact: `problem` says why there is none, or what is wrong with it.

    `files` counts the media inside and `size` the ZIP's bytes; `seconds` pass from the insert to the end of its job.
    """

    filename: str
    url: str | None = None
    files: int = 0
    size: int = 0
    left_out: tuple[LeftOut, ...] = ()
    problem: str | None = None
    seconds: float = 0

    @property
    def as_expected(self) -> bool:
        """Whether it is whole: verified, and without any file that could have been had."""
        return self.problem is None and all(item.expected for item in self.left_out)


class WrongArtifact(Exception):
    """The ZIP is not what its row says; the message says where."""


def build(
    host: Host,
    found: Iterable[DemoSource],
    absent: Iterable[str],
    worker: WorkerProcess,
    folder: Path,
    console: Console,
) -> DemoArtifact:
    """Ask for an artifact of `found` and of the keys `absent`, which the origin does not have; show progress; verify it.

    The download is kept in `folder` while it is verified. Raises WorkerError as `WorkerProcess.follow` does.
    """
    project = host.offer(found, absent)
    began = time.monotonic()
    row = _await_end(host, host.download_all(project.id), worker, console)
    seconds = time.monotonic() - began
    filename = row.filename or "The artifact"
    if row.status != "READY" or row.cdn_url is None or row.manifest is None:
        return DemoArtifact(filename, problem=row.error_message or f"the artifact is {row.status}", seconds=seconds)
    problem = None
    try:
        with console.status("Verifying the artifact"), tempfile.TemporaryFile(dir=folder) as file:
            _download(row, file)
            verify(file, row, row.manifest, project.media)
    except (WrongArtifact, zipfile.BadZipFile, urllib3.exceptions.HTTPError, OSError) as error:
        problem = f"the artifact cannot be verified: {error}"
    left_out = tuple(
        LeftOut(item["name"], item["reason"], project.media[UUID(item["media_id"])] is None)
        for item in row.manifest["missing"]
    )
    return DemoArtifact(filename, row.cdn_url, row.file_count or 0, row.size_bytes or 0, left_out, problem, seconds)


def show(artifact: DemoArtifact, console: Console) -> None:
    """Print what became of it."""
    said = [f"[bold]Download all:[/] {shown(artifact.filename)}"]
    if artifact.url is not None:
        said[0] += f", {artifact.files} files, {size(artifact.size)}, built in {artifact.seconds:.1f} s"
    said += [f"  left out: {shown(item.name)}: {shown(item.reason)}" for item in artifact.left_out]
    said.append(f"  [red]{shown(artifact.problem)}[/]" if artifact.problem else f"  [green]{VERIFIED}[/]")
    console.print()
    for line in said:
        console.print(line, highlight=False, soft_wrap=True)


def _await_end(host: Host, artifact: UUID, worker: WorkerProcess, console: Console) -> ArtifactRow:
    """Show the progress that the row tells until the artifact is there or has failed."""
    columns = (
        SpinnerColumn(),
        TextColumn("Download all"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("Download all", total=None, doing="")
        for row in worker.follow(lambda: host.artifact(artifact)):
            files = f", {row.files_done} of {row.files_total} files" if row.files_total else ""
            bar.update(
                task,
                completed=row.bytes_done or 0,
                total=row.bytes_total,
                doing=f"{row.phase or row.status.lower()}{files}",
            )
            if row.ended:
                break
    return row


def _download(row: ArtifactRow, file: IO[bytes]) -> None:
    """Copy what the CDN serves to `file`. Raises WrongArtifact when it is served as something else than a whole ZIP."""
    assert row.cdn_url is not None
    with (
        urllib3.PoolManager(retries=False, timeout=30) as http,
        http.request("GET", row.cdn_url, preload_content=False) as answer,
    ):
        kind, disposition = answer.headers.get("Content-Type"), answer.headers.get("Content-Disposition", "")
        if answer.status != 200 or kind != "application/zip" or not disposition.startswith("attachment;"):
            raise WrongArtifact(f"{row.cdn_url} answers {answer.status} with type {kind}, disposition {disposition!r}")
        shutil.copyfileobj(answer, file, _CHUNK)
    if file.tell() != row.size_bytes:
        raise WrongArtifact(f"it has {file.tell()} bytes, its row says {row.size_bytes}")


def verify(
    file: IO[bytes], row: ArtifactRow, manifest: Mapping[str, Any], media: Mapping[UUID, DemoSource | None]
) -> None:
    """Compare the ZIP with its own checksums, with the manifest and with the originals.

    Raises WrongArtifact, which names the first difference, and zipfile.BadZipFile for what is no ZIP at all.
    """
    listed, missing = manifest["files"], manifest["missing"]
    names = [item["name"] for item in listed] + ([_MISSING_NAME] if missing else [])
    with zipfile.ZipFile(file) as zipped:
        damaged = zipped.testzip()
        if damaged is not None:
            raise WrongArtifact(f"the CRC of {damaged} does not match")
        entries = zipped.infolist()
        if [entry.filename for entry in entries] != names:
            raise WrongArtifact(f"its entries are {[entry.filename for entry in entries]}, expected {names}")
        told_missing = zipped.read(_MISSING_NAME).decode().splitlines()[2:] if missing else []
    if told_missing != [item["name"] for item in missing]:
        raise WrongArtifact(f"{_MISSING_NAME} names {told_missing}, the manifest {missing}")
    if len(listed) != row.file_count or len(listed) + len(missing) != len(media):
        raise WrongArtifact(
            f"its row counts {row.file_count} files, its manifest {len(listed)}, its project {len(media)}"
        )
    for entry, item in zip(entries, listed, strict=False):  # MISSING.txt comes last and has no original
        told = (item["size_bytes"], int(item["crc32"], 16))
        if (entry.file_size, entry.CRC) != told:
            raise WrongArtifact(f"{entry.filename} has another size or CRC than the manifest says")
        source = media[UUID(item["media_id"])]
        if source is None or _measured(source.path) != told:
            raise WrongArtifact(f"{entry.filename} is not the original")


def _measured(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    count = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            count, crc = count + len(chunk), zlib.crc32(chunk, crc)
    return count, crc
