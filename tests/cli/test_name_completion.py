"""The shell completes names, and stays silent when it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.testing import CliRunner

from jobqueue.cli.main import app

if TYPE_CHECKING:
    import pytest
    from tests.cli.helpers import Database, Jobqueue


def completed(line: str) -> list[str]:
    """What the shell offers for the last word of a line."""
    result = CliRunner().invoke(
        app, [], prog_name="jobqueue", env={"_JOBQUEUE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    )  # fmt: skip
    return result.stdout.split()


def test_names_of_queues_schedules_and_kinds(jobqueue: Jobqueue, sql: Database) -> None:
    sql("INSERT INTO schedules (name, kind, every_seconds) VALUES ('nightly', 'report', 60)")
    sql("INSERT INTO jobs (kind) VALUES ('refund')")

    assert completed("jobqueue jobs list pub") == ["publish_jobs"]
    assert set(completed("jobqueue jobs why ")) >= {"jobs", "publish_jobs", "webhook_deliveries"}
    assert completed("jobqueue schedules pause n") == ["nightly"]
    assert completed("jobqueue jobs list jobs --kind re") == ["refund", "report"]
    assert completed("jobqueue worker --queue webhook") == ["webhook_deliveries"]


def test_without_a_database_nothing_is_offered_and_nothing_said(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed("jobqueue jobs list ") == []
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert completed("jobqueue jobs list ") == []
