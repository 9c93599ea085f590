"""The loops of one process: that nothing holds them forever."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from tests.support.daemon import stop_still
from tests.support.waiting import eventually

from jobqueue.observe.metrics import Metrics
from jobqueue.schedule import scheduler
from jobqueue.schedule.scheduler import Scheduler
from jobqueue.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.schedule.helpers import Rig


@pytest.fixture
def running(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scheduler]:
    monkeypatch.setattr(scheduler, "_ANSWER", 1.0)
    file = tmp_path / "schedules.toml"
    file.write_text('[schedules.fast]\nevery = "1s"\nkind = "heartbeat"\noverlap = "allow"\n')
    running = Scheduler(load_settings({"DATABASE_URL": rig.dsn, "SCHEDULES_FILE": str(file)}), Metrics())
    running.start()
    yield running
    running.stop()
    running.close()


def backends(rig: Rig) -> list[int]:
    query = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'jobqueue:schedule' AND datname = current_database()"
    )
    return [row["pid"] for row in rig.rows(query)]


def stop_at_rest(rig: Rig) -> int:
    """Stop the only backend while it waits for its client: in the middle of something it would keep its locks from the next one."""
    (pid,) = backends(rig)

    def stopped() -> bool:
        stop_still(pid)
        if rig.value(
            "SELECT (state, wait_event) = ('idle', 'ClientRead') FROM pg_stat_activity WHERE pid = %(p)s", p=pid
        ):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    eventually(stopped)
    return pid


def test_a_server_that_falls_silent_is_left(rig: Rig, running: Scheduler) -> None:
    """Its process is stopped, as a host that vanished looks: the connection stays open and nothing ever comes."""
    eventually(lambda: rig.ticks("fast"))
    silent = stop_at_rest(rig)
    try:
        before = len(rig.ticks("fast"))
        eventually(lambda: set(backends(rig)) - {silent}, 8)
        eventually(lambda: len(rig.ticks("fast")) >= before + 2, 8)
        assert running.stuck() is None
    finally:
        os.kill(silent, signal.SIGCONT)


def test_a_session_that_is_ended_is_opened_again(rig: Rig, running: Scheduler) -> None:
    eventually(lambda: rig.ticks("fast"))
    (pid,) = backends(rig)
    rig.rows("SELECT pg_terminate_backend(%(p)s)", p=pid)
    before = len(rig.ticks("fast"))
    eventually(lambda: len(rig.ticks("fast")) >= before + 2, 8)


def test_a_loop_that_has_ended_is_told(running: Scheduler) -> None:
    assert running.stuck() is None
    (loop,) = running._loops
    loop.stop()
    assert loop.join(5)
    assert running.stuck() is None
    # As if it had ended by itself.
    loop._stopping.clear()
    assert "has ended" in (running.stuck() or "")
