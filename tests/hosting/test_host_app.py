"""An app: what a host registers becomes queues and kinds, and what is wrong with it is told before any job suffers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field, SecretStr
from tests.hosting import billing
from tests.support.daemon import clean_environment

import jobqueue
from jobqueue import App, Context, Job
from jobqueue.errors import ConfigurationError, Snooze
from jobqueue.hosting.host_app import join
from jobqueue.kernel import Rate
from jobqueue.kinds import Kinds, heartbeat

if TYPE_CHECKING:
    from tests.kernel.helpers import Rig


@dataclass(frozen=True, slots=True)
class Invoice:
    """Columns of a row."""

    id: int
    customer: str
    due: date | None
    tags: list[str] = field(default_factory=list)
    seen: int = field(default=0, init=False)


class Bill(BaseModel):
    """Columns of a row, one of them under another name."""

    number: int = Field(alias="id")
    amount: Decimal = Field(lt=1000)


class Login(BaseModel):
    """A payload with what no log may hold."""

    user: str
    password: SecretStr = Field(min_length=12)
    tries: int


def run(rig: Rig, app: App) -> None:
    rig.unstarted(*app.queues()).run_once(20.0)


def problems_of(app: App) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        app.queues()
    return refused.value.problems


def test_the_package_offers_what_a_host_needs_and_imports_none_of_it_at_once() -> None:
    program = (
        "import sys, jobqueue; print(sorted(name for name in sys.modules if name.startswith('jobqueue.')),"
        " 'psycopg' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=clean_environment()
    )
    assert done.stdout == "['jobqueue.version'] False False\n"
    assert all(getattr(jobqueue, name) is not None for name in jobqueue.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Worker'"):
        jobqueue.Worker  # noqa: B018


def test_a_decorated_handler_is_the_function_itself() -> None:
    assert billing.send.__name__ == "send"
    assert [queue.name for queue in billing.app.queues()] == ["invoices", "jobs"]
    [invoices, _] = billing.app.queues()
    assert (invoices.columns, invoices.limit) == (("id", "customer", "amount"), 2)


def test_a_dataclass_says_which_columns_are_read(rig: Rig) -> None:
    seen: list[Invoice] = []
    app = App()

    @app.queue("invoices")
    def send(invoice: Invoice, context: Context) -> None:
        assert context.job.queue == "invoices"
        seen.append(invoice)

    rig.insert(1, "invoices", customer="Ada", tags="=ARRAY['new']")
    run(rig, app)
    assert seen == [Invoice(1, "Ada", None, ["new"])]
    assert rig.states("invoices") == {"completed": 1}


def test_a_model_says_which_columns_are_read_and_what_they_may_hold(rig: Rig) -> None:
    seen: list[Bill] = []
    app = App()

    @app.queue("invoices", columns=["customer"])
    def send(bill: Bill, context: Context) -> None:
        assert context.job.columns["customer"] == "Ada"
        seen.append(bill)

    rig.insert(1, "invoices", customer="Ada", amount=10)
    rig.insert(1, "invoices", customer="Ada", amount=123456)
    run(rig, app)
    assert seen == [Bill(id=1, amount=Decimal(10))]
    assert rig.rows("SELECT status, error_message FROM invoices ORDER BY id") == [
        ("completed", None),
        ("failed", "the row is no Bill: amount: Input should be less than 1000"),
    ]


def test_a_handler_that_takes_a_job_gets_the_job(rig: Rig) -> None:
    seen: list[Any] = []
    app = App()

    @app.queue("invoices", columns=["customer"])
    def send(job: Job, context: Context) -> None:
        seen.append((type(job).__mro__[1], job.columns))

    @app.kind("plain")
    def plain(job, context):  # type: ignore[no-untyped-def]
        seen.append(job.columns["payload"])

    rig.insert(1, "invoices", customer="Ada")
    rig.insert(kind="plain", payload='{"a": 1}')
    run(rig, app)
    assert sorted(seen, key=str) == [(Job, {"customer": "Ada"}), {"a": 1}]


def test_a_kinds_payload_is_checked_and_never_told(rig: Rig) -> None:
    seen: list[Any] = []
    app = App()

    @app.kind("login")
    def login(payload: Login, context: Context) -> None:
        seen.append(payload.user)

    @app.kind("count")
    def count(payload: dict[str, int], context: Context) -> None:
        seen.append(payload)

    for kind, payload in {
        "login": '{"user": "ada", "password": "correct horse battery", "tries": 1, "more": true}',
        "count": '{"a": 1}',
    }.items():
        rig.insert(kind=kind, payload=payload)
    rig.insert(kind="login", payload='{"user": "ada", "password": "hunter2", "tries": "hunter2"}')
    rig.insert(kind="login", payload="[]")
    run(rig, app)
    assert sorted(seen, key=str) == ["ada", {"a": 1}]
    [(first,), (second,)] = rig.rows("SELECT error_message FROM jobs WHERE status = 'failed' ORDER BY id")
    assert first.startswith("the payload is no Login: password: Value should have at least 12 items")
    assert "tries: Input should be a valid integer" in first
    assert "hunter2" not in first
    assert second.startswith("the payload is no Login: Input should be")


def test_a_process_takes_its_own_kinds_and_puts_off_the_others(rig: Rig) -> None:
    rig.insert(kind="data-archival")
    rig.insert(kind="report", payload='{"project": "Ada"}')
    run(rig, billing.app)
    assert rig.rows("SELECT kind, status, retry_count FROM jobs ORDER BY id") == [
        ("data-archival", "pending", 0),
        ("report", "completed", 0),
    ]
    assert rig.rows("SELECT customer, amount FROM invoices") == [("Ada", 2)]


def test_classes_that_are_permanent_end_the_job_of_a_kind(rig: Rig) -> None:
    app = App()

    @app.kind("lookup", permanent=(LookupError,))
    def lookup(payload: dict[str, Any], context: Context) -> None:
        if "later" in payload:
            raise Snooze("later", 60)
        raise KeyError("nobody")

    rig.insert(kind="lookup")
    rig.insert(kind="lookup", payload='{"later": 1}')
    run(rig, app)
    assert rig.rows("SELECT status, error_message FROM jobs ORDER BY id") == [
        ("failed", "KeyError: 'nobody'"),
        ("pending", "later"),
    ]


def nothing(job: Any, context: Any) -> None:
    """A handler."""


def unable() -> None:
    """It takes nothing."""


def test_every_problem_is_told_at_once() -> None:
    app = App()
    app.queue("invoices", concurrency=0)(nothing)
    app.queue("invoices")(nothing)
    app.queue("jobs")(nothing)
    app.queue("drafts", columns="customer")(nothing)
    app.kind("report")(nothing)
    app.kind("report")(nothing)
    app.kind("other")(unable)  # type: ignore[type-var]
    app.around(unable)  # type: ignore[type-var]
    assert problems_of(app) == [
        "the queue invoices is registered twice",
        "the middleware unable cannot be called with call_next, a job and a context",
        "the queue invoices has a limit of 0: at least 1 job must be able to run",
        "the queue jobs is shared with others: register a kind of yours, @app.kind('...')",
        "the queue drafts takes columns as a list of names: ['customer']",
        "the kind report is registered already",
        "the kind other cannot use its handler: unable cannot be called with a job and a context: too many positional arguments",
    ]


def test_limits_are_read_as_people_write_them() -> None:
    app = App()
    app.queue(
        "invoices",
        rate="600/m",
        timeout="2m",
        on_timeout="permanent",
        global_concurrency=3,
        retries=4,
        permanent=(KeyError,),
    )(nothing)
    app.queue("drafts", rate=Rate(1, 2.0), timeout=timedelta(seconds=90))(nothing)
    [invoices, drafts] = app.queues()
    assert (invoices.rate, invoices.timeout, invoices.on_timeout) == (Rate(600, 60.0), 120.0, "permanent")
    assert (invoices.global_concurrency, invoices.retries, invoices.permanent) == (3, 4, (KeyError,))
    assert (drafts.rate, drafts.timeout) == (Rate(1, 2.0), 90.0)
    app.queue("wrong", rate="fast", timeout="a while")(nothing)
    app.queue("worse", timeout=-1)(nothing)
    assert problems_of(app) == [
        'the queue wrong has a rate that cannot be read: the rate \'fast\' is none: write it as "10/s", "600/m", "5/h" or "100/d"',
        'the queue wrong has a timeout that cannot be read: \'a while\' is no length of time: write it as "30s", "2m" or "1h"',
        "the queue worse has a timeout of -1.0 s: it must be above 0, or None",
    ]


def test_two_apps_in_one_process_share_no_queue_and_no_kind() -> None:
    other = App()
    other.queue("invoices")(nothing)
    other.kind("heartbeat")(nothing)
    kinds = Kinds()
    kinds.register("heartbeat", heartbeat)
    with pytest.raises(ConfigurationError) as refused:
        join([billing.app, other], kinds)
    assert refused.value.problems == [
        "the kind heartbeat is registered already",
        "the queue invoices is registered twice",
    ]


@dataclass
class Wrong:
    """Columns of types that no value of theirs becomes."""

    customer: list[str]
    due: date
    amount: bool
    tags: str


def test_a_table_that_does_not_fit_is_told_at_the_start(rig: Rig) -> None:
    app = App()

    @app.queue("invoices")
    def send(wrong: Wrong, context: Context) -> None: ...

    app.queue("drafts")(nothing)
    app.queue("nowhere")(nothing)
    with pytest.raises(ConfigurationError) as refused:
        rig.unstarted(*app.queues()).start()
    assert refused.value.problems == [
        "the queue invoices cannot use its handler: Wrong.customer is list[str], and the column is text",
        "the queue invoices cannot use its handler: Wrong.amount is bool, and the column is numeric",
        "the queue invoices cannot use its handler: Wrong.tags is str, and the column is _text",
        "there is no queue 'drafts': the table public.drafts was not adopted; SELECT jobqueue.adopt('public.drafts')",
        "there is no queue 'nowhere': run `jobqueue migrate`, or SELECT jobqueue.adopt('schema.table')",
    ]
