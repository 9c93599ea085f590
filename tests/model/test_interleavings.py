"""Two and three connections, stepped through every order of their statements: the end is always that of some serial order.

What the serial orders come to is worked out by the model. A statement that passes over locked rows may come away with nothing
while another transaction is open: then it is as if it had not been. And a look for a twin may find none then: there are two, until
one of them is claimed. Besides: no order ends in a deadlock or in waiting forever, at most
one outcome of a lease is recorded, and what must not wait for anybody's open transaction does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations, combinations_with_replacement, permutations
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from psycopg.rows import dict_row
from tests.model.model import NOW, Job, Model
from tests.model.stepping import Actor, Stage, begin, commit, orders

from jobqueue.kernel.database.rows import LaneFloors
from jobqueue.kernel.database.store import Store, describe
from jobqueue.kernel.job import LeasedJob as Leased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jobqueue.demo.embedded_postgres import Postgres

pytestmark = pytest.mark.slow

LEASE = 86_400.0
HORIZON = datetime.now(UTC) + timedelta(hours=12)

# The lease under which the job is held when a play begins.
HELD = UUID(int=1)
HOLDER = Leased("jobs", 0, 5, 0, 5, 0.0, {}, HELD, 1, 0, 0.0)

# What a play begins with: the job as it was inserted, and whether it was claimed since. The lease has run out.
SITUATIONS: dict[str, dict[str, Any]] = {
    "held": {"held": True},
    "held for the last time": {"held": True, "max_retries": 1},
    "pending": {},
    "suspect": {"crash_count": 2, "retry_count": 2},
    "keyed and held": {"held": True, "key": "k"},
    "keyed and pending": {"key": "k"},
    "keyed and due without a position": {"key": "k", "ripe": True},
}


@dataclass(frozen=True)
class Verb:
    """A transaction: its statements, and what the model says of them. The last statement's answer counts."""

    statements: tuple[Callable[[Store, Actor], Any], ...]
    promised: Callable[[Model, Actor], Any]
    waits: bool = True
    is_outcome: bool = False


def _held(model: Model) -> Job | None:
    return next((job for job in model.jobs if job.held_by(HELD)), None)


def _outcome(record: Callable[[Store, Actor], Any], apply: Callable[[Model, Job], None]) -> Verb:
    def promised(model: Model, _: Actor) -> bool:
        job = _held(model)
        if job:
            apply(model, job)
        return job is not None

    return Verb((lambda store, actor: bool(record(store, actor)),), promised, is_outcome=True)


def _handler() -> Verb:
    def fence(step: Callable[..., bool]) -> Callable[[Store, Actor], bool]:
        def run(_: Store, actor: Actor) -> bool:
            with actor.link.connection().cursor() as cursor:
                return step(cursor, HOLDER)

        return run

    recorded = _outcome(lambda *_: None, Model.complete).promised
    return Verb(
        (
            lambda store, actor: fence(store.holds)(store, actor),
            lambda store, actor: fence(store.complete_within)(store, actor),
        ),
        recorded,
        is_outcome=True,
    )


def _host(statement: str, apply: Callable[[Model, Job], None]) -> Verb:
    def run(_: Store, actor: Actor) -> bool:
        return actor.link.connection().execute(statement.encode()).rowcount > 0

    def promised(model: Model, _: Actor) -> bool:
        job = model.get(0)
        if job:
            apply(model, job)
        return job is not None

    return Verb((run,), promised)


def _claim(model: Model, actor: Actor, jobs: Sequence[Job]) -> bool:
    for job in jobs[:1]:
        model.lease(job, actor.token, actor.name)
    return bool(jobs)


def _rescue(model: Model, _: Actor) -> bool:
    lost = model.lost()
    for job in lost:
        model.rescue(job)
    return bool(lost)


def _renew(model: Model, _: Actor) -> dict[int, bool]:
    job = _held(model)
    if job:
        model.renew(job)
    return {0: True} if job else {}


def _enqueue(store: Store, actor: Actor) -> bool:
    statement = b"INSERT INTO jobs (kind, unique_key, priority) VALUES ('twin', 'k', 9)"
    return actor.link.connection().execute(statement).rowcount > 0


