"""Admission by estimated memory: first come, first served, nobody starves, waits can be ended."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.waiting import eventually

from jobqueue.media import memory_budget
from jobqueue.media.memory_budget import MIB, PROCESS_BYTES, SMALLEST_BUDGET, MemoryBudget, default_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GIB = 1024 * MIB


class Guest:
    """A thread that holds part of a budget until it is told to leave."""

    def __init__(self, budget: MemoryBudget, nbytes: int, checkpoint: Callable[[], None] | None = None) -> None:
        self.inside = threading.Event()
        self.error: BaseException | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(budget, nbytes, checkpoint), daemon=True)
        self._thread.start()

    def _stay(self, budget: MemoryBudget, nbytes: int, checkpoint: Callable[[], None] | None) -> None:
        try:
            with budget.admit(nbytes, checkpoint=checkpoint):
                self.inside.set()
                self._leave.wait(30)
        except RuntimeError as error:
            self.error = error

    def leave(self) -> None:
        """Go, whether admitted yet or later; returns when it has gone."""
        self._leave.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def guests() -> Iterator[ExitStack]:
    """Makes every guest leave at the end, admitted or not."""
    with ExitStack() as stack:
        yield stack


def enter(guests: ExitStack, budget: MemoryBudget, nbytes: int) -> Guest:
    """A guest that is inside already."""
    guest = Guest(budget, nbytes)
    guests.callback(guest.leave)
    assert guest.inside.wait(10)
    return guest


def queue(guests: ExitStack, budget: MemoryBudget, nbytes: int, checkpoint: Callable[[], None] | None = None) -> Guest:
    """A guest that waits at the end of the queue."""
    before = budget.waiting
    guest = Guest(budget, nbytes, checkpoint)
    guests.callback(guest.leave)
    eventually(lambda: budget.waiting == before + 1)
    return guest


def test_what_fits_is_admitted_at_once_and_counted(guests: ExitStack) -> None:
    budget = MemoryBudget(100)
    first, second = enter(guests, budget, 60), enter(guests, budget, 40)
    assert (budget.used, budget.waiting, budget.total) == (100, 0, 100)
    first.leave()
    assert budget.used == 40
    second.leave()
    assert budget.used == 0


def test_what_does_not_fit_waits_until_it_does(guests: ExitStack) -> None:
    budget = MemoryBudget(100)
    first = enter(guests, budget, 60)
    second = queue(guests, budget, 50)
    assert not second.inside.is_set()
    first.leave()
    assert second.inside.wait(10)
    assert budget.used == 50


def test_larger_than_everything_is_admitted_alone(guests: ExitStack) -> None:
    budget = MemoryBudget(100)
    first = enter(guests, budget, 10)
    giant = queue(guests, budget, 1000)
    assert not giant.inside.is_set()
    first.leave()
    assert giant.inside.wait(10)
    small = queue(guests, budget, 1)
    assert not small.inside.is_set()
    giant.leave()
    assert small.inside.wait(10)


def test_a_large_one_is_not_passed_by_small_ones_behind_it(guests: ExitStack) -> None:
    budget = MemoryBudget(100)
    first = enter(guests, budget, 60)
    large = queue(guests, budget, 90)
    small = queue(guests, budget, 10)  # would fit, but came later
    assert not small.inside.is_set()
    first.leave()
    assert large.inside.wait(10)
    assert small.inside.wait(10)  # 90 + 10 fit together


def test_a_wait_is_ended_by_its_checkpoint_and_those_behind_move_up(
    guests: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_budget, "_WAIT", 0.01)
    budget = MemoryBudget(100)
    enter(guests, budget, 60)
    stop = threading.Event()

    def checkpoint() -> None:
        if stop.is_set():
            raise RuntimeError("no longer wanted")

    large = queue(guests, budget, 90, checkpoint)
    small = queue(guests, budget, 10)
    stop.set()
    assert small.inside.wait(10)
    assert str(large.error) == "no longer wanted"
    assert (budget.used, budget.waiting) == (70, 0)


def test_an_error_inside_gives_the_bytes_back() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(ZeroDivisionError), budget.admit(70):
        _ = 1 / 0
    assert budget.used == 0


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        MemoryBudget(0)


@settings(max_examples=25, deadline=None)
@given(wishes=st.lists(st.integers(0, 150), min_size=1, max_size=20))
def test_the_total_is_never_passed_by_more_than_one_and_all_get_in(wishes: list[int]) -> None:
    budget = MemoryBudget(100)
    held: list[int] = []
    lock = threading.Lock()
    broken: list[list[int]] = []

    def visit(nbytes: int) -> None:
        with budget.admit(nbytes):
            with lock:
                held.append(nbytes)
                if sum(held) > 100 and len(held) > 1:
                    broken.append(list(held))
            with lock:
                held.remove(nbytes)

    threads = [threading.Thread(target=visit, args=(wish,)) for wish in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert not broken
    assert (budget.used, budget.waiting) == (0, 0)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_limit_of_the_control_groups_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/pod/container\n")
    write(tmp_path / "sys/fs/cgroup/pod/container/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/pod/memory.max", f"{GIB}\n")
    assert default_budget(tmp_path) == GIB - PROCESS_BYTES
    write(tmp_path / "sys/fs/cgroup/pod/container/memory.max", f"{GIB // 2}\n")
    assert default_budget(tmp_path) == GIB // 2 - PROCESS_BYTES


def test_inside_a_container_the_limit_lies_at_the_mount_itself(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/../../system.slice/docker-abc.scope\n")
    write(tmp_path / "sys/fs/cgroup/memory.max", f"{GIB // 2}\n")
    assert default_budget(tmp_path) == GIB // 2 - PROCESS_BYTES


def test_control_groups_version_1_are_read(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB // 2}\n")
    assert default_budget(tmp_path) == GIB // 2 - PROCESS_BYTES


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    unlimited = default_budget(tmp_path)
    write(tmp_path / "proc/self/cgroup", "4:memory:/\n")
    write(tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")  # version 1's "no limit"
    assert default_budget(tmp_path) == unlimited > 0


def test_a_tiny_container_still_gets_something(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "sys/fs/cgroup/memory.max", f"{100 * MIB}\n")
    assert default_budget(tmp_path) == SMALLEST_BUDGET


HEAPS = """
import ctypes, os, re, threading
from jobqueue.media.memory_budget import tune_heap
libc = ctypes.CDLL(None)
if not hasattr(libc, "malloc_info"):
    raise SystemExit(77)
tune_heap()
def churn(gate):
    blocks = [bytearray(2000) for _ in range(2000)]
    gate.wait()
gate = threading.Barrier(8)
threads = [threading.Thread(target=churn, args=(gate,)) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
libc.fopen.restype = ctypes.c_void_p
stream = libc.fopen(b"/proc/self/fd/1", b"w")
libc.malloc_info(0, ctypes.c_void_p(stream))
libc.fflush(None)
"""


def test_the_heap_has_two_arenas_however_many_threads_there_are() -> None:
    """As counted by glibc itself, in a process of its own: the setting cannot be taken back."""
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONMALLOC": "malloc"}
    done = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, env=environment, check=False)
    if done.returncode == 77:
        pytest.skip("malloc_info of glibc is not here")
    assert done.returncode == 0, done.stderr
    assert 1 <= done.stdout.count("<heap nr=") <= 2
    free = subprocess.run(
        [sys.executable, "-c", HEAPS],
        capture_output=True,
        text=True,
        env={**environment, "MALLOC_ARENA_MAX": "8"},
        check=True,
    )
    assert free.stdout.count("<heap nr=") > 2  # what the environment says is left alone
