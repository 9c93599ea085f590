"""The kernel against its promise: whatever happens, in whatever order, every row is what the model says it is.

Hosts enqueue, workers claim and end jobs, die and come back, operators change rows by hand, and outcomes arrive late, twice
and out of order. After each step every row of both tables is held against the model: those that the step should have changed
by what they should have become, all others byte for byte. At the end, and now and then, each worker must come to everything
that is due by claiming and looking around from the floors that it remembers.

The run of the suite is short and the same each time. For a long one, with other examples each time:

    MODEL_EXAMPLES=2000 python -m pytest -m extended tests/model

MODEL_STEPS sets the steps in each example. A failure is kept in .hypothesis and comes first the next time.
"""

from __future__ import annotations

import os
import sys
from typing import cast

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from tests.model.helpers import Ground, Queue, Worker
from tests.model.hosts import Hosts
from tests.model.machine import DATA, KEYS, SIZES
from tests.model.workers import Workers

from jobqueue.kernel.claiming import lanes as lanes_module
from jobqueue.kernel.claiming.lanes import Lanes

_EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))

SETTINGS = settings(
    stateful_step_count=int(os.environ.get("MODEL_STEPS", "40")),
    deadline=None,
    derandomize=not _EXAMPLES,
    suppress_health_check=list(HealthCheck),
)


class Kernel(Hosts, Workers):
    """All rules, and what must hold after each."""

    @initialize(data=DATA)
    def some_jobs_and_workers_that_hold_a_few(self, data: st.DataObject) -> None:
        for queue in self.ground.queues:
            self.ground.insert(queue, [self._new(data, data.draw(KEYS)) for _ in range(4)])
            self.ground.compare()
            for who in range(2):
                self._survey(self.ground.workers[who], queue)
                self.ground.compare()
                self._claim(self.ground.workers[who], queue, 1)

    # What must hold

    @invariant()
    def every_row_is_what_the_model_says(self) -> None:
        self.ground.compare()

    @invariant()
    def nothing_can_turn_up_below_a_safe_floor(self) -> None:
        assert not self.ground.pending_below_a_safe_floor()

    @rule(data=DATA, who=st.integers(0, 3), size=SIZES)
    def look(self, data: st.DataObject, who: int, size: int) -> None:
        worker = self._newcomer() if who == 3 else self.ground.workers[who]
        self._comes_to_everything(worker, self._queue(data), size)

    def _comes_to_everything(self, worker: Worker, queue: Queue, size: int) -> None:
        """Nothing that is due is left, nothing else is leased, nothing twice, of twins one; and a newcomer goes strictly in
        order."""
        waiting = {job.label: job for job in queue.model.waiting()}
        came_to = [job.columns["label"] for job in worker.work_off(queue, size)]
        assert set(came_to) <= set(waiting)
        # A job without a key is no other's twin.
        assert sorted(waiting[label].key or str(label) for label in came_to) == sorted(
            {job.key or str(label) for label, job in waiting.items()}
        )
        if not worker.lanes[queue.name].claim_from()[0]:
            in_order = [waiting[label] for label in came_to if waiting[label].position is not None]
            assert in_order == sorted(in_order, key=lambda job: (-job.priority, job.position or 0))
        event(f"comes to {min(len(came_to), 3)}")

    def _newcomer(self) -> Worker:
        return Worker(self.ground.link, "newcomer", {queue.name: Lanes() for queue in self.ground.queues})

    def teardown(self) -> None:
        if sys.exception():
            return
        while self.ground.visits:
            self.ground.leave(self.ground.visits[0], commit=True)
        self.ground.compare()
        for queue in self.ground.queues:
            for worker in [*self.ground.workers, self._newcomer()]:
                self._comes_to_everything(worker, queue, 100)
        self.ground.compare()


@pytest.mark.slow
@pytest.mark.parametrize("examples", [20, pytest.param(_EXAMPLES or 100, marks=pytest.mark.extended)])
def test_the_kernel_keeps_its_promise(database: str, monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    # The slack below a batch is a convenience, nothing may depend on it; with it no floor would rise in so few steps.
    monkeypatch.setattr(lanes_module, "SLACK", 0)
    with Ground(database) as ground:
        run_state_machine_as_test(
            cast("type[Kernel]", lambda: Kernel(ground)), settings=settings(SETTINGS, max_examples=examples)
        )
