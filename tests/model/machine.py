"""What the rules share: the ground, what is drawn, and how a queue or a job is chosen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition
from tests.model.model import NOW, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from tests.model.helpers import Ground, Queue

    from jobqueue.kernel.job import LeasedJob as Leased

DATA = st.data()
WORKERS = st.integers(0, 2)
SIZES = st.sampled_from([1, 2, 3, 100])
PRIORITY = [5, 5, 5, 9, 0, -3]
PRIORITIES = st.sampled_from(PRIORITY)
KEYS = st.sampled_from([None, None, None, "k", "l"])
ATTEMPTS = st.sampled_from([5, 5, 1, 1, 2, 3])
CRASHES = st.sampled_from([0, 0, 0, 0, 1, 2])
# Hours until a job is due; None is the column's default, which is now.
LAST_HOUR = 30
HOURS = st.one_of(st.none(), st.none(), st.integers(-3, -1), st.integers(24, LAST_HOUR))
DELAYS = st.one_of(st.just(0), st.integers(24, 30))


def somewhere(has: Callable[[Queue], object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule for queues of which this is true."""
    return precondition(lambda self: any(has(queue) for queue in self.ground.queues))


def live(queue: Queue) -> list[Leased]:
    """The leases that count; one whose handler is in its transaction says nothing else."""
    return [lease for lease in queue.leases if (job := queue.held(lease)) and not job.locked]


def deliverable(queue: Queue) -> list[Leased]:
    """The latest leases, whatever became of them."""
    return [lease for lease in queue.leases[-20:] if not ((job := queue.held(lease)) and job.locked)]


def overtaken(queue: Queue) -> list[Leased]:
    """Earlier leases of jobs that somebody else holds now."""
    held = {job.id: job.token for job in queue.model.in_state("processing") if job.token}
    return [lease for lease in queue.leases[-20:] if held.get(lease.id, lease.token) != lease.token]


def unlocked(queue: Queue) -> list[Job]:
    return [job for job in queue.model.jobs if not job.locked]


class Machine(RuleBasedStateMachine):
    """A step is one statement, but for claims and surveys, which also move their worker's floors."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.labels = 0
        self.unanswered: list[tuple[Queue, UUID]] = []
        ground.reset()

    def _new(self, data: st.DataObject, key: str | None) -> Job:
        self.labels += 1
        new = Job(self.labels, key, data.draw(PRIORITIES), data.draw(ATTEMPTS), self._time(data.draw(HOURS)))
        new.retry_count = new.crash_count = data.draw(CRASHES)
        new.most = max(new.max_retries, new.retry_count + 1)
        return new

    def _time(self, hours: int | None) -> datetime | timedelta:
        return NOW if hours is None else self.ground.now + timedelta(hours=hours)

    def _queue(self, data: st.DataObject, has: Callable[[Queue], object] = lambda _: True) -> Queue:
        return data.draw(st.sampled_from([queue for queue in self.ground.queues if has(queue)]))

    def _job(self, data: st.DataObject, is_one: Callable[[Job], object] = lambda _: True) -> tuple[Queue, Job]:
        """A job that nobody has locked."""
        jobs = [(queue, job) for queue in self.ground.queues for job in unlocked(queue) if is_one(job)]
        return data.draw(st.sampled_from(jobs))

    def _some(self, data: st.DataObject, among: Sequence[Job]) -> list[Job]:
        return data.draw(st.lists(st.sampled_from(among), unique_by=id, min_size=1, max_size=3))

    def _in_order(self, queue: Queue, jobs: Iterable[Job]) -> list[Job]:
        """Jobs that one statement changed. Of those with one key, which of them became pending is left open: it goes first."""
        rows = self.ground.run(queue, "SELECT id FROM {} WHERE status = %s", queue.words["pending"])
        return sorted(jobs, key=lambda job: (job.id,) not in rows)
