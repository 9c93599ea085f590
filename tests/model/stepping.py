"""Connections whose transactions are stepped by hand: in a given order, each as far as it can go.

A step that waits for a lock is left waiting while the others go on; PostgreSQL itself says who waits (pg_blocking_pids).
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID, uuid4

import psycopg
from psycopg import errors

from jobqueue.kernel.database.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Seconds after which a statement that neither ends nor waits for a lock is taken to be stuck.
_STUCK = 30.0


@dataclass(eq=False)
class Actor:
    """One connection, with a thread for its statements; what it does in a play, and the last answer that it got."""

    name: str
    link: Link
    token: UUID = field(default_factory=uuid4)
    answer: Any = None
    waited: bool = False
    beside: bool = False  # whether another's transaction was open during one of its steps
    under_way: Future[Any] | None = None
    steps: deque[Callable[[Actor], Any]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        self.pid = self.link.connection().info.backend_pid


def begin(actor: Actor) -> None:
    actor.link.connection().execute("BEGIN")


def commit(actor: Actor) -> None:
    actor.link.connection().execute("COMMIT")


def rollback(actor: Actor) -> None:
    actor.link.connection().execute("ROLLBACK")


def orders(*counts: int) -> Iterator[tuple[int, ...]]:
    """Every order of so many steps of actor 0, of actor 1, and so on."""
    if not any(counts):
        yield ()
    for actor, count in enumerate(counts):
        if count:
            for rest in orders(*counts[:actor], count - 1, *counts[actor + 1 :]):
                yield (actor, *rest)


class Stage:
    """Actors on one database, and a connection that watches them."""

    def __init__(self, dsn: str, number: int = 3) -> None:
        self.actors = [Actor(name, Link(dsn, name)) for name in ("ann", "bob", "cid")[:number]]
        self.sql = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self.sql):
            for actor in self.actors:
                self.sql.execute(b"SELECT pg_terminate_backend(%s)", [actor.pid])
                actor.thread.shutdown()
                actor.link.close()

    def play(self, parts: Sequence[Sequence[Callable[[Actor], Any]]], order: Sequence[int]) -> list[Actor]:
        """Run each part's steps, one transaction, in this order; returns the actors with what they were answered.

        Raises AssertionError when all that is left waits for one another, and whatever a statement raises; but a statement
        that gives up waiting for a lock is rolled back and played again at the end, as the completer does.
        """
        cast = self.actors[: len(parts)]
        for actor, steps in zip(cast, parts, strict=True):
            actor.answer, actor.waited, actor.beside, actor.under_way, actor.steps = (
                None,
                False,
                False,
                None,
                deque(steps),
            )
        try:
            self._play(cast, parts, deque(order))
        except BaseException:
            for actor in cast:
                self.sql.execute(b"SELECT pg_cancel_backend(%s)", [actor.pid])
                wait([actor.under_way] if actor.under_way else [])
                rollback(actor)
            raise
        return cast

    def _play(
        self, cast: Sequence[Actor], parts: Sequence[Sequence[Callable[[Actor], Any]]], turns: deque[int]
    ) -> None:
        while True:
            self._settle(cast)
            for number, actor in enumerate(cast):
                if actor.under_way and actor.under_way.done() and self._took(actor, parts[number]):
                    turns = deque([*(turn for turn in turns if turn != number), *[number] * len(actor.steps)])
            ready = next((turn for turn in turns if not cast[turn].under_way), None)
            if ready is None:
                assert not turns, "each waits for another"
                assert not any(actor.under_way for actor in cast), "somebody waits forever"
                return
            turns.remove(ready)
            actor = cast[ready]
            under_way = [other for number, other in enumerate(cast) if 0 < len(other.steps) < len(parts[number])]
            actor.beside |= any(other is not actor for other in under_way)
            actor.under_way = actor.thread.submit(actor.steps.popleft(), actor)

    def _took(self, actor: Actor, steps: Sequence[Callable[[Actor], Any]]) -> bool:
        """Take in the end of a step; returns whether the part is to be played again."""
        assert actor.under_way is not None
        step, actor.under_way = actor.under_way, None
        try:
            answer = step.result()
        except errors.LockNotAvailable:
            actor.steps = deque([rollback, *steps])
            return True
        actor.answer = actor.answer if answer is None else answer
        return False

    def _settle(self, cast: Sequence[Actor]) -> None:
        """Return when each step under way has ended or waits for a lock."""
        deadline = time.monotonic() + _STUCK
        while running := [actor for actor in cast if actor.under_way and not actor.under_way.done()]:
            wait([actor.under_way for actor in running if actor.under_way], timeout=0.003)
            left = [actor for actor in running if actor.under_way and not actor.under_way.done()]
            if left:
                query = b"SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
                waiting = {pid for (pid,) in self.sql.execute(query, [[actor.pid for actor in left]]).fetchall()}
                for actor in left:
                    actor.waited |= actor.pid in waiting
                if waiting == {actor.pid for actor in left}:
                    return
            assert time.monotonic() < deadline, "a statement neither ends nor waits for a lock"
