"""Artifacts from end to end: rows in, objects out."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.artifacts.helpers import MIB, noise
from tests.artifacts.zips import EACH_READER, check_with
from tests.support.http_server import reply, reset
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.artifacts.helpers import Yard

pytestmark = pytest.mark.slow

SMALL = {"a/Fête.jpg": noise(1, 70_000), "b/clip.mov": noise(2, 90_000), "c/leer.txt": b""}
LARGE = {f"{n}.jpg": noise(n, 3 * MIB + n) for n in range(4)} | {"film.mov": noise(9, 17 * MIB + 5)}


def by_name(files: dict[str, bytes]) -> dict[str, bytes]:
    return {key.rpartition("/")[2]: data for key, data in files.items()}


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("ranges", [False, True])
@pytest.mark.parametrize("files", [SMALL, LARGE], ids=["small", "large"])
def test_every_file_is_in_the_artifact(yard: Yard, files: dict[str, bytes], ranges: bool, measured: bool) -> None:
    yard.origin.files, yard.origin.ranges = files, ranges
    row = yard.build(yard.host.project(files, measured=measured))
    assert yard.read(row) == by_name(files)
    assert row["file_count"] == len(files)
    assert row["size_bytes"] == len(yard.fetch(row))
    assert row["cdn_url"] == f"https://cdn.example.test/{row['storage_key']}"
    assert [(file["name"], file["size_bytes"]) for file in row["manifest"]["files"]] == [
        (name, len(data)) for name, data in by_name(files).items()
    ]
    assert row["manifest"]["missing"] == []
    assert (row["files_done"], row["bytes_done"]) == (len(files), row["size_bytes"])
    assert (row["upload_key"], row["upload_id"], row["phase"]) == (None, None, None)
    assert yard.uploads() == []


@pytest.mark.parametrize("program", EACH_READER)
def test_another_program_reads_it(program: str, yard: Yard, tmp_path: Path) -> None:
    yard.origin.files = LARGE
    made = tmp_path / "made.zip"
    made.write_bytes(yard.fetch(yard.build(yard.host.project(LARGE))))
    check_with(program, made)


def test_first_and_later_artifacts_have_the_same_bytes_and_key(yard: Yard) -> None:
    yard.origin.files = LARGE
    project = yard.host.project(LARGE)
    first = yard.build(project)
    digest = hashlib.sha256(yard.fetch(first)).hexdigest()
    yard.objects.delete(first["storage_key"])
    yard.origin.ranges = False
    second = yard.build(project)
    assert second["storage_key"] == first["storage_key"]
    assert hashlib.sha256(yard.fetch(second)).hexdigest() == digest


def test_an_unchanged_project_is_answered_by_the_artifact_that_exists(yard: Yard) -> None:
    yard.origin.files = SMALL
    project = yard.host.project(SMALL)
    first = yard.build(project)
    modified = yard.objects.head(first["storage_key"])
    asked = yard.origin.asked.total()
    second = yard.build(project)
    assert second["storage_key"] == first["storage_key"]
    assert second["manifest"] == first["manifest"]
    assert yard.origin.asked.total() == asked
    assert yard.objects.head(first["storage_key"]) == modified


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE projects SET name = 'Winterfest'",
        "UPDATE project_media SET filename = 'other.jpg' WHERE source_key = 'a/Fête.jpg'",
        "UPDATE project_media SET source_key = 'b/clip.mov' WHERE source_key = 'a/Fête.jpg'",
        "DELETE FROM project_media WHERE source_key = 'c/leer.txt'",
        "UPDATE project_media SET created_at = '2001-01-01'",
    ],
)
def test_a_changed_project_gets_another_artifact(yard: Yard, change: str) -> None:
    yard.origin.files = SMALL
    project = yard.host.project(SMALL)
    first = yard.build(project)
    yard.host.execute(change)
    assert yard.build(project)["storage_key"] != first["storage_key"]


def test_type_chooses_the_media(yard: Yard) -> None:
    yard.origin.files = SMALL
    project = yard.host.project(SMALL)
    photos, videos = yard.build(project, "PHOTOS_ONLY"), yard.build(project, "VIDEOS_ONLY")
    assert set(yard.read(photos)) == {"Fête.jpg", "leer.txt"}
    assert set(yard.read(videos)) == {"clip.mov"}
    assert (photos["filename"], videos["filename"]) == ("Sommerfest photos.zip", "Sommerfest videos.zip")


def test_the_object_says_what_it_is(strict_yard: Yard) -> None:
    yard = strict_yard
    yard.origin.files = SMALL
    row = yard.build(yard.host.project(SMALL, name="Fête d'été"))
    info = yard.objects.head(row["storage_key"])
    assert info is not None
    assert info.content_type == "application/zip"
    assert info.content_disposition == (
        "attachment; filename=\"Fete_d_ete.zip\"; filename*=UTF-8''F%C3%AAte%20d%27%C3%A9t%C3%A9.zip"
    )
    assert row["storage_key"].endswith("/Fete_d_ete.zip")


def test_what_was_read_once_is_recorded(yard: Yard) -> None:
    yard.origin.files = LARGE
    project = yard.host.project(LARGE)
    yard.build(project)
    rows = yard.host.rows("SELECT source_key, measured_bytes AS size, measured_crc32 AS crc FROM project_media")
    import zlib

    assert {row["source_key"]: (row["size"], row["crc"]) for row in rows} == {
        key: (len(data), zlib.crc32(data)) for key, data in LARGE.items()
    }
    yard.host.execute("UPDATE project_media SET source_key = 'new' WHERE source_key = 'film.mov'")
    rows = yard.host.rows(
        "SELECT measured_bytes AS size, measured_at AS at FROM project_media WHERE source_key = 'new'"
    )
    assert rows == [{"size": None, "at": None}]


def test_small_artifacts_are_read_once_although_nothing_was_known(yard: Yard) -> None:
    yard.origin.files = SMALL
    yard.build(yard.host.project(SMALL))
    assert set(yard.origin.asked.values()) == {1}


def test_at_most_five_files_are_read_at_once(yard: Yard) -> None:
    files = {f"{n}.jpg": noise(n, 400_000) for n in range(40)}
    yard.origin.files = files
    # Nobody gets an answer before two have asked: how far they overlap otherwise is the machine's affair.
    yard.origin.held = dict.fromkeys(files, 0)
    with ThreadPoolExecutor() as beside:
        building = beside.submit(yard.build, yard.host.project(files, measured=True))
        try:
            eventually(lambda: yard.origin.holding > 1)
        finally:
            yard.origin.release()
        assert yard.read(building.result()) == files
    assert 1 < yard.origin.most_at_once <= 5


# Files that cannot be had


@pytest.mark.parametrize("measured", [False, True])
def test_a_missing_file_is_left_out_and_named(yard: Yard, measured: bool) -> None:
    files = {**LARGE, "gone.jpg": b"x" * 100}
    project = yard.host.project(files, measured=measured)
    yard.origin.files = LARGE
    row = yard.build(project)
    found = yard.read(row)
    assert found.pop("MISSING.txt").decode() == (
        "1 of 6 files could not be included in this archive:\r\n\r\ngone.jpg\r\n"
    )
    assert found == LARGE
    assert row["file_count"] == 5
    (missing,) = row["manifest"]["missing"]
    assert missing["name"] == "gone.jpg"
    assert "404" in missing["reason"]
    assert yard.uploads() == []
    assert set(yard.objects.keys()) == {row["storage_key"]}


def test_many_measured_files_that_went_away_cost_one_more_layout(yard: Yard) -> None:
    gone = {f"gone-{n}.jpg": b"%d" % n for n in range(20)}
    project = yard.host.project(LARGE | gone, measured=True)
    yard.origin.files = LARGE
    row = yard.build(project)
    assert len(row["manifest"]["missing"]) == 20
    assert set(yard.read(row)) == {*LARGE, "MISSING.txt"}


def test_a_file_that_comes_back_makes_another_artifact(yard: Yard) -> None:
    project = yard.host.project(SMALL)
    yard.origin.files = {key: data for key, data in SMALL.items() if key != "a/Fête.jpg"}
    without = yard.build(project)
    again = yard.build(project)
    assert again["storage_key"] == without["storage_key"]
    yard.origin.files = SMALL
    assert yard.read(yard.build(project)) == by_name(SMALL)


def test_an_artifact_with_none_of_its_files_fails(yard: Yard) -> None:
    row = yard.build(yard.host.project(SMALL))
    assert row["status"] == "FAILED"
    assert row["retry_count"] == row["max_retries"]
    assert row["error_message"].startswith("none of the 3 files could be had; the first: the origin ")
    assert list(yard.objects.keys()) == []


def test_transient_trouble_retries_the_file_and_not_the_artifact(yard: Yard) -> None:
    yard.origin.files = SMALL
    yard.origin.faults["a/Fête.jpg"] = [reply(503), reset]
    row = yard.build(yard.host.project(SMALL))
    assert yard.read(row) == by_name(SMALL)
    assert row["retry_count"] == 0
    assert yard.origin.asked["a/Fête.jpg"] == 3
    assert yard.origin.asked["b/clip.mov"] == 1


def test_a_body_that_breaks_off_is_taken_up_where_it_stopped(yard: Yard) -> None:
    yard.origin.files = LARGE

    def broken(_request: object, wire: object) -> None:
        wire.head(200, {"Content-Length": str(len(LARGE["0.jpg"])), "ETag": '"1"'})  # type: ignore[attr-defined]
        wire.send(LARGE["0.jpg"][:MIB])  # type: ignore[attr-defined]
        wire.close()  # type: ignore[attr-defined]

    yard.origin.faults["0.jpg"] = [broken]
    row = yard.build(yard.host.project(LARGE, measured=True))
    assert yard.read(row) == LARGE
    assert yard.origin.served_bytes["0.jpg"] == len(LARGE["0.jpg"]) - MIB


def test_a_changed_file_is_found_out_and_measured_again(yard: Yard) -> None:
    yard.origin.files = dict(LARGE)
    project = yard.host.project(LARGE, measured=True)
    for key, data in {"2.jpg": noise(77, len(LARGE["2.jpg"])), "film.mov": noise(78, 12 * MIB)}.items():
        yard.origin.files[key] = data
    row = yard.build(project)
    assert yard.read(row) == yard.origin.files
    assert yard.uploads() == []
    assert set(yard.objects.keys()) == {row["storage_key"]}


# Limits


def test_too_many_files(yard: Yard) -> None:
    yard.origin.files = SMALL
    row = yard.build(yard.host.project(SMALL), max_files=2)
    assert row["status"] == "FAILED"
    assert row["error_message"] == "the project has 3 files of type ALL, more than MAX_MEDIA_FILES_PER_ZIP of 2"
    assert yard.origin.asked.total() == 0


def test_declared_sizes_are_checked_before_anything_is_read(yard: Yard) -> None:
    yard.origin.files = SMALL
    row = yard.build(yard.host.project(SMALL, declared=100), max_bytes=250)
    assert row["status"] == "FAILED"
    assert row["error_message"] == ("the archive would be at least 300 bytes long, more than MAX_ZIP_SIZE_BYTES of 250")
    assert yard.origin.asked.total() == 0


def test_size_is_checked_while_files_are_read(yard: Yard) -> None:
    yard.origin.files = LARGE
    row = yard.build(yard.host.project(LARGE, declared=1), max_bytes=2 * MIB)
    assert row["status"] == "FAILED"
    assert "more than MAX_ZIP_SIZE_BYTES of 2097152" in row["error_message"]
    assert sum(yard.origin.served_bytes.values()) < 40 * MIB
    assert list(yard.objects.keys()) == []


def test_headers_count(yard: Yard) -> None:
    yard.origin.files = SMALL
    media = sum(map(len, SMALL.values()))
    assert yard.build(yard.host.project(SMALL), max_bytes=media + 100)["status"] == "FAILED"


def test_no_media(yard: Yard) -> None:
    row = yard.build(yard.host.project({}))
    assert row["status"] == "FAILED"
    assert row["error_message"] == "the project has no media of type ALL: there is nothing to put into an archive"


def test_unknown_type(yard: Yard) -> None:
    row = yard.build(yard.host.project(SMALL), "EVERYTHING")
    assert row["status"] == "FAILED"
    assert "must be one of ALL, PHOTOS_ONLY, VIDEOS_ONLY" in row["error_message"]


def test_a_deleted_projects_artifact_goes_with_it(yard: Yard) -> None:
    project = yard.host.project(SMALL)
    artifact = yard.host.ask(project)
    yard.host.execute("DELETE FROM projects")
    yard.work()
    assert yard.host.rows("SELECT FROM download_artifacts WHERE id = %(id)s", id=artifact) == []
