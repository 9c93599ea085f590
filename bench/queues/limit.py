"""Raw pgbench as the limit: the same claims and completions in batches, with nobody in between.

Two clients, as the worker has a connection that claims and one that completes; each claims a batch and completes it.
On a bare table with one partial index, and with the kernel's own statements on the `jobs` table.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import psycopg

from bench.queues.installed import MissingError
from bench.queues.processes import DriverError
from jobqueue import migrations
from jobqueue.demo.embedded_postgres import install_prefix
from jobqueue.kernel.database.statements import Description, Statements

if TYPE_CHECKING:
    from pathlib import Path

    from bench.queues.server import Server

CLIENTS: Final = 2

BARE: Final = "pgbench, bare table"
JOBS: Final = "pgbench, jobs table"

_BARE_TABLE = """
CREATE TABLE bare (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL, payload jsonb NOT NULL);
CREATE INDEX ON bare (id) WHERE status = 'pending';
"""
_BARE_FILL = (
    "INSERT INTO bare (status, payload)"
    " SELECT 'pending', jsonb_build_object('n', n) FROM generate_series(1, {count}) AS n"
)
_BARE_SCRIPT = """
WITH claimed AS (
    UPDATE bare AS t SET status = 'processing' WHERE t.id = ANY (ARRAY(
        SELECT c.id FROM bare AS c WHERE c.status = 'pending' ORDER BY c.id LIMIT {batch} FOR NO KEY UPDATE SKIP LOCKED))
    RETURNING t.id, t.payload)
SELECT coalesce(array_agg(id), '{{}}') AS ids FROM claimed \\gset
UPDATE bare SET status = 'completed' WHERE id = ANY (:ids::bigint[]);
"""

_JOBS_FILL = "INSERT INTO jobs (kind, payload) SELECT 'nothing', jsonb_build_object('n', n) FROM generate_series(1, {count}) AS n"
_JOBS_SCRIPT = """
\\set n random(1, 1000000000000)
WITH claimed AS ({claim})
SELECT coalesce(array_agg(id ORDER BY id), '{{}}') AS ids, coalesce(min(position), :floor::bigint) AS floor
FROM claimed \\gset
{complete};
"""

# What pgbench has in place of the kernel's parameters.
_TOKEN = "md5(:n::text)"
_PARAMETERS: Final = {
    "priorities": "ARRAY[5::bigint]",
    "floors": "ARRAY[:floor::bigint]",
    "token": _TOKEN,
    "worker": "'pgbench'",
    "lease": "60",
    "ids": ":ids",
    "tokens": f"array_fill({_TOKEN}::uuid, ARRAY[cardinality(:ids::bigint[])])",
}


def find_pgbench() -> Path:
    """The pgbench of the server that is measured. Raises MissingError when its package brings none."""
    program = install_prefix() / "bin" / "pgbench"
    if not program.exists():
        raise MissingError("the PostgreSQL package has no pgbench")
    return program


def for_pgbench(statement: bytes) -> str:
    """One of the kernel's statements with pgbench's variables for its parameters. Raises KeyError for an unknown one."""
    text = re.sub(r"(?m)^--.*\n", "", statement.decode())
    return re.sub(r"%\((\w+)\)s", lambda found: _PARAMETERS[found[1]], text).replace("%%", "%").strip()


def jobs_script(batch: int) -> str:
    """A pgbench script of the kernel's claim and completion of `batch` jobs."""
    words = ("pending", "processing", "completed", "failed", "cancelled")
    statements = Statements(Description("jobs", "public.jobs", "bigint", *words), ("payload",))
    return _JOBS_SCRIPT.format(
        claim=for_pgbench(statements("claim_jobs", batch)), complete=for_pgbench(statements("complete_jobs"))
    )


def measure(server: Server, name: str, batch: int, jobs: int, folder: Path) -> float:
    """Jobs per second of pgbench on the table `name`. Raises DriverError when jobs are left that should not be."""
    rounds = max(1, jobs // (batch * CLIENTS))
    count = rounds * batch * CLIENTS
    script = folder / "limit.sql"
    if name == BARE:
        template = server.template("pgbench_bare", lambda dsn: _execute(dsn, _BARE_TABLE))
        script.write_text(_BARE_SCRIPT.format(batch=batch))
        fill, table = _BARE_FILL, "bare"
    else:
        template = server.template("pgbench_jobs", migrate)
        script.write_text(jobs_script(batch))
        fill, table = _JOBS_FILL, "jobs"
    with server.database(template) as dsn:
        _execute(dsn, fill.format(count=count))
        server.settle(dsn)
        rate = _run(dsn, script, rounds) * batch
        left = server.fetch(dsn, f"SELECT count(*) FROM {table} WHERE status <> 'completed'")
    if left:
        raise DriverError(f"{name}: {left} of {count} jobs were not completed")
    return rate


def migrate(dsn: str) -> None:
    migrations.migrate(dsn)


def _run(dsn: str, script: Path, rounds: int) -> float:
    """Batches per second of all clients together."""
    done = subprocess.run(
        [find_pgbench(), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", f"--jobs={CLIENTS}",
         f"--transactions={rounds}", "--define=floor=0", f"--file={script}", dsn],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise DriverError(f"pgbench ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    return float(found[1])


def _execute(dsn: str, statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statements.encode())