VERBS = {
    "claim": Verb(
        (lambda store, actor: bool(store.claim(actor.link, LaneFloors([9, 5], [0, 0]), 1, actor.token, actor.name, LEASE)),),
        lambda model, actor: _claim(model, actor, model.claimable([9, 5], [0, 0], 1)),
        waits=False,
    ),
    "claim a suspect": Verb(
        (lambda store, actor: bool(store.claim_suspect(actor.link, actor.token, actor.name, LEASE)),),
        lambda model, actor: _claim(model, actor, model.suspects()),
        waits=False,
    ),
    "complete": _outcome(lambda store, actor: store.complete(actor.link, [HOLDER]), Model.complete),
    "retry": _outcome(
        lambda store, actor: store.retry(actor.link, [HOLDER], [0.0], ["no luck"]),
        lambda model, job: model.retry(job, NOW, "no luck"),
    ),
    "release": _outcome(lambda store, actor: store.release(actor.link, [HOLDER]), Model.release),
    "give back": _outcome(lambda store, actor: store.release_claim(actor.link, HELD), Model.release),
    "handler": _handler(),
    "promote": Verb(
        (lambda store, actor: store.promote(actor.link) > 0,),
        lambda model, _: bool(model.promote()),
        waits=False,
    ),
    "renew": Verb((lambda store, actor: store.renew(actor.link, [HOLDER], LEASE),), _renew, waits=False),
    "rescue": Verb((lambda store, actor: bool(store.rescue(actor.link, 0.0)),), _rescue, waits=False),
    "cancel": _host("UPDATE jobs SET status = 'cancelled' WHERE id = 0", lambda model, job: model.set_state(job, "cancelled")),
    "requeue": _host("UPDATE jobs SET status = 'pending' WHERE id = 0", lambda model, job: model.set_state(job, "pending")),
    "delete": _host("DELETE FROM jobs WHERE id = 0", Model.delete),
    "enqueue": Verb((_enqueue,), lambda model, _: model.enqueue(Job(1, "k", 9, 5, NOW))),
}  # fmt: skip


