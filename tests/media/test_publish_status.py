from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from jobqueue.errors import Permanent
from jobqueue.kernel.database.link import Link
from jobqueue.media import publish_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from tests.support.gated_worker import GatedWorker
    from tests.support.host import Host

    from jobqueue.kernel import Context, Job


@pytest.fixture
def link(host: Host) -> Iterator[Link]:
    link = Link(host.dsn, "test")
    yield link
    link.close()


def left_behind(host: Host, job_status: str, *, thumb_url: str | None = None, file_status: str = "processing") -> UUID:
    """A file that says `file_status` although its job is in `job_status`; returns the job's id."""
    file = host.rows(
        "INSERT INTO auction_files (publish_status, thumb_url, updated_at) VALUES (%(s)s, %(u)s, 'epoch') RETURNING id",
        s=file_status,
        u=thumb_url,
    )[0]
    # Inserted in its state, so that no trigger has made the file follow.
    return host.enqueue_again(file["id"], status=job_status, run_after="2999-01-01")


@pytest.mark.parametrize(
    ("job_status", "thumb_url", "expected"),
    [
        ("pending", None, "pending"),
        ("failed", None, "failed"),
        ("failed", "https://cdn/thumb.webp", "failed"),
        ("cancelled", None, "pending"),
        ("cancelled", "https://cdn/thumb.webp", "published"),
        ("processing", None, "processing"),
    ],
)
def test_a_file_left_behind_catches_up_with_its_job(
    host: Host, link: Link, job_status: str, thumb_url: str | None, expected: str
) -> None:
    job = left_behind(host, job_status, thumb_url=thumb_url)
    publish_status.follow(link)
    file = host.file_of(job)
    assert file["publish_status"] == expected
    assert (file["updated_at"].year > 1970) is (expected != "processing")


@pytest.mark.parametrize("file_status", ["published", "deleted", "pending", "failed"])
def test_only_files_that_say_processing_are_touched(host: Host, link: Link, file_status: str) -> None:
    job = left_behind(host, "failed", file_status=file_status)
    before = host.file_of(job)
    publish_status.follow(link)
    assert host.file_of(job) == before


def test_the_latest_job_of_a_file_decides(host: Host, link: Link) -> None:
    job = left_behind(host, "failed")
    file = host.file_of(job)
    host.enqueue_again(file["id"], status="processing", updated_at="2999-01-01")
    publish_status.follow(link)
    assert host.file_of(job)["publish_status"] == "processing"
    host.execute("UPDATE publish_jobs SET updated_at = '3000-01-01' WHERE id = %(id)s", id=job)
    publish_status.follow(link)
    assert host.file_of(job)["publish_status"] == "failed"


def test_a_file_that_is_still_locked_is_caught_up_with_later(host: Host, link: Link) -> None:
    job, other = left_behind(host, "failed"), left_behind(host, "failed")
    with psycopg.connect(host.dsn) as holder:
        holder.execute("SELECT FROM auction_files WHERE id = %s FOR UPDATE", [host.file_of(job)["id"]])
        publish_status.follow(link)
        assert host.file_of(job)["publish_status"] == "processing"
        assert host.file_of(other)["publish_status"] == "failed"
    publish_status.follow(link)
    assert host.file_of(job)["publish_status"] == "failed"


def test_a_call_changes_a_bounded_number_of_files(host: Host, link: Link) -> None:
    host.execute(
        "WITH files AS (INSERT INTO auction_files (publish_status) SELECT 'processing' FROM generate_series(1, 502)"
        " RETURNING id) INSERT INTO publish_jobs (file_id, status) SELECT id, 'failed' FROM files"
    )
    left = "SELECT count(*) AS n FROM auction_files WHERE publish_status = 'processing'"
    publish_status.follow(link)
    assert host.rows(left)[0]["n"] == 2
    publish_status.follow(link)
    assert host.rows(left)[0]["n"] == 0


def test_a_file_that_a_host_holds_locked_does_not_hold_up_its_job(host: Host, link: Link, worker: GatedWorker) -> None:
    seen: list[str] = []

    def handler(job: Job, _context: Context) -> None:
        seen.append(host.file_of(job.id)["publish_status"])
        raise Permanent("no")

    with psycopg.connect(host.dsn) as holder:
        job = host.enqueue("photo")
        file = host.file_of(job)
        holder.execute("SELECT FROM auction_files WHERE id = %s FOR UPDATE", [file["id"]])
        worker.run(handler)
        assert host.job(job)["status"] == "failed"
        assert host.file_of(job)["publish_status"] in ("pending", "processing")
    # The claim may have come before the lock; from then on nobody but the chore can tell the file.
    host.execute("UPDATE auction_files SET publish_status = 'processing'")
    publish_status.follow(link)
    assert host.file_of(job)["publish_status"] == "failed"


def test_a_file_follows_its_job_at_each_step(host: Host, worker: GatedWorker) -> None:
    seen: list[str] = []

    def handler(job: Job, _context: Context) -> None:
        seen.append(host.file_of(job.id)["publish_status"])
        raise Permanent("no")

    job = host.enqueue("photo", run_after="2999-01-01")
    assert host.file_of(job)["publish_status"] == "pending"
    host.execute("UPDATE publish_jobs SET run_after = now()")
    worker.run(handler)
    assert seen == ["processing"]
    assert host.file_of(job)["publish_status"] == "failed"
