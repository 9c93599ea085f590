"""A database in which everything that happens to jobs leaves a row: what the tests of faults count afterwards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Self

from tests.support.host import Host
from tests.support.roles import as_role, let_in
from tests.support.waiting import eventually

from jobqueue.settings.database_url import DatabaseUrl

if TYPE_CHECKING:
    from tests.support.daemon import DaemonProcess, Launch

    from jobqueue.kernel.database.rows import KeepAttempts

WORKER: Final = ("-m", "tests.faults.ledger_worker")

_TABLES: Final = """
CREATE TABLE effects (job_id bigint NOT NULL, token uuid NOT NULL);
CREATE TABLE outcomes (job_id bigint NOT NULL, status text NOT NULL, token uuid);
GRANT INSERT ON effects, outcomes TO jobqueue_worker;
CREATE FUNCTION note_outcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outcomes VALUES (NEW.id, NEW.status, NEW.lease_token);
    RETURN NULL;
END $$;
CREATE TRIGGER note_outcome AFTER UPDATE OF status ON jobs FOR EACH ROW
    WHEN (NEW.status IN ('completed', 'failed', 'cancelled') AND OLD.status <> NEW.status)
    EXECUTE FUNCTION note_outcome();
"""


class Ledger(Host):
    """A host whose jobs are worked on by `tests.faults.ledger_worker`, which comes as jobqueue_worker."""

    def __init__(self, dsn: str, *, tables: str = _TABLES) -> None:
        super().__init__(dsn)
        if tables:
            let_in(dsn)
            self.execute(tables)

    @classmethod
    def again(cls, dsn: str) -> Self:
        """The same one by another connection, for when the first was lost."""
        return cls(dsn, tables="")

    def insert(self, how: str, number: int = 1, *, seconds: float = 0.0, held: float = 0.0) -> list[int]:
        """Insert jobs in one transaction; returns their ids. See the worker for `how`, `seconds` and `held`."""
        found = self.rows(
            """
            INSERT INTO jobs (kind, payload)
            SELECT 'ledger', jsonb_build_object('how', %(how)s::text, 'seconds', %(seconds)s::float8, 'held', %(held)s::float8)
            FROM generate_series(1, %(number)s) RETURNING id
            """,
            how=how, seconds=seconds, held=held, number=number,
        )  # fmt: skip
        return [row["id"] for row in found]

    def start(
        self, launch: Launch, dsn: str, *, concurrency: int = 4, lease: float = 8, answer: float = 30
    ) -> DaemonProcess:
        """Start a worker that reaches the database by `dsn`; it gives up on a silent one after `answer` seconds."""
        worker = launch(
            {
                # As the daemon completes what an operator wrote; a connection that is not answered is given up sooner.
                "DATABASE_URL": DatabaseUrl(f"{as_role(dsn, 'worker')}?connect_timeout=2").conninfo({}),
                "CONCURRENCY": str(concurrency),
                "LEASE_SECONDS": str(lease),
                "ANSWER_SECONDS": str(answer),
            },
            command=WORKER,
        )
        # So that it can be killed outright: `pid` waits for its start.
        assert worker.pid
        return worker

    def all_ended(self, jobs: list[int]) -> bool:
        query = "SELECT FROM jobs WHERE id = ANY (%(jobs)s) AND status IN ('pending', 'processing')"
        return not self.rows(query, jobs=jobs)

    def completed(self, jobs: list[int]) -> int:
        query = "SELECT count(*) AS n FROM jobs WHERE id = ANY (%(jobs)s) AND status = 'completed'"
        return int(self.rows(query, jobs=jobs)[0]["n"])

    def wait(self, jobs: list[int], timeout: float = 20.0) -> None:
        eventually(lambda: self.all_ended(jobs), timeout, interval=0.05)

    def check(self, jobs: list[int], *, retries: int | None = 0, attempts: KeepAttempts = "all") -> None:
        """Every one of `jobs` completed once, with the effects that it has to have, and was charged `retries` attempts; each
        attempt that was charged or completed is kept once, or only those that were charged.

        `retries` None: however many.
        """
        rows = self.rows("SELECT * FROM jobs WHERE id = ANY (%(jobs)s)", jobs=jobs)
        assert Counter(row["status"] for row in rows) == {"completed": len(jobs)}
        if retries is not None:
            assert Counter(row["retry_count"] for row in rows) == {retries: len(jobs)}
        tokens = {row["id"]: row["lease_token"] for row in rows}
        outcomes = self.rows("SELECT * FROM outcomes WHERE job_id = ANY (%(jobs)s)", jobs=jobs)
        assert Counter((row["job_id"], row["token"]) for row in outcomes) == dict.fromkeys(tokens.items(), 1)
        kept = self.rows(
            "SELECT job_id, outcome FROM jobqueue.attempts WHERE job_id = ANY (%(jobs)s::text[])", jobs=jobs
        )
        found = Counter((row["job_id"], row["outcome"] == "completed") for row in kept)
        completed = 1 if attempts == "all" else 0
        assert found == Counter(
            {
                (str(row["id"]), done): completed if done else row["retry_count"]
                for row in rows
                for done in (True, False)
            }
        )
        effects = self.rows("SELECT * FROM effects WHERE job_id = ANY (%(jobs)s)", jobs=jobs)
        traces = Counter((row["job_id"], row["token"]) for row in effects)
        how = {row["id"]: row["payload"]["how"] for row in rows}
        expected = {(id_, tokens[id_]): 1 for id_ in tokens if how[id_] != "return"}
        # What is written before the outcome may have been so under leases that were lost, but under none of them twice.
        lost = {trace: n for trace, n in traces.items() if trace not in expected}
        assert {trace: traces[trace] for trace in expected} == expected
        assert all(how[id_] == "write" and n == 1 for (id_, _), n in lost.items())


def runs(worker: DaemonProcess) -> Counter[int]:
    """How often each job ran to its end in this process."""
    return Counter(entry["job_id"] for entry in worker.log("run_ended"))
