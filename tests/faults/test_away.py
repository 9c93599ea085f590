"""The database is away in every way there is: gone, starting up, a standby, read-only, frozen. Nobody is charged for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import pytest
from tests.faults.ledger import Ledger
from tests.faults.ledger_service import reason, start, used
from tests.support.daemon import clean_environment
from tests.support.replication import Node, frozen
from tests.support.waiting import Stopwatch, eventually

from jobqueue.demo.launch import free_port
from jobqueue.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Launch

pytestmark = [pytest.mark.extended, pytest.mark.slow, pytest.mark.faults]

# Of a core: what asks again and again without a rest takes all of one.
SPINNING = 0.5


@contextmanager
def gone(node: Node) -> Iterator[None]:
    node.stop("immediate")
    try:
        yield
    finally:
        node.start()


@contextmanager
def starting(node: Node) -> Iterator[None]:
    node.demote(answers=False)
    try:
        yield
    finally:
        node.take_writes_again()


@contextmanager
def standby(node: Node) -> Iterator[None]:
    node.demote()
    try:
        yield
    finally:
        node.take_writes_again()


@contextmanager
def read_only(node: Node) -> Iterator[None]:
    """Demoted while the sessions stay."""
    node.set("default_transaction_read_only", "on")
    try:
        yield
    finally:
        node.set("default_transaction_read_only", "off")


Away = Callable[[Node], AbstractContextManager[None]]

WAYS: dict[str, tuple[Away, str]] = {
    "gone": (gone, "the database does not answer"),
    "starting up": (starting, "the database system is not accepting connections"),
    "a standby": (standby, "the database is read-only (a standby)"),
    "read-only": (read_only, "the database is read-only (default_transaction_read_only is on)"),
    "frozen": (frozen, "no answer within 2 s"),
}


@pytest.fixture(scope="module")
def node(server_folder: Path) -> Iterator[Node]:
    with Node(server_folder / "away") as node:
        migrate(node.dsn)
        with Ledger(node.dsn):
            pass
        yield node


@pytest.mark.parametrize("way", WAYS)
def test_nobody_is_charged_and_all_goes_on(node: Node, launch: Launch, way: str) -> None:
    away, said = WAYS[way]
    port = free_port()
    worker = start(launch, node.dsn, port=port)
    with Ledger.again(node.dsn) as ledger:
        jobs = [job for how in ("commit", "write", "return") for job in ledger.insert(how, 1, seconds=2.0)]
        waiting = [job for how in ("commit", "write", "return") for job in ledger.insert(how, 4)]
        eventually(lambda: len(worker.log("run_began")) >= len(jobs))
    assert reason(port) == "ok"
    with away(node):
        eventually(lambda: reason(port) == said, 15)
        began = used(worker)
        with Stopwatch() as watch:
            # How much it does in a time is what is looked at.
            eventually(lambda: watch.seconds > 4.0, 60, interval=0.1)
        assert (used(worker) - began) / watch.seconds < SPINNING
    with Ledger.again(node.dsn) as ledger:
        ledger.wait([*jobs, *waiting])
        more = ledger.insert("commit", 4)
        ledger.wait(more)
        ledger.check([*jobs, *waiting, *more], attempts="failed")
    eventually(lambda: reason(port) == "ok")
    assert worker.log(level="error") == []
    assert worker.running


COMMANDS = (
    ("migrate",),
    ("stats",),
    ("jobs", "list", "jobs"),
    ("jobs", "requeue", "jobs", "--status", "failed", "--yes"),
    ("schedules", "list"),
    ("webhooks", "list"),
)

ANSWERS = {
    # What only looks does so; what changes something is told that it cannot.
    "a standby": dict.fromkeys(COMMANDS, "") | {COMMANDS[3]: "the database takes no writes, and nothing was changed"},
    "starting up": dict.fromkeys(COMMANDS, "the database cannot be reached: "),
    "frozen": dict.fromkeys(COMMANDS, "the database cannot be reached: "),
}


@pytest.mark.parametrize("way", ANSWERS)
def test_commands_say_so_and_end(node: Node, way: str) -> None:
    environment = {**clean_environment(), "DATABASE_URL": f"{node.dsn}?connect_timeout=2"}
    with Ledger.again(node.dsn) as ledger:
        ledger.execute("UPDATE jobs SET status = 'failed' WHERE id = %(id)s", id=ledger.insert("return")[0])
    with WAYS[way][0](node):
        for command, said in ANSWERS[way].items():
            ran = subprocess.run(
                [sys.executable, "-m", "jobqueue", *command],
                env=environment, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert (ran.returncode, ran.stderr.startswith(said)) == (1 if said else 0, True), (command, ran)
            assert "Traceback" not in ran.stderr
