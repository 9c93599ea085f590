"""The statements that operators have in their runbooks, to the letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from jobqueue.errors import Permanent, Retry

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig

    from jobqueue.kernel import Context, Job


@pytest.fixture
def published(rig: Rig) -> Rig:
    """Six files: three published, one that failed for good, one that ran out of attempts, one that waits."""
    files = rig.insert(6, "auction_files", source_key="a.jpg")
    for n, file in enumerate(files):
        due = "=now() + interval '1 hour'" if n == 5 else "=now()"
        rig.insert(1, "publish_jobs", file_id=str(file), run_after=due)

    def publish(job: Job, context: Context) -> None:
        n = files.index(job.columns["file_id"])
        if n == 3:
            raise Permanent("no picture")
        if n == 4:
            raise Retry("the origin was away", after=0)
        context.commit(
            lambda cursor: cursor.execute(
                b"UPDATE auction_files SET publish_status = 'published' WHERE id = %s", [job.columns["file_id"]]
            ).close()
        )

    rig.run_once(publish, "publish_jobs", columns=("file_id",))
    return rig


def test_how_many_wait(published: Rig) -> None:
    assert published.rows("SELECT COUNT(*) FROM publish_jobs WHERE status = 'pending';") == [(1,)]


def test_what_ran_out_of_attempts(published: Rig) -> None:
    rows = published.rows("SELECT * FROM publish_jobs WHERE status = 'failed' AND retry_count >= max_retries;")
    assert len(rows) == 2
    assert any("the origin was away" in row for row in rows)
    assert any("no picture" in row for row in rows)


def test_how_long_they_take(published: Rig) -> None:
    [(seconds,)] = published.rows(
        """SELECT AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_seconds
  FROM publish_jobs WHERE status = 'completed' AND completed_at > NOW() - INTERVAL '1 hour';"""
    )
    assert 0 < seconds < 30


def test_how_the_files_stand(published: Rig) -> None:
    rows = published.rows(
        "SELECT publish_status, COUNT(*) FROM auction_files WHERE deleted_at IS NULL GROUP BY publish_status;"
    )
    assert dict(rows) == {"published": 3, "failed": 2, "pending": 1}


def test_more_attempts_for_what_has_failed_and_those_jobs_run_again(published: Rig) -> None:
    published.sql.execute(b"UPDATE publish_jobs SET max_retries = 10 WHERE status = 'failed';")
    assert published.states("publish_jobs") == {"completed": 3, "pending": 3}
    attempts: list[Any] = []
    published.run_once(lambda job, _: attempts.append((job.attempt, job.max_retries)), "publish_jobs")
    assert sorted(attempts) == [(6, 10), (6, 10)]
    assert published.states("publish_jobs") == {"completed": 5, "pending": 1}


def test_more_attempts_change_nothing_for_the_others(published: Rig) -> None:
    published.sql.execute(b"UPDATE publish_jobs SET max_retries = 10")
    published.sql.execute(b"UPDATE publish_jobs SET max_retries = 1")
    assert published.states("publish_jobs") == {"completed": 3, "pending": 3}


def test_what_is_old_goes(published: Rig) -> None:
    published.sql.execute(
        b"UPDATE publish_jobs SET completed_at = completed_at - interval '91 days' WHERE status = 'completed'"
    )
    published.sql.execute(
        b"DELETE FROM publish_jobs WHERE status = 'completed' AND completed_at < NOW() - INTERVAL '90 days';"
    )
    assert published.states("publish_jobs") == {"failed": 2, "pending": 1}
