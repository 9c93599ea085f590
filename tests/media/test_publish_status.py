from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.support.waiting import eventually

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
        ("completed", None, "pending"),
        ("completed", "https://cdn/thumb.webp", "published"),
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


@pytest.mark.parametrize(("thumb_url", "expected"), [(None, "pending"), ("https://cdn/thumb.webp", "published")])
@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM publish_jobs WHERE id = %(id)s",
        "UPDATE publish_jobs SET status = 'completed' WHERE id = %(id)s",
        "UPDATE publish_jobs SET status = 'cancelled' WHERE id = %(id)s",
    ],
)
def test_a_file_follows_a_job_that_a_host_ends_while_it_is_being_published(
    host: Host,
    link: Link,
    worker: GatedWorker,
    statement: str,
    locked: bool,
    thumb_url: str | None,
    expected: str,
) -> None:
    job = host.enqueue("photo")
    file = host.file_of(job)["id"]
    host.execute("UPDATE auction_files SET thumb_url = %(u)s", u=thumb_url)
    seen: list[str] = []

    def status() -> str:
        return str(
            host.rows("SELECT publish_status FROM auction_files WHERE id = %(id)s", id=file)[0]["publish_status"]
        )

    def publish(cursor: psycopg.Cursor[Any]) -> None:
        cursor.execute("UPDATE auction_files SET publish_status = 'published'")

    def handler(job: Job, context: Context) -> None:
        seen.append(status())
        with psycopg.connect(host.dsn) as holder:
            if locked:
                holder.execute("SELECT FROM auction_files FOR UPDATE")
            host.execute(statement, id=job.id)
            seen.append(status())
        seen.append("over")
        context.commit(publish)

    worker.run(handler)
    # The job is over for the database before its handler knows.
    eventually(lambda: len(seen) == 3)
    assert seen == ["processing", "processing" if locked else expected, "over"]
    publish_status.follow(link)
    assert status() == expected


def test_what_a_host_said_of_the_file_before_it_ended_the_job_stays(host: Host, worker: GatedWorker) -> None:
    def handler(job: Job, _context: Context) -> None:
        host.execute("UPDATE auction_files SET publish_status = 'published'")
        host.execute("UPDATE publish_jobs SET status = 'completed' WHERE id = %(id)s", id=job.id)

    job = host.enqueue("photo")
    worker.run(handler)
    assert host.file_of(job)["publish_status"] == "published"


def test_a_job_that_was_deleted_leaves_the_file_to_its_twin(host: Host, worker: GatedWorker) -> None:
    def handler(job: Job, _context: Context) -> None:
        twin = host.enqueue_again(job.columns["file_id"], run_after="2999-01-01")
        host.execute("DELETE FROM publish_jobs WHERE id = %(id)s", id=job.id)
        seen.append(host.file_of(twin)["publish_status"])

    seen: list[str] = []
    host.enqueue("photo")
    worker.run(handler)
    eventually(lambda: seen)
    assert seen == ["pending"]


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_an_unknown_word_is_refused_by_name(host: Host, status: str) -> None:
    job = host.enqueue("photo", run_after="2999-01-01")
    host.execute("UPDATE publish_jobs SET status = %(s)s", s=status)
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        host.execute("UPDATE publish_jobs SET status = 'Done' WHERE id = %(id)s", id=job)
    assert refused.value.diag.message_primary == (
        f"the status of the publish job {job} cannot be 'Done': it may be pending, processing, completed, failed or cancelled"
    )
    assert refused.value.diag.table_name == "publish_jobs"