class Theatre(Stage):
    """A stage with one job, and what the model says of it."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.store = Store(describe(self.actors[0].link, "jobs"))

    def prepare(self, situation: str) -> None:
        job = _job(situation)
        lease = f"UPDATE jobs SET status = 'processing', lease_token = '{HELD}', lease_expires_at = now() - interval '1 s', locked_by = 'holder';"
        self.sql.execute(
            f"""DELETE FROM jobs;
            INSERT INTO jobs (id, kind, unique_key, max_retries, retry_count, crash_count)
            VALUES (0, 'test', {f"'{job.key}'" if job.key else "NULL"}, {job.max_retries}, {job.retry_count}, {job.crash_count});
            {lease if job.state == "processing" else ""}
            {"UPDATE jobs SET position = NULL" if job.position is None else ""}""".encode()
        )

    def ends(self, cast: Sequence[Actor]) -> list[tuple[Any, ...]]:
        """What every row has become."""
        names = {HELD: "holder", None: None} | {actor.token: actor.name for actor in cast}
        with self.sql.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute("SELECT *, lease_expires_at < now() AS out FROM jobs ORDER BY id").fetchall()
        for row in rows:
            held, finished = row["status"] == "processing", row["status"] in ("completed", "failed", "cancelled")
            assert (row["locked_by"] is not None, row["lease_expires_at"] is not None) == (held, held)
            assert (row["completed_at"] is not None) == finished
        return [
            (
                row["status"], row["priority"], row["retry_count"], row["crash_count"], names[row["lease_token"]],
                row["locked_by"], row["out"], row["status"] == "pending" and row["position"] is not None,
            )
            for row in rows
        ]  # fmt: skip


def _job(situation: str) -> Job:
    given = {"max_retries": 5, "key": None, **SITUATIONS[situation]}
    job = Job(0, given["key"], 5, given["max_retries"], NOW, id=0)
    job.retry_count, job.crash_count = given.get("retry_count", 0), given.get("crash_count", 0)
    job.most = job.retry_count + 5
    model = Model(HORIZON)
    model.enqueue(job)
    if given.get("ripe"):
        job.position = None
    if given.get("held"):
        model.lease(job, HELD, "holder")
        model.expire(job)
    return job


def _serially(
    verbs: Sequence[Verb], situation: str, cast: Sequence[Actor], order: Sequence[int], blind: Sequence[int] = ()
) -> tuple[Any, Any]:
    """What the actors are answered when they act in this order, and what becomes of the rows."""
    names = {HELD: "holder", None: None} | {actor.token: actor.name for actor in cast}
    model = Model(HORIZON)
    model.jobs.append(_job(situation))
    answers = {}
    for n in order:
        model.blind = n in blind
        answers[n] = verbs[n].promised(model, cast[n])
    ends = [
        (
            job.state, job.priority, job.retry_count, job.crash_count, names[job.token], job.worker,
            None if job.lease is None else job.lease == "ran out", job.state == "pending" and job.position is not None,
        )
        for job in sorted(model.jobs, key=lambda job: job.label)
    ]  # fmt: skip
    return answers, ends


def _is_serial(verbs: Sequence[Verb], situation: str, cast: Sequence[Actor], ends: list[tuple[Any, ...]]) -> bool:
    """Whether some serial order of those that came to something has the same end and the same answers."""
    came_to = [n for n, actor in enumerate(cast) if not _passed_over(verbs[n], actor)]
    answers = {n: cast[n].answer for n in came_to}
    if any(_serially(verbs, situation, cast, order) == (answers, ends) for order in permutations(came_to)):
        return True
    # Nothing passed over: it found nothing.
    answers = {n: actor.answer for n, actor in enumerate(cast)}
    if any(_serially(verbs, situation, cast, order) == (answers, ends) for order in permutations(answers)):
        return True
    # Some of those that looked for a twin while others were at work found none.
    beside = [n for n, actor in enumerate(cast) if actor.beside]
    return any(
        _serially(verbs, situation, cast, order, blind) == ({n: cast[n].answer for n in some}, ends)
        for some in (came_to, list(answers))
        for order in permutations(some)
        for number in range(1, len(beside) + 1)
        for blind in combinations(beside, number)
    )


def _passed_over(verb: Verb, actor: Actor) -> bool:
    return actor.beside and not verb.waits and actor.answer in (False, {0: False})


def perform(theatre: Theatre, names: Sequence[str], situation: str, *, stepped_begin: bool) -> None:
    """Play one scene in every order."""
    verbs = [VERBS[name] for name in names]

    def bind(statement: Callable[[Store, Actor], Any]) -> Callable[[Actor], Any]:
        return lambda actor: statement(theatre.store, actor)

    def begin_with(step: Callable[[Actor], Any]) -> Callable[[Actor], Any]:
        def run(actor: Actor) -> Any:
            begin(actor)
            return step(actor)

        return run

    parts: list[list[Callable[[Actor], Any]]] = []
    for verb in verbs:
        first, *rest = (bind(statement) for statement in verb.statements)
        parts.append([*([begin, first] if stepped_begin else [begin_with(first)]), *rest, commit])
    for order in orders(*map(len, parts)):
        theatre.prepare(situation)
        cast = theatre.play(parts, order)
        ends = theatre.ends(cast)
        assert _is_serial(verbs, situation, cast, ends), f"{order}: {[actor.answer for actor in cast]} {ends}"
        recorded = [actor for actor, verb in zip(cast, verbs, strict=True) if verb.is_outcome and actor.answer]
        assert len(recorded) <= 1, f"{order}: two outcomes of one lease"
        patient = {
            name for name, actor in zip(names, cast, strict=True)
            if actor.waited and (name == "enqueue" or not VERBS[name].waits)
        }  # fmt: skip
        assert not patient, f"{order}: {patient} waited"


@pytest.fixture(scope="module")
def theatre(postgres: Postgres, template: str) -> Iterator[Theatre]:
    """One database for all scenes: each begins by emptying the table."""
    with Theatre(postgres.create_database("interleavings", template=template)) as theatre:
        yield theatre
    postgres.drop_database("interleavings")


PAIRS = list(combinations_with_replacement(VERBS, 2))

TRIPLES = [
    ("claim", "rescue", "complete"),
    ("claim", "cancel", "complete"),
    ("rescue", "rescue", "complete"),
    ("renew", "rescue", "claim"),
    ("claim", "requeue", "complete"),
    ("claim", "rescue", "handler"),
    ("claim", "release", "rescue"),
    ("claim", "claim", "requeue"),
    ("retry", "rescue", "cancel"),
]


def _situations(pair: tuple[str, str]) -> list[str]:
    """Those in which the pair has something to do, and in which it does something that it does not in another."""
    if "promote" in pair:
        return ["keyed and due without a position"]
    if "enqueue" in pair:
        return ["keyed and held", "keyed and pending"]
    situations = ["held"]
    if {"rescue", "retry"} & set(pair):
        situations.append("held for the last time")
    if not {"retry", "release", "give back", "handler", "renew"} & set(pair):
        situations += ["pending", "suspect"]
    return situations


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two(theatre: Theatre, pair: tuple[str, str]) -> None:
    for situation in _situations(pair):
        perform(theatre, pair, situation, stepped_begin="held" in situation)


@pytest.mark.extended
@pytest.mark.parametrize("triple", TRIPLES, ids="-".join)
def test_three(theatre: Theatre, triple: tuple[str, str, str]) -> None:
    perform(theatre, triple, "held", stepped_begin=False)
