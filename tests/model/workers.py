"""The rules of the workers: they claim, end what they claimed, sooner or later, die and are rescued from."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.model.helpers import LEASE, Queue, Worker
from tests.model.machine import DATA, DELAYS, SIZES, WORKERS, Machine, deliverable, live, overtaken, somewhere, unlocked

if TYPE_CHECKING:
    from uuid import UUID

    from tests.model.model import Job

    from jobqueue.kernel.job import LeasedJob as Leased

# Outcomes that a holder may report.
VERBS = ("complete", "retry", "fail", "cancel", "snooze", "release")


class Workers(Machine):
    """What the kernel does, as its loops do it."""

    # Claiming

    @rule(data=DATA, who=WORKERS, limit=SIZES)
    def claim(self, data: st.DataObject, who: int, limit: int) -> None:
        self._claim(self.ground.workers[who], self._queue(data), limit)

    @rule(data=DATA)
    def claim_and_look_around(self, data: st.DataObject) -> None:
        """A claimer's turns: the floors that one leaves are those from which the next begins."""
        worker, queue = self.ground.workers[data.draw(WORKERS)], self._queue(data)
        self._turns(worker, queue, data.draw(SIZES), data.draw(st.integers(1, 3)))

    @precondition(lambda self: any(visit.inserted for visit in self.ground.visits))
    @rule(data=DATA, who=WORKERS, turns=st.integers(1, 3))
    def overtake_what_is_not_committed(self, data: st.DataObject, who: int, turns: int) -> None:
        """Later jobs of the same lane are enqueued and claimed; when the earlier ones turn up, the floors are beyond them."""
        visit = data.draw(st.sampled_from([visit for visit in self.ground.visits if visit.inserted]))
        later = [self._new(data, None) for _ in range(2)]
        for job in later:
            job.priority = visit.inserted[0].priority
        self.ground.insert(visit.queue, later)
        self.ground.compare()
        self._turns(self.ground.workers[who], visit.queue, 100, turns)

    def _turns(self, worker: Worker, queue: Queue, limit: int, turns: int) -> None:
        for _ in range(turns):
            self._claim(worker, queue, limit)
            self.ground.compare()
            self._survey(worker, queue)
            self.ground.compare()
            worker.mark(queue)
            assert not self.ground.pending_below_a_safe_floor()

    def _claim(self, worker: Worker, queue: Queue, limit: int) -> None:
        worker.mark(queue)
        expected = queue.model.claimable(*worker.lanes[queue.name].claim_from(), limit)
        token = uuid4()
        leased = worker.claim(queue, limit, token)
        running = self._merged(queue, worker, expected, token)
        assert [job.label for job in running] == [job.columns["label"] for job in leased]
        assert [job.position for job in running] == [job.position for job in leased]
        self._leased(queue, worker, leased, running)
        event(f"claims {min(len(leased), 3)}")

    def _merged(self, queue: Queue, worker: Worker, claimed: list[Job], token: UUID) -> list[Job]:
        """Lease these in the model, and have their twins give way; returns those that run."""
        for job in claimed:
            queue.model.lease(job, token, worker.name)
        running = queue.model.merge(claimed)
        event(f"twins that were claimed together: {min(len(claimed) - len(running), 2)}")
        return running

    def _leased(self, queue: Queue, worker: Worker, leased: list[Leased], jobs: list[Job]) -> None:
        for lease, job in zip(leased, jobs, strict=True):
            said = (lease.id, lease.priority, lease.retry_count, lease.max_retries, lease.crash_count)
            assert said == (job.id, job.priority, job.retry_count, job.max_retries, job.crash_count)
        queue.leases += leased

    @somewhere(lambda queue: queue.model.suspects())
    @rule(data=DATA, who=WORKERS)
    def claim_a_suspect(self, data: st.DataObject, who: int) -> None:
        queue, worker = self._queue(data, lambda queue: queue.model.suspects()), self.ground.workers[who]
        suspects = queue.model.suspects()
        token = uuid4()
        [lease] = queue.store.claim_suspect(worker.link, token, worker.name, LEASE)
        [job] = [job for job in suspects if job.id == lease.id]
        assert job.run_after == min(one.run_after for one in suspects)
        self._merged(queue, worker, [job], token)
        self._leased(queue, worker, [lease], [job])
        event("claims a suspect")

    @rule(data=DATA, who=WORKERS, limit=SIZES)
    def claim_without_an_answer(self, data: st.DataObject, who: int, limit: int) -> None:
        """The claim is committed, but its worker does not learn of it: it forgets its floors, and will give back what it got."""
        queue, worker = self._queue(data), self.ground.workers[who]
        floors = worker.lanes[queue.name].claim_from()
        if expected := queue.model.claimable(*floors, limit):
            token = uuid4()
            queue.store.claim(worker.link, floors, limit, token, worker.name, LEASE)
            self._merged(queue, worker, expected, token)
            self.unanswered.append((queue, token))
        worker.reconnect()

    @precondition(lambda self: self.unanswered or any(queue.leases for queue in self.ground.queues))
    @rule(data=DATA)
    def give_a_whole_claim_back(self, data: st.DataObject) -> None:
        answered = [(queue, lease.token) for queue in self.ground.queues for lease in queue.leases[-5:]]
        queue, token = data.draw(st.sampled_from(self.unanswered + answered))
        held = [job for job in queue.model.jobs if job.held_by(token)]
        if not any(job.locked for job in held):
            assert queue.store.release_claim(self.ground.link, token) == len(held)
            for job in self._in_order(queue, held):
                queue.model.release(job)

    @rule(data=DATA, who=WORKERS, at_once=st.booleans())
    def survey(self, data: st.DataObject, who: int, at_once: bool) -> None:
        """The mark that follows a survey is set at once, or after others have done something."""
        worker, queue = self.ground.workers[who], self._queue(data)
        self._survey(worker, queue)
        if at_once:
            worker.mark(queue)

    def _survey(self, worker: Worker, queue: Queue) -> None:
        worker.mark(queue)
        news, suspects = worker.survey(queue)
        assert suspects >= bool(queue.model.suspects())
        assert news or not queue.model.promotable()
        queue.model.promote()

    @rule(data=DATA, who=WORKERS)
    def mark_or_reconnect(self, data: st.DataObject, who: int) -> None:
        if data.draw(st.booleans()):
            self.ground.workers[who].mark(self._queue(data))
        else:
            self.ground.workers[who].reconnect()

    # Ending

    @somewhere(live)
    @rule(data=DATA, verb=st.sampled_from(VERBS))
    def deliver(self, data: st.DataObject, verb: str) -> None:
        queue = self._queue(data, live)
        self._deliver(data, queue, verb, live(queue))

    @somewhere(live)
    @rule(data=DATA, who=WORKERS, how=st.sampled_from(["released", "rescued", "queued again"]))
    def take_over(self, data: st.DataObject, who: int, how: str) -> None:
        """Somebody else gets the job, and perhaps others with it; the earlier holder reports all the same, now or later."""
        queue, worker = self._queue(data, live), self.ground.workers[who]
        lease = data.draw(st.sampled_from(live(queue)))
        job = queue.held(lease)
        assert job is not None
        if how == "released":
            assert queue.store.release(self.ground.link, [lease]) == {job.id}
            queue.model.release(job)
        elif how == "rescued":
            self._run_out(queue, [job])
            self._rescue(queue)
        else:
            self.ground.run(queue, "UPDATE {} SET status = %s WHERE id = %s", queue.words["pending"], job.id)
            queue.model.set_state(job, "pending")
        self.ground.compare()
        self._survey(worker, queue)
        self.ground.compare()
        self._claim(worker, queue, 100)
        if overtaken(queue):
            self.ground.compare()
            assert queue.store.renew(self.ground.link, overtaken(queue), LEASE) == {}
            self._deliver(data, queue, data.draw(st.sampled_from(VERBS)), overtaken(queue))

    @somewhere(overtaken)
    @rule(data=DATA, verb=st.sampled_from(VERBS))
    def deliver_what_was_taken_over(self, data: st.DataObject, verb: str) -> None:
        queue = self._queue(data, overtaken)
        self._deliver(data, queue, verb, overtaken(queue))

    @somewhere(deliverable)
    @rule(data=DATA, verb=st.sampled_from(VERBS))
    def deliver_late(self, data: st.DataObject, verb: str) -> None:
        """Outcomes of any lease that ever was, in any order, some twice, those that count among them."""
        queue = self._queue(data, deliverable)
        self._deliver(data, queue, verb, deliverable(queue))

    def _deliver(self, data: st.DataObject, queue: Queue, verb: str, leases: list[Leased]) -> None:
        batch = data.draw(st.lists(st.sampled_from(leases), min_size=1, max_size=5))
        delayed = {lease: data.draw(DELAYS) for lease in dict.fromkeys(batch)} if verb in ("retry", "snooze") else {}
        delays = [3_600.0 * delayed.get(lease, 0) for lease in batch]
        errors = [f"{verb} of {lease.token}" for lease in batch]
        held = {job: delayed.get(lease, 0) for lease in batch if (job := queue.held(lease))}
        store, link, model = queue.store, self.ground.link, queue.model
        failed: dict[Any, bool] = {}
        match verb:
            case "complete":
                recorded = store.complete(link, batch)
            case "retry":
                failed = store.retry(link, batch, delays, errors)
                recorded = set(failed)
            case "fail":
                recorded = store.fail(link, batch, errors)
            case "cancel":
                recorded = store.cancel(link, batch, errors)
            case "snooze":
                recorded = store.snooze(link, batch, delays, errors)
            case _:
                recorded = store.release(link, batch)
        assert recorded == {job.id for job in held}
        for job in self._in_order(queue, held):
            delay, error = timedelta(hours=held[job]), f"{verb} of {job.token}"
            match verb:
                case "complete":
                    model.complete(job)
                case "retry":
                    model.retry(job, delay, error)
                    assert failed[job.id] == (job.state == "failed")
                case "fail":
                    model.fail(job, error)
                case "cancel":
                    model.cancel(job, error)
                case "snooze":
                    model.snooze(job, delay, error)
                case _:
                    model.release(job)
        event(f"{verb}: {'some' if held else 'none'} held, {'some' if len(held) < len(set(batch)) else 'none'} stale")

    @somewhere(lambda queue: queue.leases)
    @rule(data=DATA)
    def renew_and_ask(self, data: st.DataObject) -> None:
        """Holders renew what they believe to hold, and ask whether an outcome of theirs was recorded."""
        queue = self._queue(data, lambda queue: queue.leases)
        leases = data.draw(st.sampled_from([queue.leases[-20:], overtaken(queue) or queue.leases[-20:]]))
        batch = data.draw(st.lists(st.sampled_from(leases), min_size=1, max_size=5))
        held = {lease.id: job for lease in batch if (job := queue.held(lease))}
        answer = queue.store.renew(self.ground.link, batch, LEASE)
        assert answer == {id_: not job.locked for id_, job in held.items()}
        for job in held.values():
            if not job.locked:
                queue.model.renew(job)
        with self.ground.sql.cursor() as cursor:
            for lease in batch:
                one = queue.model.get(lease.id)
                recorded = one is not None and one.token == lease.token and one.lease is None
                assert queue.store.find_completed(cursor, lease) == recorded

    # Losing

    @somewhere(lambda queue: [job for job in unlocked(queue) if job.lease])
    @rule(data=DATA, rescued=st.booleans())
    def leases_run_out(self, data: st.DataObject, rescued: bool) -> None:
        """Their workers may be dead, or only slow: whether the jobs are rescued first is open."""
        queue = self._queue(data, lambda queue: [job for job in unlocked(queue) if job.lease])
        self._run_out(queue, self._some(data, [job for job in unlocked(queue) if job.lease]))
        if rescued:
            self._rescue(queue)

    def _run_out(self, queue: Queue, jobs: list[Job]) -> None:
        for job in jobs:
            self.ground.run(queue, "UPDATE {} SET lease_expires_at = now() - interval '1 ms' WHERE id = %s", job.id)
            queue.model.expire(job)
        self.ground.compare()

    @rule(data=DATA)
    def rescue(self, data: st.DataObject) -> None:
        queue = self._queue(data)
        assert queue.store.lease_orphans(self.ground.link, LEASE) == len(queue.model.lease_orphans())
        self.ground.compare()
        self._rescue(queue)

    def _rescue(self, queue: Queue) -> None:
        lost = {job: job.worker or "" for job in queue.model.lost()}
        # Without the lease that a restart of the database gives holders to come back in.
        rescued = queue.store.rescue(self.ground.link, 0.0)
        for job in self._in_order(queue, lost):
            queue.model.rescue(job)
            event(f"rescued: {job.state}, {'a' if job.suspect else 'no'} suspect")
        assert len(rescued) == len(lost)
        expected = {job.id: (worker, job.state == "failed") for job, worker in lost.items()}
        assert {one.id: (one.locked_by, one.failed) for one in rescued} == expected
