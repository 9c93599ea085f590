"""The rules of the host, which enqueues and keeps transactions open, and of its operators, who change rows by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.model.machine import (
    DATA,
    HOURS,
    KEYS,
    LAST_HOUR,
    PRIORITIES,
    PRIORITY,
    Machine,
    deliverable,
    live,
    overtaken,
    somewhere,
    unlocked,
)

if TYPE_CHECKING:
    from tests.model.helpers import Visit
    from tests.model.model import Job, State

# What time passes by at once: more than any delay.
_LATER = timedelta(days=60)

# Transactions that are open at once, at most.
_VISITS = 4


class Hosts(Machine):
    """Whatever happens to the rows from outside."""

    # Enqueuing

    @rule(data=DATA, count=st.integers(1, 4))
    def enqueue(self, data: st.DataObject, count: int) -> None:
        queue = self._queue(data)
        jobs = [self._new(data, data.draw(KEYS)) for _ in range(count)]
        for job in jobs:
            if len(queue.model.twins(job)) > 1:
                # Which of them it becomes is left open: it changes none.
                job.priority, job.run_after = min(PRIORITY), self._time(LAST_HOUR + 1)
        self.ground.insert(queue, jobs)

    # Transactions that stay open

    @rule(data=DATA, again=st.booleans())
    def enqueue_without_committing(self, data: st.DataObject, again: bool) -> None:
        """In a transaction that is open already, or in one that begins now."""
        queue = self._queue(data)
        under_way = [visit for visit in self.ground.visits if visit.inserted and visit.queue is queue]
        if not under_way and len(self.ground.visits) >= _VISITS:
            return
        visit = data.draw(st.sampled_from(under_way)) if again and under_way else self.ground.visit(queue)
        job = self._new(data, data.draw(KEYS))
        if queue.model.twins(job) or any(one.key == job.key for one in visit.inserted):
            job.key = None
        self.ground.insert(queue, [job], visit.connection)
        visit.inserted.append(job)

    @precondition(lambda self: len(self.ground.visits) < _VISITS)
    @somewhere(lambda queue: [job for job in unlocked(queue) if job.state == "pending" and not job.key])
    @rule(data=DATA)
    def lock_a_pending_job(self, data: st.DataObject) -> None:
        """As a host does, or a claimer whose connection is lost before its claim is committed."""
        queue, job = self._job(data, lambda job: job.state == "pending" and not job.key)
        visit = self.ground.visit(queue)
        visit.connection.execute(f"SELECT FROM {queue.name} WHERE id = %s FOR UPDATE".encode(), [job.id])
        self._lock(visit, job)

    @precondition(lambda self: len(self.ground.visits) < _VISITS)
    @somewhere(deliverable)
    @rule(data=DATA, completes=st.booleans())
    def begin_a_handlers_transaction(self, data: st.DataObject, completes: bool) -> None:
        queue = self._queue(data, deliverable)
        pools = [pool for pool in (live(queue), overtaken(queue), deliverable(queue)) if pool]
        lease = data.draw(st.sampled_from(data.draw(st.sampled_from(pools))))
        visit = self.ground.visit(queue)
        fence = queue.store.complete_within if completes else queue.store.holds
        with visit.connection.cursor() as cursor:
            held = fence(cursor, lease)
        job = queue.held(lease)
        assert held == (job is not None)
        if job is None:
            self.ground.leave(visit, commit=True)
        else:
            visit.completes = completes
            self._lock(visit, job)
            event(f"handler completes: {completes}")

    def _lock(self, visit: Visit, job: Job) -> None:
        visit.locked.append(job)
        job.locked = True

    @precondition(lambda self: self.ground.visits)
    @rule(data=DATA, commit=st.booleans())
    def end_a_transaction(self, data: st.DataObject, commit: bool) -> None:
        self.ground.leave(data.draw(st.sampled_from(self.ground.visits)), commit=commit)

    # The host and its operators

    @somewhere(unlocked)
    @rule(data=DATA, state=st.sampled_from(["pending", "pending", "cancelled", "completed", "failed"]))
    def set_the_state(self, data: st.DataObject, state: State) -> None:
        """Queue again, call off, or end by hand: whatever the job was, and whoever holds it."""
        queue, job = self._job(data)
        self.ground.run(queue, "UPDATE {} SET status = %s WHERE id = %s", queue.words[state], job.id)
        queue.model.set_state(job, state)

    @somewhere(unlocked)
    @rule(
        data=DATA, change=st.sampled_from(["max_retries", "max_retries", "priority", "run_after", "status", "delete"])
    )
    def change_by_hand(self, data: st.DataObject, change: str) -> None:
        queue, job = self._job(data)
        if change == "max_retries":
            attempts = data.draw(st.integers(1, 8))
            self.ground.run(queue, "UPDATE {} SET max_retries = %s WHERE id = %s", attempts, job.id)
            queue.model.set_max_retries(job, attempts)
        elif change == "delete":
            self.ground.run(queue, "DELETE FROM {} WHERE id = %s", job.id)
            queue.model.delete(job)
        elif change == "priority":
            priority = data.draw(PRIORITIES)
            self.ground.run(queue, "UPDATE {} SET priority = %s WHERE id = %s", priority, job.id)
            queue.model.set_priority(job, priority)
        elif change == "run_after":
            hours = data.draw(HOURS)
            when = None if hours is None else self._time(hours)
            self.ground.run(queue, "UPDATE {} SET run_after = coalesce(%s, now()) WHERE id = %s", when, job.id)
            queue.model.set_run_after(job, self._time(hours))
        elif job.state == "pending":
            # In progress by hand: as whatever ran the queue before left its jobs behind.
            self.ground.run(queue, "UPDATE {} SET status = %s WHERE id = %s", queue.words["processing"], job.id)
            queue.model.set_state(job, "processing")

    @somewhere(lambda queue: queue.delayed())
    @rule(data=DATA, promoted=st.booleans())
    def time_passes(self, data: st.DataObject, promoted: bool) -> None:
        """Delayed jobs become due as time does it: no trigger sees it."""
        queue = self._queue(data, lambda queue: queue.delayed())
        jobs = self._some(data, queue.delayed())
        with self.ground.sql.transaction():
            self.ground.sql.execute(b"SET LOCAL session_replication_role = replica")
            for job in jobs:
                self.ground.run(queue, "UPDATE {} SET run_after = run_after - %s WHERE id = %s", _LATER, job.id)
                queue.model.pass_time(job, _LATER)
        if promoted:
            self.ground.compare()
            assert queue.store.promote(self.ground.link) == len(queue.model.promote())
