"""The witness: who is gone, by what was seen, and never before the process itself has stopped acting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from jobqueue.kernel.database.rows import GoneWorker, WorkerPresence
from jobqueue.kernel.leasing.presence import FENCED_AFTER, GONE_AFTER, SILENT_AFTER
from jobqueue.kernel.leasing.witness import MANY, Witness

if TYPE_CHECKING:
    from collections.abc import Sequence


def row(
    name: str = "w", presence: int = 1, *, held: bool = False, fence: float | None = FENCED_AFTER, silent: float = 60.0
) -> WorkerPresence:
    return WorkerPresence(name, presence, fence, silent, held, 0.0)


def test_a_lock_that_was_held_and_is_free_for_long_enough_is_a_dead_workers() -> None:
    witness = Witness()
    assert witness.look([row(held=True)], 0.0) == set()
    assert witness.look([row()], 0.3) == set()
    assert witness.look([row()], 0.3 + GONE_AFTER - 0.01) == set()
    assert witness.look([row()], 0.3 + GONE_AFTER) == {GoneWorker("w", 1)}
    # Found once.
    assert witness.look([row()], 99.0) == set()


def test_it_begins_again_when_the_lock_was_held_in_between() -> None:
    witness = Witness()
    witness.look([row(held=True)], 0.0)
    witness.look([row()], 1.0)
    witness.look([row(held=True)], 1.5)
    assert witness.look([row()], 2.0 + GONE_AFTER) == set()
    assert witness.look([row()], 2.0 + 2 * GONE_AFTER) == {GoneWorker("w", 1)}


def test_a_worker_that_took_another_number_is_well() -> None:
    witness = Witness()
    witness.look([row(held=True)], 0.0)
    witness.look([row()], 0.3)
    assert witness.look([row(presence=2, held=True)], 5.0) == set()
    assert witness.look([row(presence=2, held=True)], 50.0) == set()


def test_what_it_did_not_see_held_it_waits_for_as_long_as_anybody_needs() -> None:
    witness = Witness()
    assert witness.look([row()], 0.0) == set()
    assert witness.look([row()], SILENT_AFTER - 0.01) == set()
    assert witness.look([row()], SILENT_AFTER) == {GoneWorker("w", 1)}


def test_after_a_new_session_it_has_seen_nothing() -> None:
    witness = Witness()
    witness.look([row(held=True)], 0.0)
    witness.look([row()], 0.3)
    witness.reset()
    assert witness.look([row()], 1.0) == set()
    assert witness.look([row()], 1.0 + GONE_AFTER) == set()
    assert witness.look([row()], 1.0 + SILENT_AFTER) == {GoneWorker("w", 1)}


def test_a_worker_of_a_version_before_gets_the_time_that_it_needs() -> None:
    witness = Witness()
    witness.look([row(held=True, fence=None)], 0.0)
    witness.look([row(fence=None, silent=1.0)], 0.3)
    assert witness.look([row(fence=None, silent=GONE_AFTER)], 0.3 + GONE_AFTER) == set()
    assert witness.look([row(fence=None, silent=SILENT_AFTER - 1)], 0.3 + SILENT_AFTER) == set()
    assert witness.look([row(fence=None, silent=SILENT_AFTER)], 1.3 + SILENT_AFTER) == {GoneWorker("w", 1)}


def test_many_at_once_are_not_killed_one_by_one() -> None:
    names = [f"w{number}" for number in range(MANY + 1)]
    witness = Witness()
    witness.look([row(name, held=True) for name in names], 0.0)
    now = [row(name, held=name == "w0") for name in names]
    witness.look(now, 0.3)
    assert witness.look(now, 0.3 + GONE_AFTER) == set()
    assert {worker.name for worker in witness.look(now, 0.3 + SILENT_AFTER)} == set(names[1:])


def test_one_of_many_is() -> None:
    names = [f"w{number}" for number in range(10)]
    witness = Witness()
    witness.look([row(name, held=True) for name in names], 0.0)
    now = [row(name, held=name not in ("w3", "w4", "w5")) for name in names]
    witness.look(now, 0.3)
    assert len(witness.look(now, 0.3 + GONE_AFTER)) == 3


moments = st.lists(st.floats(0.0, 5.0), max_size=40).map(sorted)


@given(
    sent=moments,
    looks=moments,
    freed_at=st.floats(0.0, 5.0),
    delays=st.lists(st.floats(0.0, 2.0), min_size=40, max_size=40),
)
def test_whoever_is_found_gone_has_stopped_before(
    sent: Sequence[float], looks: Sequence[float], freed_at: float, delays: Sequence[float]
) -> None:
    """A worker that is cut off while the server sees its connection end: whatever it asked is answered before that, or never.

    Requests take as long as they like, looks come when they like, and both clocks run at the same pace.
    """
    answered = [at for at, delay in zip(sent, delays, strict=False) if at + delay < freed_at]
    acts_until = max(answered, default=0.0) + FENCED_AFTER
    witness = Witness()
    for at in looks:
        if witness.look([row(held=at < freed_at, silent=at)], at):
            assert at > acts_until
