"""Figures of the queue benchmark that are read off the progress of workers."""

from __future__ import annotations

import pytest
from bench.queues.feed import done_at, time_of
from bench.queues.limit import for_pgbench, jobs_script
from bench.queues.pickup import PickUp, summarise

SAMPLES = [(10.0, 100), (11.0, 300), (13.0, 300), (14.0, 400)]


@pytest.mark.parametrize(
    ("moment", "done"), [(9.0, 0), (10.0, 0), (10.5, 200), (11.0, 300), (12.0, 300), (13.5, 350), (20.0, 400)]
)
def test_what_was_done_between_samples_lies_on_the_line_between_them(moment: float, done: float) -> None:
    assert done_at(SAMPLES, moment) == done


def test_the_time_of_a_count_is_the_inverse() -> None:
    assert time_of(SAMPLES, 200) == 10.5
    assert time_of(SAMPLES, 350) == 13.5
    with pytest.raises(ValueError, match="401"):
        time_of(SAMPLES, 401)


def test_percentiles_are_values_that_were_measured_and_never_below_zero() -> None:
    assert summarise([float(n) for n in range(1, 201)]) == PickUp(100.0, 198.0)
    assert summarise([-0.4, -0.2, 0.1]) == PickUp(0.0, 0.1)


def test_pgbench_runs_the_kernel_s_statements_with_nothing_left_to_fill_in() -> None:
    script = jobs_script(50)
    assert "LIMIT 50" in script
    assert "%(" not in script
    assert "--" not in script


def test_an_unknown_parameter_of_a_statement_is_not_passed_over() -> None:
    with pytest.raises(KeyError, match="shard"):
        for_pgbench(b"SELECT %(shard)s")
