"""Words, times and tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import typer
from tests.cli.terminal import in_terminal

from jobqueue.cli.console import duration, span
from jobqueue.moments import LONG_AGO, NEVER, stamp
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from tests.cli.helpers import Database, Jobqueue


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30), ("15m", 900), ("2h", 7200), ("90d", 7_776_000), ("1w", 604_800), ("1h30m", 5400), ("0s", 0)],
)
def test_durations(text: str, expected: int) -> None:
    assert duration(text) == timedelta(seconds=expected)


@pytest.mark.parametrize("text", ["", "90", "d", "-2h", "2 h", "2y", "1.5h", "٣h", "99999999d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_spans_never_say_more_than_it_was() -> None:
    assert [span(seconds) for seconds in (-1, 0, 59.9, 60, 3599, 3600, 86_399, 86_400 * 3)] == [
        "0s", "0s", "59s", "1m", "59m", "1h", "23h", "3d",
    ]  # fmt: skip


def test_stamps_are_in_utc() -> None:
    there = datetime(2026, 3, 1, 2, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=3)))
    assert stamp(there) == "2026-02-28T23:00:00.123Z"
    assert stamp(datetime(2026, 3, 1, tzinfo=UTC).replace(tzinfo=None)) == "2026-03-01T00:00:00.000Z"


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert printable("a\x1b[31mb\nc\x9bé") == "a\\x1b[31mb\\nc\\x9bé"


@pytest.fixture
def failed_job(sql: Database) -> str:
    sql("INSERT INTO auction_files (id, source_key) VALUES ('00000000-0000-4000-8000-00000000000f', 'a.jpg')")
    id_ = "12345678-90ab-4cde-8f01-234567890abc"
    sql("INSERT INTO publish_jobs (id, file_id) VALUES (%s, '00000000-0000-4000-8000-00000000000f')", id_)
    sql(
        "UPDATE publish_jobs SET status = 'failed', error_message = 'the peer [bold]said[/bold] \x1b[31m no, ' || repeat('long ', 20)"
    )
    return id_


@pytest.mark.extended
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_ids_are_whole_on_a_terminal_of_any_width(
    columns: int, jobqueue: Jobqueue, failed_job: str, environment: dict[str, str]
) -> None:
    screen = in_terminal(["jobs", "list", "publish_jobs"], environment, columns=columns)
    assert screen.code == 0
    assert failed_job in screen.text
    assert "[bold]" in screen.text
    assert "\x1b[31m no" not in screen.raw
    assert failed_job in in_terminal(["jobs", "show", "publish_jobs", failed_job], environment, columns=columns).text


@pytest.mark.extended
def test_colour_on_a_terminal_unless_no_color(jobqueue: Jobqueue, failed_job: str, environment: dict[str, str]) -> None:
    args = ["jobs", "list", "publish_jobs"]
    assert "\x1b[31mfailed" in in_terminal(args, environment).raw
    assert "\x1b[3" not in in_terminal(args, {**environment, "NO_COLOR": "1"}).raw


def test_a_pipe_gets_lines_with_tabs_and_no_colour(jobqueue: Jobqueue, failed_job: str) -> None:
    ran = jobqueue("jobs", "list", "publish_jobs")
    ((id_, status, priority, retries, most, run_after, created, started, completed, kind, error),) = ran.rows
    assert (id_, status, priority, retries, most) == (failed_job, "failed", "5", "0", "5")
    assert (started, kind) == ("", "")
    for moment in (run_after, created, completed):
        assert datetime.fromisoformat(moment).utcoffset() == timedelta(0)
    assert "\\x1b[31m no" in error
    assert "\x1b" not in ran.out


def test_never_and_long_ago_are_written_as_postgresql_writes_them() -> None:
    assert [stamp(moment) for moment in (NEVER, LONG_AGO, NEVER.replace(tzinfo=None), None)] == [
        "infinity", "-infinity", "infinity", None,
    ]  # fmt: skip
