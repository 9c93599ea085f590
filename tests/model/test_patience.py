"""A host that has enqueued with a key and does not commit: nobody waits for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.kernel.helpers import Rig
from tests.support.waiting import eventually

from jobqueue.kernel import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def rig(database: str) -> Iterator[Rig]:
    with Rig(database) as rig:
        yield rig


def lose(rig: Rig, key: str | None) -> int:
    """A job whose worker is gone."""
    [id_] = rig.insert(1, unique_key=key)
    rig.sql.execute(
        b"UPDATE jobs SET status = 'processing', lease_token = gen_random_uuid(), locked_by = 'gone',"
        b" lease_expires_at = now() - interval '1 s' WHERE id = %s",
        [id_],
    )
    return int(id_)


def test_lost_jobs_are_rescued(rig: Rig) -> None:
    lose(rig, "k")
    others = [lose(rig, None) for _ in range(3)]
    host = rig.connect(autocommit=False)
    host.execute(b"INSERT INTO jobs (kind, unique_key) VALUES ('twin', 'k')")
    rig.worker(Queue("jobs", lambda *_: None), lease_seconds=1.0, poll_seconds=0.2)
    try:
        eventually(lambda: rig.states().get("completed") == len(others) + 1, 3.0)
    finally:
        host.rollback()


def test_jobs_are_claimed_after_a_claim_without_an_answer(rig: Rig) -> None:
    rig.insert(1, unique_key="k")
    engine = rig.engine(Queue("jobs", lambda *_: None))
    [job] = rig.claim()
    engine.claimer._lost_claims.add(rig.store(), job.token)
    rig.insert(3)
    host = rig.connect(autocommit=False)
    host.execute(b"INSERT INTO jobs (kind, unique_key) VALUES ('twin', 'k')")
    stopping = threading.Event()

    def turn() -> None:
        while not stopping.is_set():
            engine.claimer.turn()
            stopping.wait(0.05)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        eventually(lambda: len(engine.begun) == 4, 2.0)
    finally:
        host.rollback()
        stopping.set()
        thread.join()
